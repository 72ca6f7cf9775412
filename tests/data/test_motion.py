"""The built-in motion set: deterministic, real video files, balanced, and about motion alone."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from pathlib import Path

import av
import numpy as np
import pytest

from vididi.data.motion import LAWS, SCENES, motion, render_video
from vididi.data.video import Video

OPTIONS = {"train": 40, "test": 20, "size": 16, "frames": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("motion")


@pytest.fixture(scope="module")
def videos(place: Path) -> list[Video]:
    return motion(place, **OPTIONS)


@pytest.fixture(scope="module")
def made_beside_a_half_made(
    videos: list[Video], place: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Video]:
    """The same set in another cache, in which an attempt that was killed left its folder."""
    other = tmp_path_factory.mktemp("other")
    half = (
        other
        / f"{videos[0].path.relative_to(place).parts[0]}.4194999"
        / "train"
        / videos[5].class_name
    )
    half.mkdir(parents=True)
    (half / videos[5].path.name).write_bytes(b"half")
    return motion(other, **OPTIONS)


def first_frame(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


# --- Pixels ---------------------------------------------------------------------------------------


def test_a_rendered_video_follows_from_its_seed_alone() -> None:
    one, again, other = (render_video("orbit", "clouds", 32, 8, seed) for seed in (5, 5, 6))
    assert one.dtype == np.uint8
    assert one.shape == (8, 32, 32, 3)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("law", LAWS)
def test_every_law_moves(law: str) -> None:
    for seed in range(6):
        video = render_video(law, "clouds", 48, 32, seed).astype(int)
        step = np.abs(np.diff(video, axis=0)).max(axis=(1, 2, 3))
        assert (step > 0).mean() > 0.8, f"seed {seed}: the object stands still"
        assert step.max() > 20, f"seed {seed}: it can hardly be seen"


@pytest.mark.parametrize("law", LAWS)
def test_the_background_stands_still(law: str) -> None:
    for seed in range(6):
        video = render_video(law, "checks", 48, 32, seed)
        still = (video == video[:1]).all(axis=(0, 3))
        assert still.mean() > 0.25, f"seed {seed}"


@pytest.mark.parametrize("law", ["translation", "oscillation_x", "orbit", "spin", "zigzag"])
def test_what_changes_between_two_frames_lies_around_the_object(law: str) -> None:
    for seed in range(6):
        video = render_video(law, "tiles", 64, 40, seed).astype(int)
        for change in np.abs(np.diff(video, axis=0)).max(axis=3) > 0:
            rows, columns = np.nonzero(change)
            if len(rows):
                assert np.ptp(rows) < 40
                assert np.ptp(columns) < 40


# --- Files ----------------------------------------------------------------------------------------


def test_files_are_h264_of_the_stated_size_and_length(videos: list[Video]) -> None:
    for video in videos[:3]:
        assert video.path.suffix == ".mp4"
        with av.open(str(video.path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert (stream.width, stream.height) == (16, 16)
            assert len(list(container.decode(stream))) == 8


def test_a_file_s_frames_move(videos: list[Video]) -> None:
    for video in videos[:10]:
        with av.open(str(video.path)) as container:
            decoded = np.stack(
                [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            ).astype(int)
        assert (np.abs(np.diff(decoded, axis=0)).max(axis=(1, 2, 3)) > 0).all(), video.video_id


def test_made_twice_it_is_the_same_to_the_byte(
    videos: list[Video], place: Path, made_beside_a_half_made: list[Video]
) -> None:
    again, other = made_beside_a_half_made, made_beside_a_half_made[0].path.parents[3]
    assert [video.video_id for video in again] == [video.video_id for video in videos]
    assert [video.path.relative_to(other) for video in again] == [
        video.path.relative_to(place) for video in videos
    ]
    assert all(
        one.path.read_bytes() == two.path.read_bytes()
        for one, two in zip(videos, again, strict=True)
    )


def test_a_half_made_set_is_never_taken_for_a_whole_one(
    videos: list[Video], place: Path, made_beside_a_half_made: list[Video]
) -> None:
    name = videos[0].path.relative_to(place).parts[0]
    assert {video.path.parents[2].name for video in made_beside_a_half_made} == {name}
    assert made_beside_a_half_made[5].path.read_bytes() != b"half"


def test_a_made_set_is_not_made_again(videos: list[Video], place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.mp4")}
    assert motion(place, **OPTIONS) == videos
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.mp4")} == before


def test_another_option_is_another_set(videos: list[Video], place: Path) -> None:
    root = videos[0].path.relative_to(place).parts[0]
    other = motion(place, **{**OPTIONS, "train": 10, "test": 0, "seed": 1})
    assert other[0].path.relative_to(place).parts[0] != root
    assert other[0].path.read_bytes() != videos[0].path.read_bytes()


def test_making_it_leaves_no_temporary_folder(videos: list[Video], place: Path) -> None:
    root = videos[0].path.relative_to(place).parts[0]
    assert [path.name for path in place.iterdir() if path.name.startswith(root)] == [root]


# --- Labels ---------------------------------------------------------------------------------------


def test_both_splits_are_balanced_over_all_laws(videos: list[Video]) -> None:
    for split, count in (("train", 40), ("test", 20)):
        classes = Counter(video.class_name for video in videos if video.split == split)
        assert set(classes) == set(LAWS)
        assert set(classes.values()) == {count // len(LAWS)}


def test_video_ids_are_unique_and_paths_exist(videos: list[Video]) -> None:
    assert len({video.video_id for video in videos}) == len(videos) == 60
    assert all(video.path.is_file() for video in videos)


def test_every_scene_is_in_both_splits_and_says_little_of_the_law(videos: list[Video]) -> None:
    for split in ("train", "test"):
        assert {video.scene for video in videos if video.split == split} == set(SCENES)
    # Were the scene a function of the law, ten laws would make at most ten combinations.
    assert len({(video.class_name, video.scene) for video in videos}) > 25


def test_no_two_videos_share_a_background_or_a_file(videos: list[Video]) -> None:
    files = {sha256(video.path.read_bytes()).digest() for video in videos}
    frames = {first_frame(video.path).tobytes() for video in videos}
    assert len(files) == len(frames) == len(videos)
    corners = {
        split: {first_frame(v.path)[0].tobytes() for v in videos if v.split == split}
        for split in ("train", "test")
    }
    assert not corners["train"] & corners["test"]


# --- Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("train", 0), ("test", -1), ("size", 14), ("size", 33), ("frames", 7), ("seed", -1)],
)
def test_a_bad_option_is_refused_by_name_before_anything_is_made(
    name: str, value: int, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: {value} is not valid"):
        motion(tmp_path, **{**OPTIONS, name: value})
    assert list(tmp_path.iterdir()) == []
