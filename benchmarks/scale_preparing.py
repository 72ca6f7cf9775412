"""The part of scale.py over preparing: one set of files, by processes that decode."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from own_process import apart
from synthetic_videos import make_videos

from vididi.components import resolve
from vididi.config import build_config
from vididi.data.encode import Settings
from vididi.data.prepare import prepare
from vididi.prepared import list_videos

PROCESSES = (1, 2, 3, 4)


def measure(quick: bool, work: Path) -> dict[str, Any]:
    """One set of files, prepared by 1 to 4 processes: the median of some turns of each."""
    count, frames, turns = (8, 40, 1) if quick else (64, 120, 3)
    cores = len(os.sched_getaffinity(0))
    make_videos(work / "videos" / "all", count, frames, 240, 320, cores)
    seconds: dict[int, list[float]] = {workers: [] for workers in PROCESSES}
    checksums = set()
    for turn in range(turns):
        for workers in PROCESSES:
            out = work / f"set-{turn}-{workers}"
            taken, checksum = apart(prepare_set, work / "videos", out, workers)
            seconds[workers].append(taken)
            checksums.add(checksum)
    if len(checksums) > 1:
        raise SystemExit("preparing: the set depends on the number of processes")
    return {
        "videos": count,
        "frames": frames,
        "pixels": "240 x 320 to a short side of 150",
        "turns": turns,
        "rows": [
            preparing_row(workers, count / median(taken), cores)
            for workers, taken in seconds.items()
        ],
    }


def preparing_row(workers: int, rate: float, cores: int) -> dict[str, float]:
    """Videos a second, in all and for each core that the processes can have."""
    return {
        "processes": workers,
        "videos_per_s": round(rate, 2),
        "videos_per_s_per_core": round(rate / min(workers, cores), 2),
    }


def prepare_set(videos: Path, out: Path, workers: int) -> tuple[float, str]:
    """Seconds from the list of videos to the opened set, and its checksum."""
    config = resolve(build_config({"data": {"name": "folder", "videos": str(videos)}}))
    listed, source = list_videos(config), config.to_dict()["data"]
    began = time.perf_counter()
    shards = prepare(listed, out, Settings(), source, workers=workers)
    return time.perf_counter() - began, shards.manifest.checksum
