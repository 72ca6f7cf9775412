"""The walk over a folder of videos: every file is a video of the result or named, and it ends in
any tree.
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vididi.data.sources import SOURCES, Listing, folder
from vididi.data.sources.walk import VIDEO_SUFFIXES, Tree, VideoFolder, is_video, walk
from vididi.errors import DataError


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    """``touch("a/b.mp4", ...)``: empty files under videos/, which is returned."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "videos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "videos"

    return make


def ids(videos: Listing) -> list[str]:
    return [video.video_id for video in videos]


# --- What is a video ------------------------------------------------------------------------------

VIDEOS = (
    ".ts",
    ".MTS",
    ".m2ts",
    ".wmv",
    ".flv",
    ".ogv",
    ".GIF",
    ".vob",
    ".mpv",
    ".asf",
    ".f4v",
    ".3g2",
    ".Mp4",
)
OTHERS = (
    ".png",
    ".jpg",
    ".webp",
    ".apng",
    ".txt",
    ".json",
    ".csv",
    ".srt",
    ".m3u8",
    ".m3u",
    ".mpd",
    ".mp3",
    ".m4a",
    ".wav",
    ".ogg",
    ".part",
)


@pytest.mark.parametrize("suffix", VIDEOS)
def test_videos_are_known_by_their_suffix_in_upper_and_lower_case(suffix: str) -> None:
    assert is_video(f"a.b{suffix}")


@pytest.mark.parametrize("suffix", OTHERS)
def test_pictures_text_playlists_and_sound_are_no_videos(suffix: str) -> None:
    assert not is_video(f"a.mp4{suffix}")


def test_all_else_is_counted_by_its_suffix(touch: Callable[..., Path]) -> None:
    root = touch(
        "run/a.mp4", *(f"run/{i}.txt" for i in range(10)), "run/b.MP3", "walk/c.mp3", "walk/README"
    )
    (note,) = folder(root, videos=root).notes
    assert note == "13 files are no videos by their suffix: 10 .txt, 2 .mp3, 1 without a suffix"


def test_of_many_suffixes_the_most_frequent_are_named(tmp_path: Path) -> None:
    others = Counter({".jpg": 9, f".{'x' * 200}": 8, **{f".{i}": 1 for i in range(100_000)}})
    (note,) = Tree(tmp_path, others=others).notes
    assert note.startswith("100017 files are no videos by their suffix: 9 .jpg, 8 .xxx")
    assert note.endswith(", 1 .2, and 99997 more of other suffixes")
    assert len(note) < 200


def test_videos_beside_the_class_folders_are_named(touch: Callable[..., Path]) -> None:
    root = touch("run/a.mp4", "loose.mp4", "more.gif")
    videos = folder(root, videos=root)
    assert (ids(videos), videos.notes) == (
        ["run/a.mp4"],
        ["2 videos left out: in no class folder: loose.mp4, more.gif"],
    )


def test_videos_beside_the_split_folders_are_named(touch: Callable[..., Path]) -> None:
    root = touch(
        "train/run/a.mp4",
        "test/run/b.mp4",
        "val/run/c.mp4",
        "train/loose.mp4",
        "d.mp4",
        "notes.txt",
    )
    videos = folder(root, videos=root)
    assert ids(videos) == ["train/run/a.mp4", "test/run/b.mp4"]
    assert videos.notes == [
        (
            "3 videos left out: in no class folder of train/ or test/: d.mp4, train/loose.mp4,"
            " val/run/c.mp4"
        ),
        "1 file is no video by its suffix: 1 .txt",
    ]


def test_what_is_hidden_is_skipped_and_counted(touch: Callable[..., Path]) -> None:
    root = touch(
        "run/a.mp4",
        ".ipynb_checkpoints/a.mp4",
        "run/.ipynb_checkpoints/a-checkpoint.mp4",
        "run/._a.mp4",
        ".DS_Store",
    )
    videos = folder(root, videos=root)
    assert [(video.video_id, video.class_name) for video in videos] == [("run/a.mp4", "run")]
    assert videos.notes == [
        "2 hidden folders left out: .ipynb_checkpoints, run/.ipynb_checkpoints",
        "2 hidden files left out: .DS_Store, run/._a.mp4",
    ]


def test_a_folder_that_cannot_be_read_is_named(
    touch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = touch("run/a.mp4", "walk/b.mp4")
    real = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("walk"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    videos = folder(root, videos=root)
    assert (ids(videos), videos.notes) == (
        ["run/a.mp4"],
        ["1 folder left out: cannot be read: walk (Permission denied)"],
    )


def test_a_preview_does_not_stand_for_the_video_beside_it(touch: Callable[..., Path]) -> None:
    root = touch("a/clip.gif", "a/clip.mp4", "b/other.wmv")
    files = VideoFolder(root, (), suffixes=False)
    assert files.find("clip", "") == root / "a/clip.mp4"
    assert files.find("other", "") == root / "b/other.wmv"


def test_a_preview_in_a_class_folder_does_not_stand_for_a_video_that_is_in_none(
    touch: Callable[..., Path],
) -> None:
    root = touch("a.mp4", "previews/run/a.gif")
    assert VideoFolder(root, {"run"}, suffixes=False).find("a", "run") == root / "a.mp4"


@pytest.mark.parametrize("train", [".", "./", "c/.."])
def test_a_split_s_folder_may_be_the_whole_folder(train: str, touch: Callable[..., Path]) -> None:
    root = touch("run/a.mp4", "c/d/e.mp4", "c/f.mp4")
    assert [
        (video.video_id, video.class_name, video.split)
        for video in folder(root, videos=root, train=train, test="c")
    ] == [
        *[("c/d/e.mp4", "c/d", "train"), ("c/f.mp4", "c", "train"), ("run/a.mp4", "run", "train")],
        ("c/d/e.mp4", "d", "test"),
    ]


def test_one_class_in_two_normal_forms_is_one_class(touch: Callable[..., Path]) -> None:
    names = {form: unicodedata.normalize(form, "café") for form in ("NFC", "NFD")}
    root = touch(
        f"train/{names['NFC']}/a.mp4",
        f"test/{names['NFD']}/b.mp4",
        f"train/{unicodedata.normalize('NFD', 'naïf')}/c.mp4",
    )
    found = {video.path.name: video.class_name for video in folder(root, videos=root)}
    assert found == {
        "a.mp4": names["NFC"],
        "b.mp4": names["NFC"],
        "c.mp4": unicodedata.normalize("NFD", "naïf"),
    }


# --- Links ----------------------------------------------------------------------------------------


def test_a_link_to_a_parent_folder_is_not_followed(touch: Callable[..., Path]) -> None:
    root = touch("run/a.mp4", "walk/b.mp4")
    for name in ("up", "run/up", "walk/deep"):
        (root / name).symlink_to(root if name != "walk/deep" else root / "walk")
    videos = folder(root, videos=root)
    assert ids(videos) == ["run/a.mp4", "walk/b.mp4"]
    assert videos.notes == [
        "3 links not followed: each leads to a folder that it lies in: run/up, up, walk/deep"
    ]


def test_a_link_to_a_folder_elsewhere_or_beside_it_is_followed(
    touch: Callable[..., Path], tmp_path: Path
) -> None:
    root = touch("run/a.mp4", "../disk/b.mp4")
    (root / "jog").symlink_to(root / "run")
    (root / "walk").symlink_to(tmp_path / "disk")
    (root / "run" / "gone.mp4").symlink_to(root / "nowhere")
    (root / "run" / "self.mp4").symlink_to(root / "run" / "self.mp4")
    videos = folder(root, videos=root)
    assert ids(videos) == [
        f"{name}.mp4"
        for name in ("jog/a", "jog/gone", "jog/self", "run/a", "run/gone", "run/self", "walk/b")
    ]
    assert not videos.notes


def test_folders_that_all_link_to_each_other_are_refused_in_words(
    touch: Callable[..., Path],
) -> None:
    names = [f"c{i}" for i in range(9)]  # without an end there would be 600,000 paths to 9 videos
    root = touch(*(f"{name}/{name}.mp4" for name in names))
    for name in names:
        for other in names:
            (root / name / f"to-{other}").symlink_to(root / other)
    with pytest.raises(
        DataError,
        match=(
            r"links under .* show the same 10 folders more than 16 times each.*; remove some of the"
            r" links"
        ),
    ):
        walk(root)


# --- Any tree -------------------------------------------------------------------------------------

ODD = (
    os.fsdecode(b"\xff\xfe"),
    unicodedata.normalize("NFD", "é"),
    "é",
    "日本",
    "x\ny",
    "[x]",
    "-",
    "b b",
)
NAMES = ["a", ".hidden", "train", "a.mp4", *ODD]
SUFFIXES = ["", ".mp4", ".MP4", ".ts", ".txt", ".m3u8", ".mp4.part", ".gif", "..mp4"]
folders = st.lists(st.sampled_from(NAMES), max_size=3)
files = st.lists(st.tuples(folders, st.sampled_from(NAMES), st.sampled_from(SUFFIXES)), max_size=12)
links = st.lists(
    st.tuples(folders, st.sampled_from(["l", "m", ".n", "o.mp4"]), folders), max_size=4
)


def grow(root: Path, files: list[Any], links: list[Any]) -> None:
    """Make the tree; what cannot be made, as its name is taken, is left out."""
    for parents, name, suffix in files:
        place = root.joinpath(*parents)
        if not any(path.is_file() for path in (place, *place.parents)):
            place.mkdir(parents=True, exist_ok=True)
            if not (place / f"{name}{suffix}").exists():
                (place / f"{name}{suffix}").touch()
    for parents, name, target in links:
        if root.joinpath(*parents).is_dir() and not os.path.lexists(root.joinpath(*parents, name)):
            root.joinpath(*parents, name).symlink_to(root.joinpath(*target))


def by_hand(folder: Path, above: list[Path]) -> list[Path]:
    """Every path that is not hidden, down to folders that are above themselves."""
    here = folder.resolve()
    if here in above:
        return []
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return [
        found
        for path in paths
        for found in (by_hand(path, [*above, here]) if path.is_dir() else [path])
    ]


@given(files, links)
@example([(["a"], "a", ".mp4")], [(["a"], "l", []), (["a"], "m", []), ([], "l", [])])
@settings(max_examples=80, deadline=None)
def test_every_file_is_a_video_or_counted_in_any_tree(files: list[Any], links: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        grow(root, files, links)
        tree = walk(root)
        there = by_hand(root, [])
        kinds = {path: path.suffix.lower() for path in there}
        assert sorted(root / path for path in tree.videos) == sorted(
            path for path in there if kinds[path] in VIDEO_SUFFIXES
        )
        assert tree.others.total() + len(tree.videos) == len(there)
        assert tree.others.keys() == {kind for kind in kinds.values() if kind not in VIDEO_SUFFIXES}
        assert all(note.encode() for note in tree.notes), "they can be printed"
        if any("/" in path for path in tree.videos) and not (
            (root / "train").is_dir() or (root / "test").is_dir()
        ):
            found = SOURCES["folder"](root, videos=root)
            loose = [path for path in tree.videos if "/" not in path]
            assert sorted(
                [*(str(video.path.relative_to(root)) for video in found), *loose]
            ) == sorted(tree.videos)
            assert all((video.video_id + video.class_name).encode() for video in found), (
                "they can be written"
            )
