"""What frames of prepared videos should be stored as: size, speed and loss of each format.

    python benchmarks/storage_format.py --out benchmarks/results/storage_format.json
    python benchmarks/storage_format.py --videos DIR         real files instead of synthetic ones

A clip is 10 frames, one of every 3, from a random place of a random video; one thread, by turns.
PSNR is against the resized frames of the source. The second table is what one clip costs to read
from Parquet with row groups of 1 MiB.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from synthetic_videos import make_videos

from vididi.data.encode import short_side_size
from vididi.data.video_reader import read_video

LENGTH, STRIDE, SEGMENT, GROUP_BYTES = 10, 3, 32, 1 << 20
SPAN = (LENGTH - 1) * STRIDE + 1
Frames = NDArray[np.uint8]


# --- Ways to store a video: frames to rows of bytes, and a clip back ------------------------------


def to_jpeg(frames: Frames, quality: int) -> list[bytes]:
    """Each frame as a JPEG with 4:2:0 chroma."""
    return [
        simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality=quality, colorsubsampling="420")
        for frame in frames
    ]


def from_jpeg(stored: list[bytes], picks: NDArray, shape: tuple[int, ...]) -> Frames:
    """Frames ``picks`` of a video of JPEGs, ``[N, H, W, 3]``; ``shape`` is that of a frame."""
    out = np.empty((len(picks), *shape), np.uint8)
    for frame, pick in zip(out, picks, strict=True):
        simplejpeg.decode_jpeg(stored[pick], buffer=frame)
    return out


def to_raw(frames: Frames) -> list[bytes]:
    """Each frame as its pixels."""
    return [frame.tobytes() for frame in frames]


def from_raw(stored: list[bytes], picks: NDArray, shape: tuple[int, ...]) -> Frames:
    """Frames ``picks`` of a video of raw frames, ``[N, H, W, 3]``."""
    out = np.empty((len(picks), *shape), np.uint8)
    for frame, pick in zip(out, picks, strict=True):
        frame[:] = np.frombuffer(stored[pick], np.uint8).reshape(shape)
    return out


GOP = 8


def to_h264(frames: Frames, crf: int) -> list[bytes]:
    """One small file per group of pictures, so that a clip opens only the groups it touches."""
    return [_encode_group(frames[first : first + GOP], crf) for first in range(0, len(frames), GOP)]


def _encode_group(frames: Frames, crf: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="h264") as container:
        options = {"crf": str(crf), "preset": "medium", "threads": "1", "g": str(GOP), "bf": "0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def from_h264(stored: list[bytes], picks: NDArray, shape: tuple[int, ...]) -> Frames:
    """Frames ``picks`` of a video of H.264 groups, each of which is opened once."""
    out = np.empty((len(picks), *shape), np.uint8)
    for group in np.unique(picks // GOP):
        indices = np.flatnonzero(picks // GOP == group)
        for i, frame in zip(
            indices, _decode_group(stored[group], picks[indices] % GOP), strict=True
        ):
            out[i] = frame
    return out


def _decode_group(stored: bytes, positions: NDArray) -> Iterator[Frames]:
    """The frames at rising ``positions`` of a group.

    What lies behind the last is not decoded, what lies between not converted.
    """
    codec = av.CodecContext.create("h264", "r")
    codec.thread_count = 1
    number, remaining = 0, set(positions.tolist())
    for packet in [*codec.parse(stored), *codec.parse(None), None]:
        for picture in codec.decode(packet):
            if number in remaining:
                yield picture.to_ndarray(format="rgb24")
            number += 1
        if number > positions[-1]:
            return


Encode, Decode = (
    Callable[[Frames], list[bytes]],
    Callable[[list[bytes], NDArray, tuple[int, ...]], Frames],
)
FORMATS: dict[str, tuple[Encode, Decode]] = {
    "JPEG 85": (lambda frames: to_jpeg(frames, 85), from_jpeg),
    "JPEG 90": (lambda frames: to_jpeg(frames, 90), from_jpeg),
    "JPEG 95": (lambda frames: to_jpeg(frames, 95), from_jpeg),
    "raw": (to_raw, from_raw),
    "H.264 GOP 8, crf 18": (lambda frames: to_h264(frames, 18), from_h264),
    "H.264 GOP 8, crf 23": (lambda frames: to_h264(frames, 23), from_h264),
}


# --- Measuring ------------------------------------------------------------------------------------


def psnr(frames: Frames, stored: Frames) -> float:
    """Peak signal-to-noise ratio in decibels; infinity for equal frames."""
    error = np.square(frames.astype(np.float32) - stored).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def speed(
    decode: Decode, stored: list[list[bytes]], videos: list[Frames], seconds: float, turn: int
) -> float:
    """Clips per second of one thread; the same clips for every way."""
    random, clips, began = np.random.default_rng(turn), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        which = int(random.integers(len(videos)))
        first = int(random.integers(len(videos[which]) - SPAN + 1))
        decode(stored[which], first + STRIDE * np.arange(LENGTH), videos[which].shape[1:])
        clips += 1
    return clips / (time.perf_counter() - began)


def measure_formats(
    videos: list[Frames], turns: int, seconds: float
) -> dict[str, dict[str, float]]:
    """Size, speed and loss of each of FORMATS for the same videos."""
    stored = {name: [encode(video) for video in videos] for name, (encode, _) in FORMATS.items()}
    rates: dict[str, list[float]] = {name: [] for name in FORMATS}
    for turn in range(turns):
        for name, (_, decode) in FORMATS.items():
            rates[name].append(speed(decode, stored[name], videos, seconds, turn))
    return {
        name: {
            "kib_per_video": mean(sum(map(len, video)) for video in stored[name]) / 1024,
            "clips_per_second_per_core": median(rates[name]),
            "psnr_db": mean(
                psnr(video, decode(rows, np.arange(len(video)), video.shape[1:]))
                for video, rows in zip(videos, stored[name], strict=True)
            ),
        }
        for name, (_, decode) in FORMATS.items()
    }


def write_rows(path: Path, rows: list[list[bytes]]) -> list[int]:
    """Rows of frames in row groups of 1 MiB, as data/prepare.py does; the row group of each row."""
    schema, groups, pending, number = pa.schema([("frames", pa.list_(pa.binary()))]), [], [], 0
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for last, row in zip([False] * (len(rows) - 1) + [True], rows, strict=True):
            pending.append(row)
            groups.append(number)
            if last or sum(len(frame) for stored in pending for frame in stored) >= GROUP_BYTES:
                file.write_table(pa.table({"frames": pending}, schema))
                pending, number = [], number + 1
    return groups


def measure_rows(
    videos: list[Frames], stored: list[list[bytes]], clips: int, work: Path
) -> dict[str, dict[str, float]]:
    """Bytes and seconds that the row groups of a clip cost, and stored bytes.

    For rows of whole videos and of segments.
    """
    results = {}
    for step in (1, 2):  # frame stride at preparation: of every `step` frames one is kept
        subsampled = [frames[::step] for frames in stored]
        for name, length in (("video", max(map(len, videos))), (f"segment of {SEGMENT}", SEGMENT)):
            label = f"row per {name}, frame stride {step}"
            results[label] = measure_layout(
                work / "rows.parquet", subsampled, length, -(-STRIDE // step), clips
            )
    return results


def measure_layout(
    path: Path, videos: list[list[bytes]], length: int, stride: int, clips: int
) -> dict[str, float]:
    """What reading random clips costs with rows of ``length`` frames."""
    rows = [
        (which, video[first : first + length])
        for which, video in enumerate(videos)
        for first in range(0, len(video), length)
    ]
    groups = write_rows(path, [row for _, row in rows])
    first_row = {which: number for number, (which, _) in reversed(list(enumerate(rows)))}
    random, read, began = np.random.default_rng(0), 0, time.perf_counter()

    with pq.ParquetFile(path) as file:
        for _ in range(clips):
            which = int(random.integers(len(videos)))
            span = (LENGTH - 1) * stride + 1
            start = int(random.integers(max(1, len(videos[which]) - span + 1)))
            picks = np.minimum(start + stride * np.arange(LENGTH), len(videos[which]) - 1)
            for group in {groups[first_row[which] + pick // length] for pick in picks.tolist()}:
                read += file.read_row_group(group).nbytes

    return {
        "kib_read_per_clip": read / clips / 1024,
        "ms_read_per_clip": (time.perf_counter() - began) * 1000 / clips,
        "kib_per_video": mean(sum(map(len, video)) for video in videos) / 1024,
    }


# --- The run --------------------------------------------------------------------------------------


def load_videos(folder: Path, short_side: int) -> list[Frames]:
    """The videos under ``folder`` that hold a clip, resized to ``short_side``."""
    videos = []
    for path in sorted(file for file in folder.rglob("*") if file.suffix in (".mp4", ".avi")):
        frames, _ = read_video(path)
        height, width = short_side_size(*frames.shape[1:3], short_side)
        width, height = width - width % 2, height - height % 2  # H.264 wants even sides
        if len(frames) >= SPAN:
            videos.append(
                np.stack(
                    [
                        np.asarray(
                            Image.fromarray(f).resize((width, height), Image.Resampling.BILINEAR)
                        )
                        for f in frames
                    ]
                )
            )
    return videos


def main() -> None:
    """Measure formats and rows, print both tables and write them to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--videos", type=Path, metavar="DIR", help="a folder of real videos (.mp4, .avi)"
    )
    parser.add_argument("--count", type=int, default=24, help="synthetic videos of 320 x 240")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--short-side", type=int, default=150)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="timed in each turn")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as work:
        folder = arguments.videos or Path(work) / "videos"
        if arguments.videos is None:
            make_videos(
                folder, arguments.count, arguments.frames, 240, 320, len(os.sched_getaffinity(0))
            )
        videos = load_videos(folder, arguments.short_side)
        formats = measure_formats(videos, arguments.turns, arguments.seconds)
        rows = measure_rows(videos, [to_jpeg(video, 95) for video in videos], 400, Path(work))

    print(f"{len(videos)} videos of {mean(map(len, videos)):.0f} frames")
    for table in (formats, rows):
        print(f"\n{'':38}" + "".join(f"{name:>28}" for name in next(iter(table.values()))))
        for name, columns in table.items():
            print(f"{name:38}" + "".join(f"{value:28.1f}" for value in columns.values()))

    if arguments.out:
        source = "real" if arguments.videos else "synthetic"
        content: dict[str, Any] = {
            "videos": len(videos),
            "source": source,
            "machine": platform.machine(),
            "date": time.strftime("%Y-%m-%d"),
        }
        arguments.out.write_text(
            json.dumps({**content, "ways": formats, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
