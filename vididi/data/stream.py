"""From a plan to batches: fetch encoded frames, decode them, prefetch. ``local_stream`` does it
with threads, without Ray.

The two halves are separate on purpose: moving encoded frames between processes costs a tenth of
moving pixels, so a distributed stream fetches anywhere and decodes in the training process.
"""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.data.plan import Plan, Request
from vididi.data.shards import FrameReader, ShardSet
from vididi.errors import DamagedError

STOP_CHECK_S = 0.2  # how often a full queue asks whether the consumer has stopped


@dataclass(frozen=True)
class Batch:
    """Decoded clips.

    rows: ``[B]``, index rows of the videos. sizes: ``[B, 2]``, true height and width.
    starts: ``[B, K]``, first source frames. clips: uint8 ``[B, K, N, H, W, 3]``, padded with zeros
    at the right and the bottom where videos differ in size.
    """

    rows: NDArray[np.int64]
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    clips: NDArray[np.uint8]


def fetch(reader: FrameReader, request: Request) -> list[memoryview]:
    """The encoded frames of a request, clip by clip."""
    return [
        jpeg
        for row, picks in zip(request.rows, request.frames, strict=True)
        for jpeg in reader.frames(int(row), picks.reshape(-1))
    ]


class Buffers:
    """Memory for batches, used again once no array refers to the earlier batch.

    Fresh memory of 58 MB, a batch of the default size, costs 12 ms of page faults, a fifth of what
    decoding into it does.
    """

    def __init__(self) -> None:
        # Operations of a deque are atomic, so threads may share it.
        self._free: deque[NDArray[np.uint8]] = deque()

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of any content."""
        size = math.prod(shape)
        return np.asarray(_Lease(self._take(size), self._free))[:size].reshape(shape)

    def _take(self, size: int) -> NDArray[np.uint8]:
        with suppress(IndexError):
            block = self._free.popleft()
            # One that does not fit is dropped, so what stays is what is needed now.
            if size <= block.size <= 4 * size:
                return block
        return np.empty(size, np.uint8)


class _Lease:
    """What an array and all its views refer to; when the last one is gone the memory is free."""

    def __init__(self, block: NDArray[np.uint8], free: deque[NDArray[np.uint8]]) -> None:
        self.__array_interface__ = block.__array_interface__
        self._block, self._free = block, free

    def __del__(self) -> None:
        self._free.append(self._block)


def decode(
    jpegs: Sequence[memoryview], request: Request, shards: ShardSet, buffers: Buffers
) -> Batch:
    """Decode a fetched request.

    Raises:
        DamagedError: a frame cannot be decoded, or has another size than the index says; it names
            set, video and frame.
    """
    import simplejpeg

    batch, clips, length = request.frames.shape
    if len(jpegs) != request.frames.size:
        raise DamagedError(
            f"{shards.root}: {len(jpegs)} frames came where {request.frames.size} were asked for"
        )
    sizes = shards.sizes[request.rows]
    height, width = sizes.max(axis=0)
    # It still holds an earlier batch, so every pixel must be written.
    pixels_out = buffers.empty((batch, clips * length, height, width, 3))

    for i, jpeg in enumerate(jpegs):
        video, frame = divmod(i, clips * length)
        h, w = sizes[video]
        is_largest = h == height and w == width
        try:
            pixels = simplejpeg.decode_jpeg(
                jpeg, buffer=pixels_out[video, frame] if is_largest else None
            )
        except ValueError as error:
            raise _damaged(
                shards, request, i, f"cannot be decoded to {h} x {w} pixels: {error}"
            ) from None
        if pixels.shape != (h, w, 3):
            fault = (
                f"is {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), where"
                f" index.parquet says {h} x {w}"
            )
            raise _damaged(shards, request, i, fault)

        if not is_largest:
            pixels_out[video, frame, :h, :w] = pixels
            pixels_out[video, frame, h:] = 0
            pixels_out[video, frame, :h, w:] = 0
    return Batch(
        request.rows,
        sizes,
        request.frames[:, :, 0],
        pixels_out.reshape(batch, clips, length, height, width, 3),
    )


def _damaged(shards: ShardSet, request: Request, number: int, what: str) -> DamagedError:
    """The error of a request's frame, by its number among all of them."""
    video, frame = divmod(number, request.frames[0].size)
    name = shards.index.column("video_id")[int(request.rows[video])].as_py()
    return DamagedError(
        f"{shards.root}: video {name!r}, frame {request.frames[video].reshape(-1)[frame]}: {what}"
    )


# (plan, first batch) -> batches in the plan's order
Stream = Callable[[Plan, int], Iterator[Batch]]


def local_stream(
    shards: ShardSet, threads: int = 1, depth: int = 4, reader: FrameReader | None = None
) -> Stream:
    """A stream that reads and decodes in threads of this process, ``depth`` batches ahead."""
    reader, buffers = reader or FrameReader(shards), Buffers()

    def stream(plan: Plan, start: int) -> Iterator[Batch]:
        lock = threading.Lock()

        def load(number: int) -> Batch:
            request = plan[number]
            with lock:  # the reader's cache is not thread-safe; reading is a small part of the work
                jpegs = fetch(reader, request)
            return decode(jpegs, request, shards, buffers)

        return _ahead(load, range(start, len(plan)), threads, depth)

    return stream


def _ahead(
    load: Callable[[int], Batch], numbers: Iterable[int], threads: int, depth: int
) -> Iterator[Batch]:
    with ThreadPoolExecutor(threads) as pool:
        waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            for number in numbers:
                waiting.put(pool.submit(load, number))
                if waiting.qsize() >= depth:
                    yield waiting.get().result()
            while not waiting.empty():
                yield waiting.get().result()
        finally:
            while not waiting.empty():
                waiting.get().cancel()


def background(items: Iterable[Any], depth: int) -> Generator[Any, None, None]:
    """Iterate ``items`` in a thread, ``depth`` ahead. Errors are raised where the consumer is."""
    out: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def run() -> None:
        try:
            for item in items:
                if not _put(out, ("item", item), stop):
                    return
            _put(out, ("end", None), stop)
        except BaseException as error:  # handed over, not swallowed
            _put(out, ("error", error), stop)

    thread = threading.Thread(target=run, name="vididi-stream", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = out.get()
            if kind == "error":
                raise item
            if kind == "end":
                return
            yield item
    finally:
        stop.set()
        thread.join()


def _put(out: queue.Queue, item: Any, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            out.put(item, timeout=STOP_CHECK_S)
            return True
        except queue.Full:
            continue
    return False
