"""prepare.decoder: PyAV by default, decord on request."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vididi.data import prepare as preparing
from vididi.data.prepare import Encoded, Settings, encode_video
from vididi.data.video import Video
from vididi.data.workers import run_apart

pytestmark = pytest.mark.skipif(
    find_spec("decord") is None, reason="decord has no wheel for this platform"
)


def encode_apart(video: Video, decoder: str) -> Encoded:
    """In a process of its own, as prepare does it: decord and PyAV bring libraries of the same
    names, and other tests use PyAV's.
    """
    settings = Settings(short_side=24, decoder=decoder)  # type: ignore[arg-type]
    (encoded,) = run_apart(partial(encode_video, settings=settings), [video], 1, 60)
    assert isinstance(encoded, Encoded)
    return encoded


@pytest.fixture(scope="module")
def video(
    tmp_path_factory: pytest.TempPathFactory,
    moving_bar: Callable[..., NDArray],
    write_video: Callable[..., Path],
) -> Video:
    path = write_video(
        tmp_path_factory.mktemp("decoders") / "bar.mp4", moving_bar(150, 48, 64)
    )  # more than two of decord's chunks
    return Video(path, "bar", "class", "train")


def test_both_decoders_give_the_same_frames_of_h264(video: Video) -> None:
    pyav, decord = encode_apart(video, "pyav"), encode_apart(video, "decord")
    assert decord == pyav
    assert len(pyav.frames) == 150


def test_pyav_reads_what_decord_cannot(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def broken(path: Path) -> None:
        asked.append(path)
        raise RuntimeError("no such codec")

    monkeypatch.setattr(preparing, "open_with_decord", broken)
    assert isinstance(encode_video(video, Settings(short_side=24, decoder="decord")), Encoded)
    assert asked == [video.path]


def test_decord_is_not_asked_unless_told_to(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "open_with_decord", lambda path: pytest.fail("decord was asked"))
    assert isinstance(encode_video(video, Settings(short_side=24)), Encoded)


def test_where_decord_is_not_installed_asking_for_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preparing, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"^decoder: 'decord' is not installed .* must be 'pyav' here"
    ):
        Settings(decoder="decord")
    with pytest.raises(
        ValueError, match=r"^decoder: 'ffmpeg' is not valid; it is 'pyav' or 'decord'"
    ):
        Settings(decoder="ffmpeg")  # type: ignore[arg-type]


def test_frames_are_rgb(video: Video, moving_bar: Callable[..., NDArray]) -> None:
    import simplejpeg

    frame = simplejpeg.decode_jpeg(encode_apart(video, "decord").frames[70]).astype(int)
    expected = (
        moving_bar(150, 48, 64)[70].reshape(24, 2, 32, 2, 3).mean(axis=(1, 3))
    )  # half the size
    assert np.abs(frame - expected).mean() < 8
