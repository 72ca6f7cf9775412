"""What it costs that a prepared set is verified, in one run:

python benchmarks/verify_cost.py --out benchmarks/results/verify_cost.json

stream   frames of a video are compared with its frames_sha256 when a process first reads them: CPU
         seconds of reading and decoding with that over those without it, in one process, by turns,
         for a run of 1, 10 and 100 epochs (the first epoch alone is compared), with two clips of 10
         frames a video as in pretraining, and for an evaluation with ten clips of 16
open     seconds to open a set of 240,000 videos in 1,875 shards, as Kinetics-400 is
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from synthetic_videos import make_videos

from vididi.components import resolve
from vididi.config import build_config
from vididi.data import shards as module
from vididi.data.layout import INDEX_SCHEMA, SHARD_SCHEMA, Manifest, shard_name
from vididi.data.plan import EvaluationPlan, Plan, PretrainPlan, frame_counts
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.stream import Buffers, decode, fetch
from vididi.data.verify import index_checksum
from vididi.prepared import ensure_prepared

EPOCHS = (1, 10, 100)


# --- Stream ---------------------------------------------------------------------------------------


def seconds(shards: ShardSet, plan: Plan, compare: bool) -> float:
    """CPU seconds of reading and decoding a plan.

    ``compare``: in a process that has not read the set before; else in one that has compared all of
    it.
    """
    module._VERIFIED.clear()
    if not compare:
        module._VERIFIED[str(shards.root), shards.manifest.checksum] = np.ones(
            len(shards.index), np.bool_
        )
    reader, buffers = FrameReader(shards), Buffers()
    began = time.process_time()  # one thread does it all, and others on the machine then weigh less
    for number in range(len(plan)):
        request = plan[number]
        decode(fetch(reader, request), request, shards, buffers)
    return time.process_time() - began


def measure_stream(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Ratio of reading with to reading without comparing, for pretraining and evaluation."""
    make_videos(work / "videos" / "all", arguments.count, 120, 240, 320, 2)
    shards = ensure_prepared(
        resolve(build_config({"data": {"name": "folder", "videos": str(work / "videos")}})),
        work / "shards",
    )
    rows, counts = shards.rows("train"), frame_counts(shards)
    plans: dict[str, Plan] = {
        "pretrain": PretrainPlan(rows, counts, 10, 3, min(32, len(rows)), 1, 0),
        "evaluate": EvaluationPlan(rows, counts, 16, 4, 10, 8),
    }
    seconds(shards, plans["pretrain"], compare=True)  # files into the page cache
    results: dict[str, Any] = {"bytes_per_frame": shards.nbytes / shards.manifest.frames}

    for name, plan in plans.items():
        turns = [
            (seconds(shards, plan, True), seconds(shards, plan, False))
            for _ in range(arguments.turns)
        ]
        first = median(compared / uncompared for compared, uncompared in turns)
        results[name] = {"first_pass": first, "turns": turns}
        if name == "pretrain":
            results[name]["by_epochs"] = {epochs: 1 + (first - 1) / epochs for epochs in EPOCHS}

    return results


# --- Opening --------------------------------------------------------------------------------------


def make_set(root: Path, videos: int) -> None:
    """A set of one-frame videos, 128 row groups a shard.

    All shards have the same bytes, of which opening reads the footers.
    """
    root.mkdir()
    row = {
        "video_id": "",
        "label": 0,
        "class_name": "c",
        "scene": "",
        "split": "train",
        "frame_count": 1,
        "fps": 25.0,
        "height": 150,
    }
    row |= {"width": 200, "source_sha256": "a" * 64, "frames_sha256": "b" * 64}
    with pq.ParquetWriter(
        root / shard_name(0), SHARD_SCHEMA, compression="none", use_dictionary=False
    ) as file:
        for _ in range(128):
            file.write_table(pa.Table.from_pylist([{**row, "frames": [b"jpeg"]}], SHARD_SCHEMA))
    shards = videos // 128
    for number in range(1, shards):
        shutil.copy(root / shard_name(0), root / shard_name(number))
    positions = [
        {"shard": number // 128, "row_group": number % 128, "row": 0}
        for number in range(128 * shards)
    ]
    names = [sha256(str(number).encode()).hexdigest() for number in range(128 * shards)]
    rows = [
        {**row, "video_id": f"class {name[:2]}/{name[:11]}_000001_000011", "frames_sha256": name}
        for name in names
    ]
    index = pa.Table.from_pylist(
        [{**row, **position} for row, position in zip(rows, positions, strict=True)], INDEX_SCHEMA
    )
    pq.write_table(index, root / "index.parquet")
    counts = {"train": len(index), "test": 0}
    manifest = Manifest(
        1,
        counts,
        len(index),
        0,
        shards,
        ["c"],
        index_checksum(index, None),
        {"name": "folder"},
        {"short_side": 150},
    )
    (root / "manifest.json").write_text(json.dumps(asdict(manifest)))


def measure_opening(work: Path, videos: int) -> dict[str, Any]:
    """Seconds to open a set of ``videos`` one-frame videos."""
    make_set(work / "many", videos)
    began, cpu = time.perf_counter(), time.process_time()
    index = ShardSet.open(work / "many").index
    return {
        "videos": len(index),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }


def main() -> None:
    """Measure both, print the result and write it to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count", type=int, default=96, help="synthetic videos to stream (default: 96)"
    )
    parser.add_argument(
        "--videos", type=int, default=240_000, help="of the set that is opened (default: 240,000)"
    )
    parser.add_argument("--turns", type=int, default=5, help="default: 5")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="vididi-verify-") as work:
        result = {
            "stream": measure_stream(Path(work), arguments),
            "open": measure_opening(Path(work), arguments.videos),
        }

    stream = result["stream"]
    print(
        f"{stream['bytes_per_frame'] / 1024:.1f} KiB a frame; CPU seconds with comparing over"
        " seconds without:"
    )
    print(
        "  pretraining  "
        + ", ".join(
            f"{epochs} epochs {ratio:.3f}"
            for epochs, ratio in stream["pretrain"]["by_epochs"].items()
        )
    )
    print(f"  evaluation   {stream['evaluate']['first_pass']:.3f}")
    print(
        f"opening {result['open']['videos']:,} videos: {result['open']['seconds']:.1f} s,"
        f" {result['open']['cpu_seconds']:.1f} s of CPU"
    )
    if arguments.out:
        machine = {
            "machine": platform.machine(),
            "pyarrow": pa.__version__,
            "date": time.strftime("%Y-%m-%d"),
        }
        arguments.out.write_text(json.dumps({**machine, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
