"""The part of scale.py over plans: opening a set and planning an epoch of it, by videos.

No torch, so that memory is that of the data.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from own_process import apart, memory_mib

from vididi.data.encode import Settings
from vididi.data.journal import Journal
from vididi.data.layout import SHARD_SCHEMA, read_footer, shard_name
from vididi.data.plan import PretrainPlan, frame_counts
from vididi.data.shards import FrameReader, ShardSet, check_no_overlap

ROWS, QUICK_ROWS = (1_000, 10_000, 240_000, 1_000_000), (1_000, 4_000)
PER_SHARD = 128  # videos, each a row group of its own: 1 MiB of frames each
CLASSES = 400
LENGTH, STRIDE, BATCH, EPOCHS = 10, 3, 64, 200
FOOTERS = 200  # that are read, at most


def measure(quick: bool, work: Path) -> dict[str, Any]:
    """Sets of more and more videos: written, opened and planned, each in a process of its own."""
    rows = []
    for count in QUICK_ROWS if quick else ROWS:
        written = apart(write_set, work / f"set-{count}", count)
        rows.append({"rows": count, **written, **apart(plan_set, work / f"set-{count}")})
    for before, row in pairwise(rows):
        more, videos = row["peak_mib"] - before["peak_mib"], row["rows"] - before["rows"]
        row["peak_bytes_a_further_row"] = round(more * 2**20 / videos)
    return {"batch": BATCH, "videos_per_shard": PER_SHARD, "rows": rows}


def write_set(root: Path, count: int) -> dict[str, Any]:
    """A set of ``count`` videos as preparing ends it: the journal writes index and manifest.

    Frames are a byte each, as opening reads the footers of shards and no frames; all whole shards
    are one file.
    """
    journal = Journal(root, root, root)
    root.mkdir()
    journal.classes = [f"class {label:03d}" for label in range(CLASSES)]
    journal.index = [index_row(number) for number in range(count)]
    journal.shards = -(-count // PER_SHARD)
    last = journal.shards - 1
    write_shard(root / shard_name(last), journal.index[last * PER_SHARD :])
    if last:
        write_shard(root / shard_name(0), journal.index[:PER_SHARD])
    for number in range(1, last):
        (root / shard_name(number)).hardlink_to(root / shard_name(0))
    seconds: dict[str, float] = {}
    with timed(seconds, "finish_s"):
        journal.finish({"name": "folder", "videos": "videos"}, asdict(Settings()), [])
    return {
        "shards": journal.shards,
        "index_mib": round((root / "index.parquet").stat().st_size / 2**20, 2),
        "footer_kib": round((root / shard_name(0)).stat().st_size / 2**10),
        **seconds,
        "writer_peak_mib": round(memory_mib("VmHWM")),
    }


def index_row(number: int) -> dict[str, Any]:
    """What the index says of a video: one in ten is of the test split."""
    name = f"class {number % CLASSES:03d}"
    return {
        "video_id": f"{name}/{number:011d}_000001_000011.mp4",
        "label": number % CLASSES,
        "class_name": name,
        "scene": "",
        "split": "test" if number % 10 == 9 else "train",
        "frame_count": 250,
        "fps": 25.0,
        "height": 150,
        "width": 200,
        "source_sha256": sha256(f"file {number}".encode()).hexdigest(),
        "frames_sha256": sha256(f"frames {number}".encode()).hexdigest(),
        "shard": number // PER_SHARD,
        "row_group": number % PER_SHARD,
        "row": 0,
    }


def write_shard(path: Path, rows: list[dict[str, Any]]) -> None:
    """A shard of these rows with a frame each, a row group a video."""
    kept = [name for name in SHARD_SCHEMA.names if name != "frames"]
    with pq.ParquetWriter(path, SHARD_SCHEMA, compression="none", use_dictionary=False) as file:
        for row in rows:
            content = {**{name: row[name] for name in kept}, "frames": [b"0"]}
            file.write_table(pa.Table.from_pylist([content], SHARD_SCHEMA))


def plan_set(root: Path) -> dict[str, Any]:
    """What a run does with a set before its first batch, and then with all batches of an epoch."""
    seconds: dict[str, float] = {}
    with timed(seconds, "open_s"):
        shards = ShardSet.open(root)
    with timed(seconds, "overlap_s"):
        check_no_overlap(shards)
    with timed(seconds, "plan_s"):
        rows, counts = shards.rows("train"), frame_counts(shards)
        plan = PretrainPlan(rows, counts, LENGTH, STRIDE, BATCH, EPOCHS, seed=0)
    with timed(seconds, "epoch_s"):
        for number in range(plan.steps_per_epoch):
            plan[number]
    with timed(seconds, "reader_s"):
        reader = FrameReader(shards)
    return {
        "steps_per_epoch": plan.steps_per_epoch,
        **seconds,
        "peak_mib": round(memory_mib("VmHWM"), 1),
        "kept_mib": round(memory_mib("VmRSS"), 1),
        **footer_cost(shards),
        "reader_bytes": len(pickle.dumps(reader)),
        "plan_bytes": len(pickle.dumps(plan)),
    }


def footer_cost(shards: ShardSet) -> dict[str, float]:
    """CPU milliseconds of reading a shard's footer, as the first read of a shard does in a process,
    and KiB that it takes there from then on.
    """
    taken, kept, before = [], [], memory_mib("VmRSS")
    for number in np.unique(np.linspace(0, shards.manifest.shards - 1, FOOTERS).astype(int)):
        began = time.process_time()
        kept.append(read_footer(shards.root / shard_name(int(number))))
        taken.append(time.process_time() - began)
    return {
        "footer_ms": round(1000 * median(taken), 3),
        "footer_kept_kib": round(1024 * (memory_mib("VmRSS") - before) / len(kept)),
    }


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Put the seconds of the block under ``name``."""
    began = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - began, 4)
