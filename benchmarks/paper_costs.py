"""What the files of sweeps/paper take: GPU-hours of pretraining and of evaluation, disk for shards,
and money where a price is given.

    python benchmarks/paper_costs.py                        all files, at 10 TFLOP/s a GPU, assumed
    python benchmarks/paper_costs.py vididi_table_1_ucf101 --price 2    of one GPU for an hour
    python benchmarks/paper_costs.py --measured FILE        of benchmarks/train_step.py on your GPU
    python benchmarks/paper_costs.py --write                GiB of shards into docs/paper_sweeps.md

Pretraining is epochs x training videos x clips x 3 (forward and backward) x the operations of a
forward pass, which torch counts, over what a GPU does in a second. That is assumed, or measured by
benchmarks/train_step.py. Evaluation is what docs/paper_sweeps.md states, scaled likewise. Decoding,
waiting between GPUs and what is lost with a spot machine are left out: these are least hours.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from vididi.backbones import BACKBONES
from vididi.config import Config
from vididi.sweep import Cell, expand, load_sweep

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "sweeps" / "paper").glob("*.yaml"))
PAGE = ROOT / "docs" / "paper_sweeps.md"
ASSUMED = 10.0  # TFLOP/s of a GPU in fp32
# Training and test videos, by the data sets' own papers and lists (docs/paper_sweeps.md).
VIDEOS = {
    "ucf101": (9_537, 3_783),
    "hmdb51": (3_570, 1_530),
    "kinetics400": (240_000, 20_000),
    "kinetics600": (360_000, 28_000),
    "k200_40k": (40_000, 10_000),
    "something_something_v2": (168_000, 24_000),
    "ava": (211_000, 57_000),
}
# Mean length of a video: UCF101 by Soomro et al. (2012), Something-Something by Goyal et al.
# (2017). Kinetics' are cut to ten seconds, and the others are taken for as long, which is too much.
SECONDS = {"ucf101": 7.21, "something_something_v2": 4.03}
# MiB of ten seconds by short side, and of one key frame of AVA (docs/data.md).
TEN_SECONDS = {150: 2.0, 256: 7.0}
KEY_FRAME = 2.1


@dataclass(frozen=True)
class Cost:
    """Of one file; hours are those of one GPU."""

    name: str
    cells: int
    pretraining: float
    evaluation: float
    gibibytes: float

    @property
    def hours(self) -> float:
        return self.pretraining + self.evaluation


@cache
def forward_flops(
    name: str, options: tuple[tuple[str, object], ...], frames: int, size: int
) -> int:
    """Operations of one clip's forward pass, counted by torch; nothing is computed."""
    with torch.device("meta"):
        network, _ = BACKBONES[name](**dict(options))
        network.eval()
        clip = torch.empty(1, 3, frames, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(clip)
    return counter.get_total_flops()


def cell_hours(config: Config, speed: float) -> float:
    """GPU-hours of a cell's pretraining.

    Args:
        config: resolved.
        speed: operations a second of one GPU.
    """
    options = tuple(sorted(config.backbone.options.items()))
    clip = config.clip
    each = forward_flops(config.backbone.name, options, clip.frames, clip.size)
    clips = config.training.epochs * VIDEOS[config.data.name][0] * clip.per_video
    return clips * 3 * each / speed / 3600


def shards_gib(cells: Iterable[Cell], data: Iterable[str], short_side: int) -> float:
    """GiB of all prepared sets of a sweep, each once."""
    names = {*data, *(cell.config.data.name for cell in cells)}
    return sum(sum(VIDEOS[name]) * _mib(name, short_side) for name in names) / 1024


def _mib(name: str, short_side: int) -> float:
    if name == "ava":
        return KEY_FRAME
    return TEN_SECONDS[short_side] * SECONDS.get(name, 10) / 10


def cost(path: Path, speed_of: Callable[[str], float], stated: dict[str, float]) -> Cost:
    """Of one file.

    Args:
        speed_of: TFLOP/s of a GPU with a backbone.
        stated: GPU-hours of each file's evaluation at 10 TFLOP/s.
    """
    sweep = load_sweep(path)
    cells = expand(sweep)
    configs = [cell.resolved().config for cell in cells]
    speeds = [speed_of(config.backbone.name) for config in configs]
    hours = sum(
        cell_hours(config, speed * 1e12) for config, speed in zip(configs, speeds, strict=True)
    )
    others = [entry.data.name for entry in sweep.evaluations if entry.data]
    return Cost(
        path.stem,
        len(cells),
        hours,
        stated[path.stem] * ASSUMED / median(speeds),
        shards_gib(cells, others, configs[0].prepare.short_side),
    )


# --- What is stated and measured elsewhere --------------------------------------------------------

_ROW = re.compile(r"^\| `(?P<file>\w+)` \|(?P<rest>.*)\|$", re.MULTILINE)


def table_of_the_page() -> dict[str, dict[str, float]]:
    """GPU-hours and GiB by file, as docs/paper_sweeps.md has them."""
    found = {}
    for row in _ROW.finditer(PAGE.read_text()):
        cells = [cell.strip().replace(",", "") for cell in row["rest"].split("|")]
        numbers = dict(zip(("pretraining", "evaluation", "gib"), cells[4:], strict=False))
        found[row["file"]] = {name: float(value) for name, value in numbers.items()}
    return found


def measured_speed(path: Path) -> Callable[[str], float]:
    """TFLOP/s of a GPU by backbone, of a file of benchmarks/train_step.py: the median of its
    objectives; a backbone that was not measured has the least of the others.
    """
    by_name: dict[str, list[float]] = {}
    for row in json.loads(path.read_text())["rows"]:
        by_name.setdefault(row["backbone"], []).append(row["tflop_per_step"] / row["ours_seconds"])
    speeds = {name: median(values) for name, values in by_name.items()}
    return lambda name: speeds.get(name, min(speeds.values()))


def rounded(value: float) -> str:
    """Two digits, three from 100 to 1,000 and from 10,000 on, as the page writes them."""
    if value < 10:
        return f"{value:.2g}"
    digits = len(str(round(value)))
    kept = 3 if digits in (3, 5, 6) else 2
    return f"{round(value, kept - digits):,.0f}"


def written(text: str, costs: list[Cost]) -> str:
    """The page with GiB of shards in the last column."""
    gib = {one.name: rounded(one.gibibytes) for one in costs}

    def row(match: re.Match[str]) -> str:
        first = match["rest"].split("|")[:6]
        return f"| `{match['file']}` |{'|'.join(first)}| {gib[match['file']]} |"

    return _ROW.sub(row, text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="names of files (all)")
    parser.add_argument("--price", type=float, help="of one GPU for an hour, in your currency")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument("--tflops", type=float, help="of a GPU; 10 are assumed")
    speed.add_argument("--measured", type=Path, help="a file of benchmarks/train_step.py")
    parser.add_argument("--write", action="store_true", help="write docs/paper_sweeps.md")
    arguments = parser.parse_args()
    tflops = arguments.tflops or ASSUMED
    speed_of = measured_speed(arguments.measured) if arguments.measured else lambda _: tflops
    unknown = set(arguments.files) - {path.stem for path in FILES}
    if unknown:
        parser.error(f"no file of sweeps/paper: {', '.join(sorted(unknown))}")
    stated = {name: row["evaluation"] for name, row in table_of_the_page().items()}
    costs = [
        cost(path, speed_of, stated)
        for path in FILES
        if not arguments.files or path.stem in arguments.files
    ]
    print_costs(costs, arguments.price)
    basis = f"measured, {arguments.measured}" if arguments.measured else f"{tflops:g} TFLOP/s a GPU"
    given = "" if arguments.measured or arguments.tflops else ", assumed"
    print(f"GPU-hours rest on the networks' operations, counted, and on speed: {basis}{given}.")
    print("Evaluation: docs/paper_sweeps.md, scaled. Decoding, waiting and lost work are left out.")
    if arguments.write:
        PAGE.write_text(written(PAGE.read_text(), costs))


def print_costs(costs: list[Cost], price: float | None) -> None:
    """A line a file; what two files share is counted in both."""
    money = f"{'price':>12}" if price is not None else ""
    print(f"{'file':<26}{'cells':>6}{'pretraining':>12}{'evaluation':>11}{'GiB':>8}{money}")
    for one in costs:
        paid = f"{one.hours * price:>12,.0f}" if price is not None else ""
        hours = f"{rounded(one.pretraining):>12}{rounded(one.evaluation):>11}"
        print(f"{one.name:<26}{one.cells:>6}{hours}{rounded(one.gibibytes):>8}{paid}")


if __name__ == "__main__":
    main()
