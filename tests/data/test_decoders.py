"""prepare.decoder: PyAV by default, decord on request, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from decord_here import needs_decord
from numpy.typing import NDArray

from vididi.data import decord_process, encode
from vididi.data.decord_process import open_in_child
from vididi.data.encode import Encoded, Reject, Settings, encode_video
from vididi.data.video import Video
from vididi.data.workers import ChildKilledError, Failed, run_apart
from vididi.errors import DataError

pytestmark = needs_decord


def encode_apart(video: Video, decoder: str) -> Encoded:
    """As prepare does it."""
    settings = Settings(short_side=24, decoder=decoder)  # type: ignore[arg-type]
    (encoded,) = run_apart(partial(encode_video, settings=settings), [video], 1, 60)
    assert isinstance(encoded, Encoded)
    return encoded


def test_decord_is_installed_where_it_has_a_wheel() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import decord"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
        raise DataError("no such codec")

    monkeypatch.setattr(encode, "open_with_decord", broken)
    assert isinstance(encode_video(video, Settings(short_side=24, decoder="decord")), Encoded)
    assert asked == [video.path]


def test_decord_is_not_asked_unless_told_to(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "open_with_decord", lambda path: pytest.fail("decord was asked"))
    assert isinstance(encode_video(video, Settings(short_side=24)), Encoded)


# --- Which process has it -------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
import psutil
from vididi.data.encode import Settings
from vididi.data.prepare import prepare
from vididi.data.video import Video

def libraries(process):
    names = {Path(mapped.path).as_posix() for mapped in process.memory_maps()}
    return [any(part in name for name in names) for part in ("/decord/", "/av.libs/")]

def look(*_):
    for process in psutil.Process().children(recursive=True):
        print("child", *libraries(process), flush=True)

if __name__ == "__main__":
    videos = [Video(Path(path), path, "c", "train") for path in sys.argv[2:]]
    prepare(videos, Path(sys.argv[1]), Settings(24, decoder="decord"), {}, look, workers=1)
    print("parent", "decord" in sys.modules, libraries(psutil.Process())[0])
"""


def test_no_process_has_both_decord_and_pyav(video: Video, tmp_path: Path, repo_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "set"), str(video.path)],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=True,
    )
    *children, parent = done.stdout.splitlines()
    assert parent == "parent False False"
    assert "child True False" in children, "the process that decord is loaded in"
    assert "child False True" in children, "the worker, which has PyAV"
    assert "child True True" not in children


def test_nothing_else_imports_decord(repo_root: Path) -> None:
    importing = [
        path.relative_to(repo_root).as_posix()
        for path in (repo_root / "vididi").rglob("*.py")
        if "import decord\n" in path.read_text() or "from decord " in path.read_text()
    ]
    assert importing in ([], ["vididi/data/decord_process.py"])


# --- Where it fails -------------------------------------------------------------------------------


def running_child() -> decord_process._Child:
    assert decord_process._child is not None
    return decord_process._child


def test_a_process_reads_one_file_after_another(video: Video) -> None:
    frames = []
    for _ in range(2):
        with open_in_child(video.path) as (pictures, _):
            frames.append(np.stack(list(pictures)))
        child = running_child().process.pid
    assert frames[0].shape == (150, 48, 64, 3)
    assert np.array_equal(*frames)
    with open_in_child(video.path) as (pictures, _):
        list(pictures)
    assert running_child().process.pid == child


def test_what_decord_refuses_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "noise.mp4"
    path.write_bytes(b"\0" * 1000)
    with pytest.raises(DataError, match=r"^RuntimeError: Error reading "), open_in_child(path):
        pass


def crash_in_the_middle(video: Video, number: signal.Signals) -> None:
    with open_in_child(video.path) as (pictures, _):
        next(pictures)
        os.kill(running_child().process.pid, number)
        list(pictures)


def test_a_crash_is_a_reason_and_the_next_file_is_read_by_another_process(video: Video) -> None:
    with pytest.raises(DataError, match=r"^decord crashed \(signal 11\)"):
        crash_in_the_middle(video, signal.SIGSEGV)
    assert decord_process._child is None
    with open_in_child(video.path) as (pictures, _):
        assert len(list(pictures)) == 150


def test_a_crash_leaves_the_video_to_pyav(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = decord_process._Child.request

    def crash(self: decord_process._Child, path: Path) -> None:
        sent(self, path)
        self.process.send_signal(signal.SIGABRT)

    monkeypatch.setattr(decord_process._Child, "request", crash)
    encoded = encode_video(video, Settings(short_side=24, decoder="decord"))
    assert encoded == encode_apart(video, "pyav")


def killed(video: Video) -> Encoded | Reject:
    crash_in_the_middle(video, signal.SIGKILL)
    raise AssertionError("unreached")


def test_a_killed_process_says_nothing_of_the_file(video: Video) -> None:
    with pytest.raises(ChildKilledError):
        killed(video)
    (result,) = run_apart(killed, [video], 1, 60)
    assert result == Failed(
        "decoder crashed twice (signal 9: killed, as it happens when memory runs out)"
    )


def test_a_decord_that_cannot_be_loaded_is_not_taken_for_a_bad_video(
    video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "decord.py").write_text("raise ImportError('libGL')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(decord_process, "_child", None)
    with pytest.raises(RuntimeError, match=r"^decord cannot be loaded \(exit status 1\)"):
        encode_video(video, Settings(short_side=24, decoder="decord"))


# --- Where it is asked for ------------------------------------------------------------------------


def test_where_decord_is_not_installed_asking_for_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encode, "find_spec", lambda name: None)
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
