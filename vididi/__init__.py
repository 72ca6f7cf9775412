"""vididi: self-supervised video pretraining with temporal derivatives, as distributed sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vididi.encoders import Encoder as Encoder
    from vididi.encoders import load_encoder as load_encoder

__version__ = "0.1.0"
RESULT_VERSION = 1  # of result.json, which vididi writes and analysis reads
# Of what a result.json holds: since 2 scores that are NaN have no accuracy, and a class that the
# gallery lacks is never found. A result that does not say it followed 1.
RULES = 2
__all__ = ["Encoder", "__version__", "load_encoder"]


def __getattr__(name: str) -> Any:
    # Lazy, so that reading a configuration or a table never imports torch.
    if name == "load_encoder":
        from vididi.encoders import load_encoder

        return load_encoder
    if name == "Encoder":
        from vididi.encoders import Encoder

        return Encoder
    raise AttributeError(f"module 'vididi' has no attribute {name!r}")
