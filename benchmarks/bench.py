"""Every figure of docs/performance.md, measured now, as one table of ratios: `make bench`.

    python benchmarks/bench.py --out benchmarks/results/performance.json
    python benchmarks/bench.py --keep DIR     and the file of each there, with all that it measured
    python benchmarks/bench.py --quick        small sizes and few turns: that each of them runs

Each benchmark runs alone, one after the other; nothing else should.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from vididi.provenance import measured_by

HERE = Path(__file__).resolve().parent


class Row(NamedTuple):
    """A figure: ``what`` over ``over``; ``aim`` is what it is to be."""

    what: str
    over: str
    ratio: float
    aim: str


def of_memory_format(content: dict[str, Any]) -> Iterator[Row]:
    """Steps in the format in use, over contiguous ones."""
    for row in content["rows"]:
        contiguous = row["in_use"] == "contiguous"
        yield Row(
            f"step of {row['backbone']}, {row['pixels']} px, {row['pairs']} pairs",
            "contiguous",
            1.0 if contiguous else row["channels_last_over_contiguous"],
            "<= 1.03",
        )


def of_view_passes(content: dict[str, Any]) -> Iterator[Row]:
    """Steps with as many passes as are in use, over two."""
    for row in content["rows"]:
        yield Row(
            f"step of {row['backbone']}, {row['pixels']} px, {row['pairs']} pairs",
            "a pass for each view",
            row["one_over_two"] if row["in_use"] == "one" else 1.0,
            "<= 1.03",
        )


def of_train_step(content: dict[str, Any]) -> Iterator[Row]:
    """Whole steps, views included."""
    settings = content["settings"]
    for row in content["rows"]:
        what = f"{row['objective']} step of {row['backbone']}, {settings['size']} px"
        yield Row(what, "the same written plainly", row["ratio"], "<= 0.9")


def of_augmentation(content: dict[str, Any]) -> Iterator[Row]:
    """Clips per second."""
    aims = {"torchvision": ">= 1.5", "kornia": ">= 4"}
    for name, ratio in content["times_as_fast"].items():
        yield Row("augmentation, clips/s", name, ratio, aims[name])


def of_retrieval(content: dict[str, Any]) -> Iterator[Row]:
    """First hits."""
    for size, values in content["sizes"].items():
        if "ratio" in values:
            yield Row(f"retrieval, {size}", "scikit-learn's ten nearest", values["ratio"], "<= 1.0")


def of_reading(content: dict[str, Any]) -> Iterator[Row]:
    """Videos per second."""
    for name, ratio in content["times_as_fast"].items():
        yield Row("reading two clips of a video", name, ratio, "> 1")


def of_stream(content: dict[str, Any]) -> Iterator[Row]:
    """Clips per second."""
    aims = {"bare": ">= 0.88", "loader": ">= 2", "decord": ">= 10"}
    overs = {"bare": "bare decoding", "loader": "a DataLoader on the shards", "decord": "decord"}
    for name, aim in aims.items():
        yield Row("clips/s of Ray's stream", overs[name], content["ratios"][f"ray/{name}"], aim)
    yield Row("the same, data held", "bare decoding", content["ratios"]["held/bare"], ">= 0.95")


def of_start(content: dict[str, Any]) -> Iterator[Row]:
    """A sweep's own time."""
    yield Row(f"{content['sweep']}, seconds to its first cell", "1 s", content["start_s"], "<= 6")
    what = f"{content['sweep']}, {content['cells']} cells after that"
    yield Row(what, "their packed sum", content["wall_over_packed"], "<= 1.05")


class Benchmark(NamedTuple):
    """``script`` with its arguments, those for a quick look, what the rows are of its JSON, and the
    name of the file that this is kept in.
    """

    script: str
    quick: str
    rows: Callable[[dict[str, Any]], Iterator[Row]]
    file: str


STEP = "train_step.py --objectives vicreg --size 32 --backbones"
BENCHMARKS = (
    Benchmark("memory_format.py", "--quick", of_memory_format, "memory_format"),
    Benchmark("view_passes.py", "--quick", of_view_passes, "view_passes"),
    Benchmark(
        f"{STEP} r3d_18 --batch 2", "--steps 1", of_train_step, "train_step_cpu_r3d_18_small"
    ),
    Benchmark(
        f"{STEP} r3d_tiny --batch 40", "--steps 1", of_train_step, "train_step_cpu_r3d_tiny_small"
    ),
    Benchmark("augmentation.py", "--quick", of_augmentation, "augmentation"),
    Benchmark("retrieval.py", "--quick", of_retrieval, "retrieval"),
    Benchmark("reading.py", "--quick", of_reading, "reading"),
    Benchmark("input_pipeline.py", "--quick", of_stream, "input_pipeline"),
    Benchmark("sweep_start.py", "--quick", of_start, "sweep_start"),
)


def main() -> None:
    """Run all, print the table, write it to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", help="scripts by name, such as retrieval")
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--keep", type=Path, help="a folder for the JSON file of each")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for one in BENCHMARKS:
            script, *options = shlex.split(one.script)
            if arguments.only and script.removesuffix(".py") not in arguments.only:
                continue
            options += shlex.split(one.quick) if arguments.quick else []
            out = (arguments.keep or Path(place)) / f"{one.file}.json"
            command = [sys.executable, str(HERE / script), *options, "--out", str(out)]
            subprocess.run(command, check=True)
            rows += one.rows(json.loads(out.read_text()))
    print("\n" + tabulate(rows, headers=("what", "over", "ratio", "aim"), floatfmt=".2f"))
    if arguments.out:
        content = {**measured_by(), "rows": [row._asdict() for row in rows]}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
