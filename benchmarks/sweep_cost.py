"""Wall time and peak memory of a command and everything it starts, as JSON.

    python benchmarks/sweep_cost.py --out benchmarks/results/ablation.json -- python run_sweep.py
    sweeps/ablation.yaml

Memory is the proportional set size summed over the processes: pages that several processes share
count once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil


def tree_memory(root: psutil.Process) -> tuple[int, int]:
    """Bytes and number of processes of ``root`` and its descendants."""
    total = count = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
            count += 1
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended between the two calls
    return total, count


def measure(command: list[str], interval: float) -> dict[str, float | int | str]:
    """Run ``command``, sampling the memory of its processes every ``interval`` seconds."""
    began = time.perf_counter()
    child = subprocess.Popen(command)
    process = psutil.Process(child.pid)
    peak = processes = 0

    while child.poll() is None:
        try:
            memory, count = tree_memory(process)
        except psutil.NoSuchProcess:
            break
        peak, processes = max(peak, memory), max(processes, count)
        time.sleep(interval)

    return {
        "command": " ".join(command),
        "exit_status": child.wait(),
        "wall_seconds": round(time.perf_counter() - began, 1),
        "peak_pss_gib": round(peak / 2**30, 2),
        "peak_processes": processes,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> int:
    """Exit status: that of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--interval", type=float, default=1.0, help="seconds between samples (default: 1)"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    result = measure([part for part in arguments.command if part != "--"], arguments.interval)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")
    return int(result["exit_status"])


if __name__ == "__main__":
    sys.exit(main())
