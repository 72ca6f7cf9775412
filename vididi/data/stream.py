"""From a plan to batches: fetch encoded frames, decode them, prefetch. ``local_stream`` does it with threads, without Ray.

The two halves are separate on purpose: moving encoded frames between processes costs a tenth of moving pixels, so a
distributed stream fetches anywhere and decodes in the training process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vididi.data.plan import Plan, Request
from vididi.data.shards import FrameReader, ShardSet


@dataclass(frozen=True)
class Batch:
    """Decoded clips.

    rows: ``[B]`` index rows of the videos. sizes: ``[B, 2]`` true height and width. starts: ``[B, K]`` first source frames.
    clips: uint8 ``[B, K, N, H, W, 3]``, padded with zeros at the right and the bottom where videos differ in size.
    """

    rows: NDArray[np.int64]
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    clips: NDArray[np.uint8]


@dataclass(frozen=True)
class Packed:
    """The encoded frames of a request, end to end, and their lengths in bytes."""

    payload: bytes
    lengths: NDArray[np.int32]


def fetch(reader: FrameReader, request: Request) -> Packed:
    """Read the encoded frames of a request, clip by clip."""
    frames = [jpeg for row, picks in zip(request.rows, request.frames, strict=True) for jpeg in reader.frames(int(row), picks.reshape(-1))]
    return Packed(b"".join(frames), np.array([len(jpeg) for jpeg in frames], dtype=np.int32))


def decode(packed: Packed, request: Request, sizes: NDArray[np.int64]) -> Batch:
    """Decode a fetched request. ``sizes`` are those of every index row."""
    import simplejpeg

    batch, clips, length = request.frames.shape
    own = sizes[request.rows]
    height, width = own.max(axis=0)
    # Frames of one size fill the array whole; else the padding must be zero.
    allocate = np.empty if (own == own[0]).all() else np.zeros
    out = allocate((batch, clips * length, height, width, 3), dtype=np.uint8)
    ends = np.cumsum(packed.lengths, dtype=np.int64)
    view = memoryview(packed.payload)
    for i in range(len(ends)):
        video, frame = divmod(i, clips * length)
        jpeg = view[ends[i] - packed.lengths[i] : ends[i]]
        h, w = own[video]
        if h == height and w == width:
            simplejpeg.decode_jpeg(jpeg, buffer=out[video, frame])
        else:
            out[video, frame, :h, :w] = simplejpeg.decode_jpeg(jpeg)
    return Batch(request.rows, own, request.frames[:, :, 0], out.reshape(batch, clips, length, height, width, 3))


Stream = Callable[[Plan, int], Iterator[Batch]]  # (plan, first batch) -> batches in the plan's order


def local_stream(shards: ShardSet, threads: int = 1, depth: int = 4) -> Stream:
    """A stream that reads and decodes in ``threads`` threads of this process, up to ``depth`` batches ahead."""
    reader = FrameReader(shards)

    def stream(plan: Plan, start: int) -> Iterator[Batch]:
        lock = threading.Lock()

        def load(number: int) -> Batch:
            request = plan[number]
            with lock:  # the reader's cache is not thread-safe; reading is a small part of the work
                packed = fetch(reader, request)
            return decode(packed, request, shards.sizes)

        return _ahead(load, range(start, len(plan)), threads, depth)

    return stream


def _ahead(load: Callable[[int], Batch], numbers: Iterable[int], threads: int, depth: int) -> Iterator[Batch]:
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
            out.put(item, timeout=0.2)
            return True
        except queue.Full:
            continue
    return False
