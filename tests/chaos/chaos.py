"""Chaos: sweeps into which faults are put at random moments, and what became of them.

python tests/chaos/chaos.py --count 40 --out benchmarks/chaos.csv

Each trial runs a small sweep (cells of one worker, a cell of two workers, held data) as a user does, puts one
fault into it at a moment that its seed draws, gives the same command again until the sweep is finished,
and compares every encoder, queries.parquet and the table with those of an unbroken sweep, to the bit.
It goes on with the first trials that the table does not have; a trial is repeated by its number.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from faults import FAULTS, STAGES, UnderWay, disk_of, marked
from safetensors.torch import load_file
from stages import Stage, plain

REPO = Path(__file__).resolve().parents[2]
PROGRAM = REPO / "run_sweep.py"
SWEEP = """name: chaos
table: vididi_table_6
base:
  data: {name: motion, train: 24, test: 12, size: 32, frames: 24}
  prepare: {short_side: 16}
  clip: {frames: 4, stride: 2, size: 16}
  objective: {name: vicreg, hidden: 16, out: 16}
  backbone: {name: r3d_tiny, width: 2}
  training: {epochs: 24, batch_size: 12, checkpoint_epochs: 2}
  evaluation: {clips: 2, frames: 4, stride: 2}
arms:
  base: {label: "Base (VICReg)", order: 0}
  vididi: {label: "ViDiDi-VIC", order: 2}
  random_12: {label: "+Random 1st & 2nd", order: 2, selection: random, resources: {hold_data: true}}
  schedule_1: {label: "+Schedule 1st", order: 1, resources: {workers: 2}}
evaluate: [retrieval]
resources: RESOURCES
"""
DISK_BYTES = 48 << 20
LIMIT_S = 600.0  # of one start: longer is a hang
STARTS = 4  # that a sweep may take after its fault
LEFT_S = 10.0  # after which nothing of a sweep may be left
FIELDS = (
    "trial",
    "fault",
    "moment_s",
    "injected",
    "starts",
    "recovered",
    "lost",
    "left",
    "seconds",
    "commit",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=4, help="trials (default: 4)")
    parser.add_argument(
        "--first", type=int, help="number of the first (default: those that the table lacks)"
    )
    parser.add_argument("--fault", choices=FAULTS, action="append", help="only these")
    parser.add_argument("--out", type=Path, help="a table that is appended to")
    arguments = parser.parse_args()
    # What is started in a script's background ignores SIGINT, and so would the drivers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before = read(arguments.out)
    numbers = missing(before) if arguments.first is None else itertools.count(arguments.first)
    rows = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        whole = unbroken(Path(place))
        for number in itertools.islice(numbers, arguments.count):
            row = trial(number, Path(place), whole, arguments.fault or [*FAULTS])
            rows.append(row)
            print(" | ".join(f"{row[name]}" for name in FIELDS), flush=True)
            if arguments.out:
                append(arguments.out, row)
    print(summary([*before, *rows]))
    return int(any(str(row["lost"]) + str(row["left"]) for row in rows))


def missing(rows: list[dict[str, Any]]) -> Iterator[int]:
    """The numbers of trials that are not in a table."""
    there = {int(row["trial"]) for row in rows}
    return (number for number in itertools.count() if number not in there)


def read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.is_file():
        return []
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


def append(path: Path, row: dict[str, Any]) -> None:
    new = not path.is_file()
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if new:
            table.writeheader()
        table.writerow(row)


def summary(rows: list[dict[str, Any]]) -> str:
    """fault | injected | recovered | lost, over all trials."""
    lines = ["", f"{'fault':20} | injected | recovered | lost | left behind"]
    for fault in sorted({str(row["fault"]) for row in rows}):
        of = [row for row in rows if row["fault"] == fault]
        count = Counter(
            name
            for row in of
            for name in ("injected", "recovered", "lost", "left")
            if str(row[name]) not in ("", "no")
        )
        lines.append(
            f"{fault:20} | {count['injected']:8} | {count['recovered']:9} | {count['lost']:4} | {count['left']}"
        )
    return "\n".join(lines)


# --- One trial ------------------------------------------------------------------------------------


def environment(place: Path, mark: str, stage: Stage) -> dict[str, str]:
    """Of a sweep: its own temporary folder, the cache of all, and its mark."""
    temporary = place / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        **os.environ,
        "CHAOS": mark,
        "TMPDIR": str(temporary),
        "VIDIDI_CACHE": str(place.parent / "cache"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(REPO),
        **stage.environment,
    }


def starter(place: Path, mark: str, stage: Stage) -> Any:
    """Gives the sweep's command, once more each time."""
    (place / "chaos.yaml").write_text(SWEEP.replace("RESOURCES", stage.resources))

    def start() -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            str(PROGRAM),
            "chaos.yaml",
            "--runs",
            str(place / "disk" / "runs"),
            *stage.arguments,
        ]
        log = (place / f"log-{time.monotonic_ns()}.txt").open("wb")
        return subprocess.Popen(
            command,
            cwd=place,
            env=environment(place, mark, stage),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    return start


def unbroken(place: Path) -> Path:
    """A sweep that nobody disturbs; how long it takes bounds the moments of the others."""
    folder = place / "whole"
    (folder / "disk").mkdir(parents=True)
    driver = starter(folder, "whole", Stage())()
    began = time.monotonic()
    status = driver.wait(LIMIT_S)
    if status:
        raise SystemExit(f"the unbroken sweep ended with {status}:\n{logs(folder)[-3000:]}")
    (folder / "seconds").write_text(str(time.monotonic() - began))
    return folder


def trial(number: int, root: Path, whole: Path, faults: list[str]) -> dict[str, Any]:
    draw, mark = random.Random(f"chaos {number}"), f"{os.getpid()}-{number}"
    fault = faults[number % len(faults)]
    moment = draw.uniform(0.2, float((whole / "seconds").read_text()))
    place = root / f"trial-{number}"
    place.mkdir()
    shared = {*Path("/dev/shm").iterdir()}
    began = time.monotonic()
    staged = STAGES.get(fault, plain)(place)
    with disk_of(place / "disk", DISK_BYTES), staged as stage:
        start = starter(place, mark, stage)
        run = UnderWay(start(), mark, place / "disk", start, draw, stage)
        injected, starts = broken(start, fault, moment, run)
        stage.fetch(place / "disk")
        lost = compare(whole / "disk" / "runs" / "chaos", place / "disk" / "runs" / "chaos")
        left = left_behind(mark, place, shared)
        if lost or left:
            kept = Path(tempfile.mkdtemp(prefix=f"chaos-trial-{number}-"))
            shutil.copytree(
                place, kept / "place", dirs_exist_ok=True, ignore_dangling_symlinks=True
            )
            print(f"trial {number} is kept in {kept}", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    return {
        "trial": number,
        "fault": fault,
        "moment_s": f"{moment:.1f}",
        "injected": injected or "no",
        "starts": starts,
        "recovered": "" if lost else "yes",
        "lost": lost,
        "left": left,
        "seconds": f"{time.monotonic() - began:.0f}",
        "commit": commit(),
    }


def broken(start: Any, fault: str, moment: float, run: UnderWay) -> tuple[str | None, int]:
    """Put the fault into the sweep, and give its command again until it is finished.

    Returns:
        what was done, and how often the command was given.
    """
    time.sleep(moment)
    injected = None
    while injected is None and run.driver.poll() is None:
        injected = FAULTS[fault](run)
        time.sleep(0.2)
    status = ended(run.driver)
    starts = 1
    while status and starts <= STARTS:
        starts += 1
        status = ended(start())  # at once, beside whatever is left of the one before
    return injected, starts


def ended(driver: subprocess.Popen[bytes]) -> int:
    """The exit status; of a driver that hangs, 124."""
    try:
        return driver.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        driver.kill()
        return 124


def compare(whole: Path, other: Path) -> str:
    """What another sweep has otherwise than the unbroken one; empty where nothing is."""
    wrong = []
    for run in sorted(whole.glob("*/")):
        if not (run / "result.json").is_file():
            continue
        there = other / run.name
        if not (there / "result.json").is_file():
            wrong.append(f"{run.name}: not finished")
            continue
        one, two = (load_file(folder / "encoder.safetensors") for folder in (run, there))
        if one.keys() != two.keys() or any(not one[name].equal(two[name]) for name in one):
            wrong.append(f"{run.name}: encoder")
        one, two = (pq.read_table(folder / "queries.parquet") for folder in (run, there))
        if not one.equals(two):
            wrong.append(f"{run.name}: queries.parquet")
    table = "vididi_table_6.md"
    if not (other / table).is_file() or (whole / table).read_text() != (other / table).read_text():
        wrong.append(table)
    return "; ".join(wrong)


def left_behind(mark: str, place: Path, shared: set[Path]) -> str:
    """Processes, shared memory and temporary files that are there some seconds after the end."""
    deadline = time.monotonic() + LEFT_S
    while True:
        processes = [process for process in marked(mark) if alive(process)]
        files = [path.name for path in (place / "tmp").iterdir()]
        memory = [path.name for path in {*Path("/dev/shm").iterdir()} - shared if ours(path, mark)]
        if not (processes or files or memory) or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    parts = [f"{len(processes)} processes"] * bool(processes)
    parts += [f"files {' '.join(files)}"] * bool(files) + [f"memory {' '.join(memory)}"] * bool(
        memory
    )
    return "; ".join(parts)


def alive(process: Any) -> bool:
    with suppress(Exception):
        return process.is_running() and process.status() != "zombie"
    return False


def ours(path: Path, mark: str) -> bool:
    """Whether nobody that is alive holds it: other sweeps of this machine have shared memory too."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if str(path) in (entry / "maps").read_text():
                    return False
    return path.exists()


def logs(place: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in sorted(place.glob("log-*")))


def commit() -> str:
    command = ["git", "-C", str(REPO), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
