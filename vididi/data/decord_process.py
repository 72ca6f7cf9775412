"""decord in a process of its own, which decodes videos and hands their frames back.

decord 0.6.0 bundles an old FFmpeg. Loaded beside PyAV's, symbols of one can stand for those of the
other; and it crashes on odd files. So no process that uses PyAV imports decord. The process that
prepares a video starts this module as a child, sends it a path, and receives the frames one by one.
The child reads one file after another, and ends when its parent does. One that crashed, or was left
in the middle of a file, is replaced when the next file is to be read.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.data.workers import ChildKilledError, exit_cause
from vididi.errors import DataError
from vididi.interrupts import ignore_all

CHUNK = 64  # frames that the child holds as pictures at a time

_child: _Child | None = None  # of this process


@contextmanager
def open_in_child(path: Path) -> Iterator[tuple[Iterator[NDArray[np.uint8]], float]]:
    """The frames of a video file ``[H, W, 3]`` (RGB) as decord reads them, and its frame rate.

    Raises:
        DataError: decord refuses the file, or its process crashed; also while the frames are read.
        ChildKilledError: its process was killed, or could not be started, which says nothing of
            the file.
        RuntimeError: decord cannot be loaded.
    """
    global _child
    _child = child = _child or _Child()
    complete = False

    def frames(count: int) -> Iterator[NDArray[np.uint8]]:
        nonlocal complete
        for _ in range(count):
            yield child.receive()
        complete = True

    try:
        child.request(path)
        count, rate = child.receive()
        if not count:
            raise DataError("no frames")
        yield frames(count), rate
    finally:
        if not complete:
            child.end()
            _child = None


# --- In the parent --------------------------------------------------------------------------------


class _Child:
    """The process that has decord, and the parent's end of the pipe to it.

    It says that it is ready, with None. Then follow, for each path: the number of frames and the
    rate, and each frame; or a text, why there are no (more) frames.
    """

    def __init__(self) -> None:
        search_path = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        try:
            self.pipe, child_end = Pipe()
            with child_end:
                # Not one of multiprocessing's: workers are daemons, which may not start such a one.
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", __name__, str(child_end.fileno())],
                    pass_fds=[child_end.fileno()],
                    env={**os.environ, "PYTHONPATH": search_path},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
        except OSError as error:  # the machine lacks memory, processes or open files
            raise ChildKilledError(f"decord's process cannot be started: {error}") from None
        try:
            self.pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError(
                f"decord cannot be loaded ({exit_cause(self._exit_code())})"
            ) from None

    def request(self, path: Path) -> None:
        """Ask for the frames of a file."""
        try:
            self.pipe.send(str(path))
        except OSError:
            raise self._crashed() from None

    def receive(self) -> Any:
        """The next message: count and rate, or a frame."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            raise self._crashed() from None
        if isinstance(message, str):
            raise DataError(message)
        return message

    def _crashed(self) -> DataError:
        return DataError(f"decord crashed ({exit_cause(self._exit_code())})")

    def _exit_code(self) -> int:
        """Of the child, whose pipe has ended; ChildKilledError if it was killed."""
        self.pipe.close()
        code = self.process.wait()
        if code == -signal.SIGKILL:
            raise ChildKilledError("decord's process was killed")
        return code

    def end(self) -> None:
        """Kill it, if it lives."""
        self.process.kill()
        self.process.wait()
        self.pipe.close()


# --- In the child ---------------------------------------------------------------------------------


def main() -> None:
    """Read the files whose paths come through the pipe, until the parent is gone."""
    import decord  # noqa: F401  (a process that cannot load it never gets ready)

    ignore_all()  # they are the parent's to handle
    pipe = Connection(int(sys.argv[1]))
    paths: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_receive_paths, args=(pipe, paths), daemon=True).start()
    try:
        pipe.send(None)
        while True:
            _send_video(pipe, paths.get())
    except OSError:  # the parent is gone
        os._exit(0)  # decord's threads abort a process that ends in the ordinary way


def _receive_paths(pipe: Connection, paths: SimpleQueue[str]) -> None:
    """Put paths into the queue until the parent is gone, then end the process.

    It ends whatever decord is doing: one that hangs must not outlive its parent.
    """
    try:
        while True:
            paths.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)


def _send_video(pipe: Connection, path: str) -> None:
    import decord

    try:
        reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        count = len(reader)
        pipe.send((count, float(reader.get_avg_fps())))
        for start in range(0, count, CHUNK):
            for frame in reader.get_batch(range(start, min(start + CHUNK, count))).asnumpy():
                pipe.send(frame)
    except OSError:
        raise
    except Exception as error:  # decord raises what it likes
        pipe.send(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
