"""prepare.decoder: PyAV by default, decord on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vididi.data import prepare as preparing
from vididi.data.prepare import Encoded, Settings, encode_video
from vididi.data.video import Video

pytest.importorskip("decord")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, moving_bar: Callable[..., NDArray], write_video: Callable[..., Path]) -> Video:
    path = write_video(tmp_path_factory.mktemp("decoders") / "bar.mp4", moving_bar(150, 48, 64))  # more than two of decord's chunks
    return Video(path, "bar", "class", "train")


def test_both_decoders_give_the_same_frames_of_h264(video: Video) -> None:
    pyav, decord = (encode_video(video, Settings(short_side=24, decoder=decoder)) for decoder in ("pyav", "decord"))  # type: ignore[arg-type]
    assert isinstance(pyav, Encoded)
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


def test_where_decord_is_not_installed_asking_for_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^decoder: 'decord' is not installed .* must be 'pyav' here"):
        Settings(decoder="decord")
    with pytest.raises(ValueError, match=r"^decoder: 'ffmpeg' is not valid; it is 'pyav' or 'decord'"):
        Settings(decoder="ffmpeg")  # type: ignore[arg-type]


def test_frames_are_rgb(video: Video, moving_bar: Callable[..., NDArray]) -> None:
    import simplejpeg

    encoded = encode_video(video, Settings(short_side=48, decoder="decord"))
    assert isinstance(encoded, Encoded)
    frame = simplejpeg.decode_jpeg(encoded.frames[70]).astype(int)
    assert np.abs(frame - moving_bar(150, 48, 64)[70]).mean() < 8
