"""What the files of sweeps/paper ask of GPUs in their evaluations, from the files themselves.

    python benchmarks/paper_resources.py            print the line of each file
    python benchmarks/paper_resources.py --write    put it into the headers

A header's line "Evaluate" is this program's; tests/test_paper_sweeps.py compares them.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path
from typing import Any

from vididi.config import Config
from vididi.dotted_keys import flatten
from vididi.protocols import EvaluationEntry, protocol_settings
from vididi.protocols.task import complete_settings
from vididi.sweep import expand, load_sweep

FILES = sorted((Path(__file__).resolve().parents[1] / "sweeps" / "paper").glob("*.yaml"))
WIDTH = 140  # of the headers
MARGIN = "#           "


def evaluations(path: Path) -> str:
    """How each evaluation of a sweep is shared by GPUs, in words."""
    sweep = load_sweep(path)
    cells = [(cell.resources.workers, cell.resolved().config) for cell in expand(sweep)]
    workers = sorted({count for count, _ in cells})
    return "; ".join(dict.fromkeys(_of(entry, workers, cells[0][1]) for entry in sweep.evaluations))


def _of(entry: EvaluationEntry, workers: list[int], config: Config) -> str:
    given = protocol_settings(entry.protocol, entry.recipe, flatten(entry.settings))
    settings: Any = complete_settings(given, config)
    name = (
        entry.protocol
        if getattr(settings, "labels", 1) == 1
        else f"{entry.protocol} {100 * settings.labels:g}%"
    )
    clips = f"clips of {settings.frames} frames"
    shares = entry.measured_by.shares
    if shares == "features":
        return f"{name}: {clips}, on all GPUs that are free"
    if shares == "nothing":
        return f"{name}: {settings.batch_size} {clips} a batch, on one GPU"
    each = " or ".join(f"{settings.batch_size // count:,}" for count in workers)
    gpus = " or ".join(map(str, workers))
    return (
        f"{name}: {settings.batch_size:,} {clips} a batch, {each} on each of a cell's {gpus} GPUs"
    )


def line(path: Path) -> str:
    """The header's line, wrapped."""
    wrapped = textwrap.wrap(
        evaluations(path), WIDTH, initial_indent="# Evaluate  ", subsequent_indent=MARGIN
    )
    return "\n".join(wrapped) + "\n"


def written(text: str, evaluate: str) -> str:
    """The file's text with this line, after "Hardware"."""
    text = re.sub(rf"^# Evaluate  .*\n({MARGIN}.*\n)*", "", text, flags=re.MULTILINE)
    return re.sub(
        rf"(^# Hardware  .*\n({MARGIN}.*\n)*)",
        lambda match: match[1] + evaluate,
        text,
        count=1,
        flags=re.MULTILINE,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the lines into the headers")
    write = parser.parse_args().write
    for path in FILES:
        print(f"{path.stem}\n{line(path)}", end="")
        if write:
            path.write_text(written(path.read_text(), line(path)))


if __name__ == "__main__":
    main()
