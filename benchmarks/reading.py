"""Two random clips of 10 frames of a video: from a prepared set, and in other ways.

    python benchmarks/reading.py --out benchmarks/results/reading.json

All read the same videos on one thread, a video at a time and by turns; what counts is CPU time.

    ours         vididi.data: the clips' JPEGs out of Parquet shards, decoded by simplejpeg
    webdataset   a tar file with the same JPEGs, a video a sample, read from its beginning to its
                 end as WebDataset does (all frames of a video come), decoded by simplejpeg
    torchcodec   the source file, opened and sought in by torchcodec, at its own size

A package that is not installed, torchcodec without FFmpeg's libraries too, is left out by name.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import simplejpeg
import torch
from by_turns import cpu_seconds, times_as_fast
from numpy.typing import NDArray
from synthetic_videos import make_videos

from vididi.components import resolve
from vididi.config import build_config
from vididi.data.plan import Request
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.stream import Buffers, decode, fetch
from vididi.prepared import ensure_prepared
from vididi.provenance import measured_by

CLIPS, LENGTH, STRIDE = 2, 10, 3
Picks = NDArray[np.int64]  # frame numbers [CLIPS, LENGTH]
Reading = Callable[[int, Picks], Any]  # of the video of an index row


def of_ours(shards: ShardSet) -> Reading:
    """As a stream reads."""
    reader, buffers = FrameReader(shards), Buffers()

    def read(row: int, picks: Picks) -> Any:
        request = Request(np.array([row]), picks[None])
        return decode(fetch(reader, request), request, shards, buffers).clips

    return read


def of_webdataset(shards: ShardSet, place: Path) -> Reading:
    """The next sample of the tar file, whatever its row; frames lie in it one after the other."""
    import webdataset

    path, reader = place / "frames.tar", FrameReader(shards)
    with tarfile.open(path, "w") as tar:
        for row, count in enumerate(shards.column("frame_count")):
            frames = reader.frames(row, np.arange(count))
            ends = np.cumsum([len(frame) for frame in frames])
            for name, content in {"jpegs": b"".join(frames), "npy": as_npy(ends)}.items():
                info = tarfile.TarInfo(f"{row:06d}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    samples = cycle_of(lambda: iter(webdataset.WebDataset(str(path), shardshuffle=False)))

    def read(row: int, picks: Picks) -> Any:
        sample = next(samples)
        ends = np.load(io.BytesIO(sample["npy"]))
        starts, content = [0, *ends[:-1]], memoryview(sample["jpegs"])
        frames = [content[starts[t] : ends[t]] for t in picks.reshape(-1) % len(ends)]
        return np.stack([simplejpeg.decode_jpeg(bytes(frame)) for frame in frames])

    return read


def of_torchcodec(shards: ShardSet, videos: Path) -> Reading:
    """Opened anew for each video, as a data set does."""
    from torchcodec.decoders import VideoDecoder

    paths = [str(videos / name) for name in shards.column("video_id")]
    VideoDecoder(paths[0])  # FFmpeg's libraries are looked for here

    def read(row: int, picks: Picks) -> Any:
        decoder = VideoDecoder(paths[row], seek_mode="approximate", num_ffmpeg_threads=1)
        return decoder.get_frames_at(picks.reshape(-1).tolist()).data

    return read


def as_npy(array: NDArray) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def cycle_of(start: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """From the beginning again after each end."""
    for samples in cycle([start]):
        yield from samples()


def ways_of(shards: ShardSet, videos: Path, place: Path) -> dict[str, Reading]:
    """Those that can be had here; says why the others cannot."""
    makers: dict[str, Callable[[], Reading]] = {
        "ours": lambda: of_ours(shards),
        "webdataset": lambda: of_webdataset(shards, place),
        "torchcodec": lambda: of_torchcodec(shards, videos),
    }
    ways = {}
    for name, make in makers.items():
        try:
            ways[name] = make()
        except (ImportError, RuntimeError, OSError) as error:
            print(f"{name}: left out, {type(error).__name__}: {str(error).splitlines()[0]}")
    return ways


def measure(ways: dict[str, Reading], counts: NDArray, turns: int) -> dict[str, Any]:
    """CPU seconds of a pass over all videos, and how many times as fast ours is."""
    rows = np.random.default_rng(0).permutation(len(counts))

    def reads(read: Reading) -> Callable[[int], None]:
        def turn_of(turn: int) -> None:
            random = np.random.default_rng(turn)
            starts = random.integers(0, counts[rows] - (LENGTH - 1) * STRIDE, (CLIPS, len(rows)))
            picks = starts.T[..., None] + STRIDE * np.arange(LENGTH)
            for row, chosen in zip(rows.tolist(), picks, strict=True):
                read(row, chosen)

        return turn_of

    seconds = cpu_seconds({name: reads(read) for name, read in ways.items()}, turns)
    return {
        "ms_per_video": {name: 1e3 * median(s) / len(rows) for name, s in seconds.items()},
        "times_as_fast": times_as_fast(seconds, "ours"),
    }


def main() -> None:
    """Measure, print, write to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="6 videos of 40 frames, one turn")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.videos, arguments.frames, arguments.turns = 6, 40, 1
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as text:
        place = Path(text)
        make_videos(place / "videos" / "all", arguments.videos, arguments.frames, 240, 320, 1)
        data = {"name": "folder", "videos": str(place / "videos")}
        shards = ensure_prepared(resolve(build_config({"data": data})), place / "shards")
        ways = ways_of(shards, place / "videos", place)
        measured = measure(ways, shards.column("frame_count"), arguments.turns)
    for name, times in measured["times_as_fast"].items():
        print(f"two clips of {LENGTH} frames: {times:.2f} times as fast as {name}")
    if arguments.out:
        settings = {name: getattr(arguments, name) for name in ("videos", "frames", "turns")}
        content = {**measured_by(), "settings": settings, **measured}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
