"""What benchmarks/gpu.sh measured: a table of the steps, and one of ratios beside the aims.

    python benchmarks/gpu_report.py DIR --parts steps_r3d_18:0:85 data:124:60

reads the parts' files in DIR, prints both and writes DIR/gpu.json. A part is given with its exit
status and its seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tabulate import tabulate

from vididi.provenance import measured_by

Row = dict[str, Any]
STEPS = ("gpu_steps_r3d_18.json", "gpu_steps_r3d_50.json", "gpu_steps_compiled.json")
OTHERS = ("gpu_data.json", "gpu_cells.json")
COMPARED = (
    *((way, "plain") for way in ("fp32", "bf16")),
    *((f"bf16_{way}", "bf16") for way in ("contiguous", "one_pass", "cuda_graph", "compiled")),
)
COLUMNS = {
    "backbone": "backbone",
    "objective": "objective",
    "way": "way",
    "ms": "ms/step",
    "over_plain": "x plain",
    "over_bf16": "x bf16",
    "of_bf16_rate": "of bf16 rate",
    "peak_gib": "GiB",
    "first_s": "first s",
    "left_out": "left out",
    "error": "error",
}


def card(device: torch.device) -> dict[str, Any] | None:
    """The GPU and the software below torch; None on a CPU."""
    if device.type == "cpu":
        return None
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "memory_gib": round(found.total_memory / 2**30, 1),
        "multiprocessors": found.multi_processor_count,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip()


class Report:
    """A JSON file that is whole after every row, so that a part that is cut keeps what it has.

    ``content`` has the machine, the card, the part's settings and ``rows``.
    """

    def __init__(self, path: Path, device: torch.device, settings: Row) -> None:
        self.path = path
        about = {**measured_by(), "card": card(device), "settings": settings}
        self.content: dict[str, Any] = {**about, "rows": []}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write()

    def add(self, *rows: Row) -> None:
        """Append rows and write the file."""
        self.content["rows"] += rows
        self.write()

    def write(self) -> None:
        """Replace the file by what is known now."""
        aside = self.path.with_suffix(".part")
        aside.write_text(json.dumps(self.content, indent=1) + "\n")
        aside.replace(self.path)

    @property
    def failed(self) -> bool:
        """Whether a row says that something could not be measured."""
        return any("error" in row for row in self.content["rows"])


class Aim(NamedTuple):
    """A figure: ``what`` over ``over``; ``aim`` is what it is to be, empty where nothing is set."""

    what: str
    over: str
    ratio: float
    aim: str = ""

    @property
    def met(self) -> str:
        """``yes`` or ``no``; empty without an aim."""
        if not self.aim:
            return ""
        sign, limit = self.aim.split()
        return "yes" if (self.ratio >= float(limit)) == (sign == ">=") else "no"


def of_steps(rows: list[Row]) -> Iterator[Aim]:
    """Of each backbone and way, the objective that gains least; and of its fastest ways, the one
    that uses the card least.
    """
    measured = [row for row in rows if "ms" in row]
    for backbone in dict.fromkeys(row["backbone"] for row in measured):
        own = [row for row in measured if row["backbone"] == backbone]
        for way, over in COMPARED:
            gains = [row[f"over_{over}"] for row in own if row["way"] == way]
            if gains := [gain for gain in gains if gain is not None]:
                aim = ">= 3" if (way, over) == ("bf16", "plain") else ""
                yield Aim(f"speed, {backbone}, {way}", over, min(gains), aim)
        shares: dict[str, float] = {}
        for row in own:
            name, share = row["objective"], row["of_bf16_rate"]
            shares[name] = max(share, shares.get(name, 0.0))
        aim = ">= 0.5" if backbone == "r3d_18" else ""
        yield Aim(f"FLOP/s, {backbone}, its fastest way", "the card's", min(shares.values()), aim)


def of_others(rows: list[Row]) -> Iterator[Aim]:
    """Decoding, what a step waits for its batch, and two cells on one card."""
    for row in rows:
        if row["what"] == "jpeg":
            over = f"{row['threads']} threads of simplejpeg"
            yield Aim("frames/s, JPEG on the card", over, row["card_over_cpu"])
            yield Aim("PSNR of these frames [dB]", "simplejpeg's", row["psnr_db"], ">= 40")
        elif row["what"] == "step" and row["way"] != "resident":
            aim = "< 0.02" if row["way"].endswith("overlapped") else ""
            yield Aim(f"data wait, {row['way']}", "the step", row["wait_share"], aim)
        elif row["what"] == "cells" and "over_one_after_another" in row:
            ratio = row["over_one_after_another"]
            yield Aim("seconds of two cells at once", "one after another", ratio, "< 1")


def read(folder: Path, names: tuple[str, ...]) -> list[Row]:
    """The rows of those files of a folder that are there."""
    paths = [folder / name for name in names]
    return [row for path in paths if path.is_file() for row in json.loads(path.read_text())["rows"]]


def main() -> None:
    """Print the tables, write gpu.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="*", default=[], metavar="NAME:STATUS:SECONDS")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    arguments = parser.parse_args()
    steps = read(arguments.folder, STEPS)
    cells = [[row.get(name) for name in COLUMNS] for row in steps]
    print("\n" + tabulate(cells, headers=list(COLUMNS.values()), floatfmt=".3g"))
    aims = [*of_steps(steps), *of_others(read(arguments.folder, OTHERS))]
    if arguments.device == "cpu":
        print("\na rehearsal on a CPU: the aims are a GPU's")
    lines = [(*aim, aim.met) for aim in aims]
    print("\n" + tabulate(lines, headers=("what", "over", "ratio", "aim", "met"), floatfmt=".3g"))
    fields = ("name", "status", "seconds")
    parts = [dict(zip(fields, text.split(":"), strict=True)) for text in arguments.parts]
    report = Report(arguments.folder / "gpu.json", torch.device(arguments.device), {"parts": parts})
    report.content["rows"] = [{**aim._asdict(), "met": aim.met} for aim in aims]
    report.write()


if __name__ == "__main__":
    main()
