"""Encoders in other programs' forms, each loaded again as its reader would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from vididi.backbones import BACKBONES, MINIMUM
from vididi.cli import main
from vididi.components import make_encoder
from vididi.config import Component, Config
from vididi.data.single import batch_of
from vididi.description import EncoderSpec, describe
from vididi.encoders import Encoder
from vididi.errors import ConfigError, TrainingError
from vididi.exporting import EXPORTS, example_clips, export_encoder
from vididi.standalone import network_source

pytestmark = pytest.mark.usefixtures("one_thread")
RESULT = {
    "retrieval/R@1": 0.25,
    "data_checksum": "abc",
    "versions": {"vididi": "0.1.0", "torch": "2"},
}


def made(
    make_config: Callable[..., Config],
    backbone: Component | None = None,
    frames: int = 4,
    size: int = 16,
) -> Encoder:
    """An encoder with weights and statistics that are nobody's defaults."""
    config = make_config({"evaluation.frames": frames, "clip.size": size, "evaluation.clips": 3})
    if backbone is not None:
        config = config.model_copy(update={"backbone": backbone})
    torch.manual_seed(0)
    network, width = make_encoder(config.backbone)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return Encoder(network, width, EncoderSpec.of(config), describe(config, RESULT))


@pytest.fixture(scope="module")
def encoder(make_config: Callable[..., Config]) -> Encoder:
    return made(make_config)


def features(encoder: Encoder, clips: torch.Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        return encoder.network(clips).numpy()


def close(ours: NDArray, theirs: NDArray) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(ours).max())


def test_safetensors_load_alone(encoder: Encoder, tmp_path: Path) -> None:
    files = export_encoder(encoder, "safetensors", tmp_path / "e.safetensors")
    assert [file.name for file in files] == ["e.safetensors", "e.safetensors.md"]
    loaded = Encoder.load(files[0])
    assert loaded.description == encoder.description
    clips = example_clips(encoder)
    np.testing.assert_array_equal(features(loaded, clips), features(encoder, clips))


def test_torch_export_takes_any_batch(encoder: Encoder, tmp_path: Path) -> None:
    file, card = export_encoder(encoder, "torch_export", tmp_path / "out")
    assert (file.name, card.name) == ("encoder.pt2", "README.md")
    clips = torch.cat([example_clips(encoder)] * 3)[:5]
    with torch.inference_mode():
        close(features(encoder, clips), torch.export.load(file).module()(clips).numpy())


STANDALONE = """
import sys
sys.modules["vididi"] = None
sys.path.insert(0, sys.argv[1])
import torch, encoder
network = encoder.load()
clips = torch.load(sys.argv[2], weights_only=True)
frames = torch.load(sys.argv[3], weights_only=True)
with torch.inference_mode():
    torch.save([network(clips), encoder.transform(frames, 7)], sys.argv[4])
others = sys.modules.keys() & {"safetensors", "av", "ray", "pydantic", "simplejpeg", "yaml"}
assert not others, others
"""


def test_a_standalone_file_needs_nothing_of_this_program(
    encoder: Encoder, tmp_path: Path, moving_bar: Callable[..., NDArray[np.uint8]]
) -> None:
    files = export_encoder(encoder, "standalone", tmp_path / "out")
    assert [file.name for file in files] == ["encoder.py", "weights.pt", "README.md"]
    s, clips = encoder.spec, example_clips(encoder)
    prepared = encoder.encode(moving_bar(23, 20, 30))
    import simplejpeg

    frames = np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in prepared.frames])
    given = [tmp_path / "clips.pt", tmp_path / "frames.pt", tmp_path / "answer.pt"]
    torch.save(clips, given[0])
    torch.save(torch.from_numpy(frames), given[1])
    command = [sys.executable, "-c", STANDALONE, str(tmp_path / "out"), *map(str, given)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs, fed = torch.load(given[2], weights_only=True)
    close(features(encoder, clips), theirs.numpy())
    batch = batch_of(prepared, 7, s.length, s.stride, s.clips)
    ours = encoder._view.clips(batch, batch.clips, 0, torch.device("cpu"))
    np.testing.assert_allclose(fed.numpy(), ours.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["r3d_18", "s3d", "i3d_50"])
def test_every_family_is_standalone(
    name: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    frames, size = MINIMUM[name]
    size = max(size, 32) if name == "s3d" else 16
    backbone = Component(name=name, norm="per_order")
    encoder = made(make_config, backbone, max(frames, 4), size)
    export_encoder(encoder, "standalone", tmp_path)  # which compares them
    assert len((tmp_path / "encoder.py").read_text().splitlines()) < 300


def test_every_backbone_has_a_readable_source(make_config: Callable[..., Config]) -> None:
    for name in BACKBONES:
        encoder = made(make_config)
        encoder.description["backbone"] = {"name": name}
        source = network_source(encoder)
        compile(source, name, "exec")
        assert "vididi." not in source.replace("vididi.backbones", "")


def test_onnx_gives_the_same_features(encoder: Encoder, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    file, _ = export_encoder(encoder, "onnx", tmp_path / "e.onnx")
    clips = torch.cat([example_clips(encoder)] * 2)[:3]
    (theirs,) = runtime.InferenceSession(str(file)).run(None, {"clips": clips.numpy()})
    close(features(encoder, clips), theirs)


def test_onnx_without_its_package_names_the_extra(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"onnx needs onnx, which is not .*vididi\[export\]"):
        export_encoder(encoder, "onnx", tmp_path / "e.onnx")


def test_what_differs_is_refused(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = made_other(encoder)
    monkeypatch.setattr("vididi.exporting._loaded", lambda path: other)
    with pytest.raises(TrainingError, match=r"the standalone gives features that differ by 1"):
        export_encoder(encoder, "standalone", tmp_path / "out")


def made_other(encoder: Encoder) -> Any:
    return lambda clips: 2 * encoder.network(clips)


def test_the_card_has_a_head_that_the_hub_reads(encoder: Encoder, tmp_path: Path) -> None:
    *_, card = export_encoder(encoder, "safetensors", tmp_path)
    _, head, body = card.read_text().split("---\n", 2)
    values = yaml.safe_load(head)
    assert values["license"] == "other"
    assert values["license_name"] == "terms-of-the-data-set"
    assert {"video", "r3d_tiny", "vicreg"} <= set(values["tags"])
    (model,) = values["model-index"]
    (result,) = model["results"]
    assert result["dataset"] == {"type": "motion", "name": "motion"}
    assert result["metrics"] == [{"type": "retrieval/R@1", "name": "retrieval/R@1", "value": 0.25}]
    assert values["metrics"] == ["retrieval/R@1"]
    assert "| retrieval/R@1 | 0.2500 |" in body
    assert "vididi.Encoder.load('encoder.safetensors')" in body
    *_, card = export_encoder(encoder, "safetensors", tmp_path, "cc-by-4.0")  # ours is replaced
    assert yaml.safe_load(card.read_text().split("---\n")[1])["license"] == "cc-by-4.0"
    assert "recomputed" not in card.read_text()
    spec = replace(encoder.spec, batch_norm="recomputed")
    other = Encoder(encoder.network, encoder.width, spec, encoder.description)
    *_, card = export_encoder(other, "safetensors", tmp_path)
    assert "batch statistics that were recomputed on the training videos" in card.read_text()


def test_somebody_else_s_card_stays(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine\n")
    with pytest.raises(ConfigError, match=r"README\.md is there and no card of an export"):
        export_encoder(encoder, "safetensors", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    with pytest.raises(ConfigError, match=r"for safetensors it is a folder, or a file that ends"):
        export_encoder(encoder, "safetensors", tmp_path / "x.onnx")
    with pytest.raises(ConfigError, match="'gguf' is not valid; it is one of safetensors, "):
        export_encoder(encoder, "gguf", tmp_path)


def test_the_command_writes_what_a_file_alone_gives(
    encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vididi.commands.export import FORMS

    assert set(FORMS) == set(EXPORTS)
    export_encoder(encoder, "safetensors", tmp_path / "e.safetensors")
    asked = ["export", str(tmp_path / "e.safetensors"), "--format", "standalone", "--out"]
    assert main([*asked, str(tmp_path / "out")]) == 0
    names = ("encoder.py", "weights.pt", "README.md")
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / name) for name in names]
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "example: vididi export " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["r2plus1d_18", "s3d", "c2d_50"])
def test_other_networks_are_graphs_too(
    name: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    size = 32 if name == "s3d" else 16
    encoder = made(make_config, Component(name=name, norm="per_order"), 8, size)
    export_encoder(encoder, "torch_export", tmp_path)  # which compares them
    assert (tmp_path / "encoder.pt2").is_file()


@pytest.mark.parametrize("form", ["standalone", "torch_export", "safetensors"])
def test_frames_that_training_never_showed_keep_their_statistics(
    form: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    encoder = made(make_config, Component(name="r3d_tiny", width=2, norm="per_order"))
    for module in encoder.network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean_by_order[0].fill_(0.3)  # type: ignore[index, operator]
            module.num_batches_tracked_by_order[0] = 5  # type: ignore[index, operator]
    before = features(encoder, example_clips(encoder))
    export_encoder(encoder, form, tmp_path)  # which compares them
    np.testing.assert_array_equal(features(encoder, example_clips(encoder)), before)
