"""An encoder in the forms that other programs read, each compared with the encoder itself, and its
card.

Forms: safetensors (weights that describe themselves), torch_export (a graph that torch runs without
this program), onnx (the extra ``export``), and standalone (the weights and one Python file).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vididi import checksums
from vididi.backbones.cpu_kernels import ask_for_onednn
from vididi.backbones.norm_by_order import keep_frames_statistics
from vididi.description import KEY
from vididi.encoders import Encoder
from vididi.errors import ConfigError, TrainingError
from vididi.model_card import MARK, card_text
from vididi.runs.run_folder import replacing, write_atomically
from vididi.standalone import NETWORK_FILE, STATE_FILE, network_source

TOLERANCE = 1e-5  # of features, as a share of the largest
CARD = "README.md"
OPSET = 18
EXPORTS = {
    "safetensors": ".safetensors",
    "torch_export": ".pt2",
    "onnx": ".onnx",
    "standalone": "",  # a folder
}
Run = Callable[[Tensor], Tensor]  # [B, 3, T, H, W] -> [B, D], by what was written


def export_encoder(
    encoder: Encoder, form: str, out: Path, licence: str | None = None
) -> list[Path]:
    """Write an encoder, and its card beside it.

    Args:
        form: a key of EXPORTS. out: a file with the form's suffix, whose card is OUT.md; or a
            folder, whose card is README.md.
        licence: of the weights, as the Hub writes it, such as ``cc-by-4.0``.

    Returns:
        what was written.

    Raises:
        ConfigError: the form is unknown or needs a package that is not there, the encoder has no
            such form, or a card of somebody else lies there.
        TrainingError: what was written gives other features.
    """
    if form not in EXPORTS:
        raise ConfigError(f"--format: {form!r} is not valid; it is one of {', '.join(EXPORTS)}")
    is_file = EXPORTS[form] and out.suffix == EXPORTS[form]
    if not is_file and out.suffix in EXPORTS.values() and out.suffix:
        raise ConfigError(
            f"--out: {out} is not valid; for {form} it is a folder"
            + (f", or a file that ends in {EXPORTS[form]}" if EXPORTS[form] else "")
        )
    place = out if is_file or form == "standalone" else out / f"encoder{EXPORTS[form]}"
    card = out.with_name(f"{out.name}.md") if is_file else out / CARD
    if card.exists() and MARK not in card.read_text(errors="replace"):
        raise ConfigError(f"--out: {card} is there and no card of an export; give another place")
    place.parent.mkdir(parents=True, exist_ok=True)
    files, run = _WRITERS[form](encoder, place)
    _check_same(encoder, form, place, run)
    write_atomically(card, card_text(encoder, form, files[0].name, licence))
    return [*files, card]


def example_clips(encoder: Encoder) -> Tensor:
    """Two clips of noise, the same every time, as the encoder is fed."""
    s = encoder.spec
    noise = np.random.default_rng(0).standard_normal((2, 3, s.frames, s.size, s.size))
    return torch.from_numpy(noise.astype(np.float32)).clamp_(-1.8, 2.2)


def _check_same(encoder: Encoder, form: str, place: Path, run: Run | None) -> None:
    if run is None:
        return
    clips = example_clips(encoder)
    with torch.inference_mode():
        ours, theirs = encoder.network(clips), run(clips)
    off = ((ours - theirs).abs().max() / ours.abs().max().clamp_min(1e-12)).item()
    if not off <= TOLERANCE:
        raise TrainingError(
            f"{place}: the {form} gives features that differ by {off:.2g} of the largest; at most"
            f" {TOLERANCE:g} is allowed"
        )


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }


def _of_frames(encoder: Encoder) -> nn.Module:
    """The network for frames alone, without statistics of other orders, which a graph cannot choose
    among, and without what asks for kernels of torch on CPUs.
    """
    network = deepcopy(encoder.network)
    keep_frames_statistics(network)
    ask_for_onednn(network, wanted=False)
    return network


def _write_safetensors(encoder: Encoder, place: Path) -> tuple[list[Path], Run | None]:
    said = {"format": "pt", KEY: json.dumps(encoder.description, sort_keys=True)}
    with replacing(place) as temporary:
        save_file(_state(encoder.network), temporary, {**said, checksums.KEY: checksums.EMPTY})
        checksums.seal(temporary, ".safetensors")
    return [place], Encoder.load(place).network


def _write_torch_export(encoder: Encoder, place: Path) -> tuple[list[Path], Run | None]:
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    program = torch.export.export(
        _of_frames(encoder), (example_clips(encoder),), dynamic_shapes=({0: batch},), strict=False
    )
    with replacing(place) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file)
    return [place], torch.export.load(place).module()


def _write_onnx(encoder: Encoder, place: Path) -> tuple[list[Path], Run | None]:
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"--format: onnx needs {package}, which is not installed; it is of the extra"
                " export: pip install 'vididi[export]'"
            )
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    with replacing(place) as temporary:
        torch.onnx.export(
            _of_frames(encoder),
            (example_clips(encoder),),
            str(temporary),
            input_names=["clips"],
            output_names=["features"],
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
        )
    if importlib.util.find_spec("onnxruntime") is None:
        return [place], None  # nothing here can run it
    import onnxruntime

    session = onnxruntime.InferenceSession(str(place), providers=["CPUExecutionProvider"])
    return [place], lambda clips: torch.from_numpy(session.run(None, {"clips": clips.numpy()})[0])


def _write_standalone(encoder: Encoder, place: Path) -> tuple[list[Path], Run | None]:
    source = network_source(encoder)
    place.mkdir(parents=True, exist_ok=True)
    with replacing(place / STATE_FILE) as temporary:
        torch.save(_state(_of_frames(encoder)), temporary)
    write_atomically(place / NETWORK_FILE, source)
    return [place / NETWORK_FILE, place / STATE_FILE], _loaded(place / NETWORK_FILE)


def _loaded(path: Path) -> nn.Module:
    """The network of a standalone file, as its user gets it."""
    spec = importlib.util.spec_from_file_location("vididi_standalone", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


_WRITERS: dict[str, Callable[[Encoder, Path], tuple[list[Path], Run | None]]] = {
    "safetensors": _write_safetensors,
    "torch_export": _write_torch_export,
    "onnx": _write_onnx,
    "standalone": _write_standalone,
}
