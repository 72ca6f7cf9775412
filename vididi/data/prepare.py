"""Prepare a source once: decode, resize the short side, encode each frame as JPEG, write Parquet shards."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vididi.data.shards import INDEX_SCHEMA, SHARD_SCHEMA, SPLITS, VERSION, Manifest, ShardSet, shard_name
from vididi.data.video import Video, read_video, short_side_size
from vididi.errors import DataError

Progress = Callable[[int, int, int], None]  # videos done, videos in all, rejects

ROW_GROUP_BYTES = 1 << 20  # what reading one video at random costs at most, beyond the video itself
SHARD_BYTES = 128 << 20


@dataclass(frozen=True)
class Settings:
    """short_side: pixels (ViDiDi E.1: 150). quality: JPEG quality, 1 to 100."""

    short_side: int = 150
    quality: int = 95

    def __post_init__(self) -> None:
        if self.short_side < 8:
            raise ValueError(f"short_side: {self.short_side} is not valid; it must be at least 8 pixels")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: {self.quality} is not valid; it must lie in 1 to 100")


@dataclass(frozen=True)
class Encoded:
    """A video ready for a shard."""

    frames: list[bytes]
    fps: float
    height: int
    width: int
    source_sha256: str


@dataclass(frozen=True)
class Reject:
    """A video that could not be prepared, and why."""

    video_id: str
    path: str
    reason: str


def encode_video(video: Video, settings: Settings) -> Encoded | Reject:
    """Decode, resize and encode one video."""
    try:
        frames, fps = read_video(video.path)
        height, width = short_side_size(frames.shape[1], frames.shape[2], settings.short_side)
        jpegs = [_encode_frame(frame, height, width, settings.quality) for frame in frames]
        checksum = sha256(video.path.read_bytes()).hexdigest()
    except (DataError, OSError) as error:
        return Reject(video.video_id, str(video.path), str(error))
    return Encoded(jpegs, fps, height, width, checksum)


def _encode_frame(frame: NDArray[np.uint8], height: int, width: int, quality: int) -> bytes:
    import simplejpeg
    from PIL import Image

    if frame.shape[:2] != (height, width):
        frame = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
    return simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality=quality, colorsubsampling="420")


def prepare(
    videos: list[Video], out: Path, settings: Settings, source: dict[str, Any], progress: Progress | None = None, workers: int | None = None
) -> ShardSet:
    """Write ``videos`` as shards under ``out``.

    The result depends on the videos and the settings alone, not on ``workers``. It is written aside and renamed, so that
    ``out`` either holds a complete set or nothing.

    Args:
        progress: called with (videos done, videos in all, rejects) after each video.

    Raises:
        DataError: no video could be prepared, or ``out`` exists and is not a prepared set.
    """
    if not videos:
        raise DataError("data: the source lists no videos")
    aside = out.with_name(f"{out.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    classes = sorted({video.class_name for video in videos})
    writer = _ShardWriter(aside, {name: label for label, name in enumerate(classes)})
    rejects: list[Reject] = []
    for done, (video, result) in enumerate(_encode_all(videos, settings, workers), 1):
        if isinstance(result, Reject):
            rejects.append(result)
        else:
            writer.add(video, result)
        if progress is not None:
            progress(done, len(videos), len(rejects))
    if len(rejects) == len(videos):
        shutil.rmtree(aside)
        raise DataError(f"none of {len(videos)} videos could be prepared; the first: {rejects[0].path}: {rejects[0].reason}")
    _write_rejects(aside / "rejects.csv", rejects)
    manifest = writer.close(classes, len(rejects), source, asdict(settings))
    (aside / "manifest.json").write_text(manifest.to_json())
    _publish(aside, out)
    return ShardSet.open(out)


def _publish(aside: Path, out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    try:
        aside.rename(out)
    except OSError:
        shutil.rmtree(aside)
        if not (out / "manifest.json").is_file():  # else another process prepared the same set first
            raise DataError(f"{out}: exists and is not a prepared data set; give an empty or a new folder") from None


def _encode_all(videos: list[Video], settings: Settings, workers: int | None) -> Iterator[tuple[Video, Encoded | Reject]]:
    """Results in the order of the videos, at most a few dozen videos ahead of the writer."""
    workers = workers or min(os.cpu_count() or 1, len(videos))
    encode = partial(encode_video, settings=settings)
    # spawn: decoders start threads, and a fork would copy their locks.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for start in range(0, len(videos), 16 * workers):
            batch = videos[start : start + 16 * workers]
            yield from zip(batch, pool.map(encode, batch, chunksize=2), strict=True)


def _write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video_id", "path", "reason"])
        table.writerows([reject.video_id, reject.path, reject.reason] for reject in rejects)


@dataclass
class _ShardWriter:
    root: Path
    labels: dict[str, int]
    pending: list[dict[str, Any]] = field(default_factory=list)
    pending_bytes: int = 0
    shard: int = 0
    shard_bytes: int = 0
    row_group: int = 0
    file: pq.ParquetWriter | None = None
    index: list[dict[str, Any]] = field(default_factory=list)

    def add(self, video: Video, encoded: Encoded) -> None:
        row = {
            "video_id": video.video_id,
            "label": self.labels[video.class_name],
            "class_name": video.class_name,
            "scene": video.scene,
            "split": video.split,
            "frame_count": len(encoded.frames),
            "fps": encoded.fps,
            "height": encoded.height,
            "width": encoded.width,
            "source_sha256": encoded.source_sha256,
            "frames_sha256": sha256(b"".join(sha256(frame).digest() for frame in encoded.frames)).hexdigest(),
        }
        self.index.append({**row, "shard": self.shard, "row_group": self.row_group, "row": len(self.pending)})
        self.pending.append({**row, "frames": encoded.frames})
        self.pending_bytes += sum(map(len, encoded.frames))
        if self.pending_bytes >= ROW_GROUP_BYTES:
            self._write_row_group()

    def _write_row_group(self) -> None:
        if self.pending:
            if self.file is None:
                # JPEG does not compress further, so neither codec nor dictionary for the frames.
                self.file = pq.ParquetWriter(self.root / shard_name(self.shard), SHARD_SCHEMA, compression="none", use_dictionary=False)
            self.file.write_table(pa.Table.from_pylist(self.pending, SHARD_SCHEMA))
            self.row_group += 1
        self.shard_bytes += self.pending_bytes
        self.pending, self.pending_bytes = [], 0
        if self.shard_bytes >= SHARD_BYTES:
            self._close_shard()

    def _close_shard(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file, self.shard, self.shard_bytes, self.row_group = None, self.shard + 1, 0, 0

    def close(self, classes: list[str], rejects: int, source: dict[str, Any], settings: dict[str, Any]) -> Manifest:
        self._write_row_group()
        self._close_shard()
        pq.write_table(pa.Table.from_pylist(self.index, INDEX_SCHEMA), self.root / "index.parquet")
        digest = sha256()
        for row in self.index:
            digest.update("\0".join([row["video_id"], str(row["label"]), row["split"], row["frames_sha256"]]).encode() + b"\n")
        return Manifest(
            version=VERSION,
            videos={split: sum(row["split"] == split for row in self.index) for split in SPLITS},
            frames=sum(row["frame_count"] for row in self.index),
            rejects=rejects,
            shards=self.shard,
            classes=classes,
            checksum=digest.hexdigest(),
            source=source,
            prepare=settings,
        )
