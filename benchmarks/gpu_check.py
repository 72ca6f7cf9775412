"""Whether everything that benchmarks/gpu.sh runs can be imported, said in seconds; which card.

    python benchmarks/gpu_check.py --device cuda

Ends with status 1 and one line where a package or the card is missing. Ray, Optuna and decord are
not needed.
"""

from __future__ import annotations

import argparse
import importlib
import sys

PACKAGES = (
    *("torch", "torchvision", "numpy", "pyarrow", "safetensors", "yaml", "pydantic"),
    *("simplejpeg", "PIL", "rich", "tensorboard", "tabulate"),
)
ROOMS = (
    "vididi.training.loop",
    "vididi.objectives",
    "vididi.commands.pretrain",
    "vididi.experiment",
)


def missing(names: tuple[str, ...]) -> list[str]:
    """Those that cannot be imported; with why, where something is there."""
    faults = []
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            faults.append(error.name or name)
        except Exception as error:  # a library that does not fit says so in many ways
            faults.append(f"{name} ({type(error).__name__}: {str(error).partition('.')[0]})")
    return faults


def main() -> int:
    """Check, print a line; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument(
        "--motion", action="store_true", help="videos are prepared already, so PyAV is not needed"
    )
    arguments = parser.parse_args()
    packages = PACKAGES if arguments.motion else (*PACKAGES, "av")
    if faults := missing(packages) or missing(ROOMS):
        print(f"gpu.sh: missing: {', '.join(faults)}", file=sys.stderr)
        return 1
    import torch
    from gpu_report import card

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("gpu.sh: torch can use no GPU here", file=sys.stderr)
        return 1
    about = card(torch.device(arguments.device)) or {"name": "CPU"}
    print(
        ", ".join(
            f"{name} {value}" for name, value in {**about, "torch": torch.__version__}.items()
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
