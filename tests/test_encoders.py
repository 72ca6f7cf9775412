"""Encoders that are carried away: from a video to its feature, by a run folder or a file alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import vididi
from vididi.components import resolve
from vididi.config import Component, Config
from vididi.data.encode import encode_frames
from vididi.data.shards import ShardSet
from vididi.data.single import as_video, content_number, encoded_file, row_in
from vididi.data.stream import local_stream
from vididi.errors import ConfigError, DamagedError, DataError, TrainingError
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.protocols import EvaluationEntry
from vididi.protocols.finished import evaluate_run
from vididi.protocols.task import make_task
from vididi.runs.run_folder import replacing
from vididi.training.context import local_context

REALDATA = Path(__file__).resolve().parents[1].parent / "shared" / "realdata"
CELL: dict[str, Any] = {"sweep": None, "arm": "a", "label": "a", "axes": {}, "seed": 0}
pytestmark = pytest.mark.usefixtures("one_thread")

SAME_BYTES = {"x264-params": "cpu-independent=1"}  # as the motion set (vididi/data/motion.py)
MakeConfig = Callable[..., Config]


def folder_config(make_config: MakeConfig, videos: Path, **changes: Any) -> Config:
    values = {"training.batch_size": 2, "training.epochs": 2, "prepare.short_side": 24}
    # Crops of nearly all of a frame: how near two draws of them are is a matter of the videos.
    values |= {"evaluation.clips": 10, "evaluation.crop": 0.9, "evaluation.protocols": []}
    config = make_config({**values, **changes})
    return resolve(config.model_copy(update={"data": Component(name="folder", videos=str(videos))}))


def trained(config: Config, folder: Path) -> ShardSet:
    shards = ensure_prepared(config)
    with local_context("cpu") as context:
        run_cell(config, CELL, folder, shards, local_stream(shards), context)
    return shards


@pytest.fixture(scope="module")
def videos(
    tmp_path_factory: pytest.TempPathFactory,
    write_video: Callable[..., Path],
    moving_bar: Callable[..., NDArray[np.uint8]],
) -> Path:
    """train and test of two classes; one is shorter than a clip, sizes and shapes differ."""
    root = tmp_path_factory.mktemp("videos")
    sizes = ((20, 48, 64), (31, 64, 48), (3, 32, 32), (26, 40, 72))
    for number, (split, name) in enumerate(
        (split, name) for split in ("train", "test") for name in ("run", "walk")
    ):
        for shift in (0, 2):
            size = sizes[(number + shift) % 4]
            frames = moving_bar(*size, 60 * number + 20 * shift)
            path = root / split / name / f"{number}_{shift}.mp4"
            write_video(path, frames, **SAME_BYTES)
    return root


@pytest.fixture(scope="module")
def run(
    make_config: MakeConfig, videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ShardSet]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, trained(folder_config(make_config, videos), folder)


def platform_features(run: Path, shards: ShardSet) -> dict[str, NDArray[np.float32]]:
    """By video_id, as the retrieval protocol keeps them."""
    entry = EvaluationEntry(protocol="retrieval", untrained=False)
    with local_context("cpu") as context:
        task = make_task(run, entry, shards, local_stream(shards), context, lambda _: None)
        evaluate_run(run, task, None, False)
    table = pq.read_table(run / "evaluations" / task.name / "features.parquet")
    features = np.stack(table.column("features").to_numpy(zero_copy_only=False))
    return dict(zip(table.column("video_id").to_pylist(), features, strict=True))


def cosine(one: NDArray, other: NDArray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def source_file(shards: ShardSet, videos: Path, video_id: str) -> Path:
    (path,) = (path for path in videos.rglob("*.mp4") if path.as_posix().endswith(video_id))
    return path


# --- From a video to a vector ---------------------------------------------------------------------


def test_a_file_of_the_set_has_its_platform_features(
    run: tuple[Path, ShardSet], videos: Path
) -> None:
    folder, shards = run
    encoder = vididi.Encoder.load(folder)
    expected = platform_features(folder, shards)
    assert len(expected) == 8
    for video_id, feature in expected.items():
        path = source_file(shards, videos, video_id)
        np.testing.assert_allclose(encoder.embed(path, shards), feature, rtol=1e-5, atol=1e-7)


def test_another_file_is_keyed_by_its_content_and_close(
    run: tuple[Path, ShardSet], videos: Path, tmp_path: Path
) -> None:
    folder, shards = run
    encoder = vididi.Encoder.load(folder)
    near = []
    for video_id, feature in platform_features(folder, shards).items():
        path = source_file(shards, videos, video_id)
        alone = encoder.embed(path)
        copy = shutil.copy(path, tmp_path / f"{len(near)}.mp4")
        assert np.array_equal(encoder.embed(str(copy)), alone)  # the name is no part of it
        near.append(cosine(alone, feature))
        assert not np.array_equal(alone, feature)  # other crops
    assert min(near) >= 0.999  # of other videos about 0.75 (docs/encoders.md)


def test_frames_are_embedded_as_the_file_that_holds_them(
    run: tuple[Path, ShardSet], videos: Path
) -> None:
    from vididi.data.video_reader import read_video

    folder, shards = run
    encoder, path = vididi.Encoder.load(folder), next(iter(sorted(videos.rglob("*.mp4"))))
    frames, _ = read_video(path)
    np.testing.assert_array_equal(encoder.embed(frames, shards), encoder.embed(path, shards))
    assert encoder.embed(frames).shape == (encoder.width,) == (16,)


def test_transform_gives_the_clips_that_are_fed(run: tuple[Path, ShardSet], videos: Path) -> None:
    encoder, path = vididi.Encoder.load(run[0]), next(iter(sorted(videos.rglob("*.mp4"))))
    clips = encoder.transform(path)
    s = encoder.spec
    assert clips.shape == (10, 3, s.frames, s.size, s.size) == (10, 3, 4, 16, 16)
    np.testing.assert_allclose(encoder(clips).mean(0).numpy(), encoder.embed(path), rtol=1e-5)


def test_a_row_is_found_by_its_frames_and_of_equal_ones_by_its_file(
    run: tuple[Path, ShardSet], videos: Path
) -> None:
    _, shards = run
    encoder = vididi.Encoder.load(run[0])
    for row, video_id in enumerate(shards.column("video_id")):
        encoded = encoded_file(source_file(shards, videos, video_id), encoder.settings)
        assert row_in(shards, encoded) == row
    other = encode_frames(iter([np.zeros((24, 24, 3), np.uint8)] * 2), 0, encoder.settings, "ab")
    assert row_in(shards, other) is None
    assert content_number(other) == 0xAB
    assert as_video(Path("a.mp4")).video_id == "a.mp4"


def test_recomputed_statistics_are_those_of_the_evaluation(
    make_config: MakeConfig, videos: Path, tmp_path: Path
) -> None:
    config = folder_config(make_config, videos, **{"evaluation.batch_norm": "recomputed"})
    shards = trained(config, tmp_path / "run")
    encoder = vididi.Encoder.load(tmp_path / "run")
    with_statistics = encoder.with_statistics(shards)
    far = []
    for video_id, feature in platform_features(tmp_path / "run", shards).items():
        path = source_file(shards, videos, video_id)
        ours = with_statistics.embed(path, shards)
        np.testing.assert_allclose(ours, feature, rtol=1e-5, atol=1e-7)
        far.append(np.abs(encoder.embed(path, shards) - feature).max())
    assert max(far) > 1e-4
    with pytest.raises(ConfigError, match=r"the data that the encoder was trained on, \w+$"):
        encoder.with_statistics(ensure_prepared(make_config()))


def test_a_file_that_is_no_video_is_a_data_error_with_the_reason(
    run: tuple[Path, ShardSet], tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_text("a text\n")
    with pytest.raises(DataError, match=r"a\.mp4: text, no video"):
        vididi.Encoder.load(run[0]).embed(tmp_path / "a.mp4")


NORMAL = torch.zeros(2, 3, 4, 16, 16)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (NORMAL.to(torch.uint8), "clips: uint8 is not valid"),
        (NORMAL[:, :, :1], r"clips: 1 frame in shape \[2, 3, 1, 16, 16\], not 4"),
        (torch.zeros(2, 3, 4, 12, 12), "clips: 12 x 12 pixels, not 16 x 16"),
        (NORMAL.permute(0, 2, 3, 4, 1), "so the channels come last"),
        (torch.zeros(2, 7, 3, 16, 16), "so time comes before the channels"),
        (NORMAL[0], r"shape \[3, 4, 16, 16\] has 4 axes, not 5"),
        (NORMAL + 200, r"values from 200 to 200 are not normalised, which is -2\.118 to 2\.64"),
        (NORMAL * float("nan"), "values from nan to nan are not normalised"),
        (NORMAL[:0], r"shape \[0, 3, 4, 16, 16\] has no clip"),
        ([1], r"list is not valid; it must be a torch\.Tensor"),
    ],
)
def test_clips_that_are_none_are_refused_by_name(
    run: tuple[Path, ShardSet], clips: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        vididi.Encoder.load(run[0])(clips)
    assert isinstance(clips, list) or "it must be [B, 3, 4, 16, 16], float" in str(error.value)


FRAMES = np.zeros((5, 16, 20, 3), np.uint8)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (FRAMES / 255, "frames: float64 is not valid"),
        (FRAMES[0], r"shape \[16, 20, 3\] is one frame"),
        (FRAMES[:1], r"shape \[1, 16, 20, 3\] is one frame"),
        (FRAMES[:0], "is empty"),
        (FRAMES.transpose(3, 0, 1, 2), "so the channels are axis 0"),
        (FRAMES.transpose(0, 3, 1, 2), "so the channels are axis 1"),
        (FRAMES[None], "has 5 axes, not 4"),
    ],
)
def test_frames_that_are_none_are_refused_by_name(
    run: tuple[Path, ShardSet], frames: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"{message}.*it must be uint8") as error:
        vididi.Encoder.load(run[0]).embed(frames)
    assert str(error.value).startswith("frames: ")


@pytest.mark.skipif(not REALDATA.is_dir(), reason=f"no real videos: {REALDATA} is not there")
def test_a_real_clip_has_a_feature(run: tuple[Path, ShardSet]) -> None:
    encoder = vididi.Encoder.load(run[0])
    clip = next((REALDATA / "action_clips" / "UCF101").glob("*/*.avi"))
    feature = encoder.embed(clip)
    assert feature.shape == (16,)
    assert np.isfinite(feature).all()
    assert feature.std() > 0


# --- A file that travels --------------------------------------------------------------------------


def test_the_file_loads_alone_and_says_what_it_is(
    run: tuple[Path, ShardSet], videos: Path, tmp_path: Path
) -> None:
    folder, shards = run
    file = Path(shutil.copy(folder / "encoder.safetensors", tmp_path / "any name.safetensors"))
    encoder, path = vididi.Encoder.load(file), next(iter(sorted(videos.rglob("*.mp4"))))
    np.testing.assert_array_equal(encoder.embed(path), vididi.Encoder.load(folder).embed(path))
    said = encoder.description
    assert said["backbone"]["name"] == "r3d_tiny"
    assert said["backbone"]["width"] == 2
    assert said["data"] == {"name": "folder", "checksum": shards.manifest.checksum}
    assert said["objective"]["name"] == "vicreg"
    assert said["schedule"]["order"] == 2
    assert said["versions"]["vididi"] == vididi.__version__
    assert "Apache-2.0" in said["licence"]
    with safe_open(file, "pt") as content:
        text = json.dumps(content.metadata())
    assert str(videos) not in text  # nothing of the machine that trained it
    assert str(folder) not in text


def test_the_metrics_of_the_run_travel_with_it(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path
) -> None:
    values = {"training.epochs": 1, "evaluation.online.every": 1, "evaluation.online.train": 8}
    values |= {"evaluation.online.test": 4, "evaluation.online.keep_best": "online/knn"}
    with local_context("cpu") as context:
        stream = local_stream(tiny_shards)
        result = run_cell(make_config(values), CELL, tmp_path, tiny_shards, stream, context)
    said = vididi.Encoder.load(tmp_path).description["metrics"]
    assert said["retrieval/R@1"] == result["retrieval/R@1"]
    best = vididi.Encoder.load(tmp_path / "best.safetensors")
    assert set(best.description["metrics"]) == {"online/knn"}
    assert best.spec == vididi.Encoder.load(tmp_path).spec


def test_a_file_of_before_loads_from_its_run_folder_alone(
    run: tuple[Path, ShardSet], videos: Path, tmp_path: Path
) -> None:
    shutil.copytree(run[0], tmp_path / "old")
    save_file(load_file(run[0] / "encoder.safetensors"), tmp_path / "old" / "encoder.safetensors")
    path = next(iter(sorted(videos.rglob("*.mp4"))))
    old, new = (vididi.Encoder.load(folder) for folder in (tmp_path / "old", run[0]))
    assert (old.spec, old.description["metrics"]) == (new.spec, new.description["metrics"])
    np.testing.assert_array_equal(old.embed(path), new.embed(path))
    (tmp_path / "old" / "config.yaml").unlink()
    with pytest.raises(TrainingError, match=r"does not describe itself.*give the run folder"):
        vididi.Encoder.load(tmp_path / "old" / "encoder.safetensors")


def test_a_file_that_cannot_be_what_it_says_is_named(
    run: tuple[Path, ShardSet], tmp_path: Path
) -> None:
    weights, file = load_file(run[0] / "encoder.safetensors"), tmp_path / "x.safetensors"
    said = vididi.Encoder.load(run[0]).description
    file.write_bytes(b"cut")
    with pytest.raises(DamagedError, match=r"x\.safetensors: cannot be read"):
        vididi.Encoder.load(file)
    for change, message in (
        ({"format": 2}, "describes itself in format 2; this reads 1"),
        ({"backbone": {"name": "none"}}, "names no backbone that this version has"),
        ({"spec": {"frames": 4}}, "its spec is .* it must have batch_norm, clips"),
    ):
        save_file(weights, file, {"vididi": json.dumps({**said, **change})})
        with pytest.raises(DamagedError, match=message):
            vididi.Encoder.load(file)
    wide = {**said, "backbone": {**said["backbone"], "width": 3}}
    save_file(weights, file, {"vididi": json.dumps(wide)})
    with pytest.raises(TrainingError, match="does not fit r3d_tiny"):
        vididi.Encoder.load(file)
    with pytest.raises(TrainingError, match=r"no encoder\.safetensors"):
        vididi.Encoder.load(tmp_path / "nowhere")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_of_a_run_have_the_mode_of_the_umask(
    make_config: MakeConfig, tiny_shards: ShardSet, tmp_path: Path, mask: int, mode: int
) -> None:
    values = {"training.epochs": 1, "evaluation.online.every": 1, "evaluation.online.train": 8}
    values |= {"evaluation.online.test": 4, "evaluation.online.keep_best": "online/knn"}
    with umask(mask), local_context("cpu") as context:
        stream = local_stream(tiny_shards)
        run_cell(make_config(values), CELL, tmp_path, tiny_shards, stream, context)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("*.*")}
    assert {"encoder.safetensors", "best.safetensors", "result.json"} < set(modes)
    assert modes == dict.fromkeys(modes, mode)


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError("away")

    with pytest.raises(RuntimeError, match="away"):
        fail()
    assert list(tmp_path.iterdir()) == []
