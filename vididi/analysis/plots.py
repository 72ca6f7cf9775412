"""What the pictures share: matplotlib without a screen, one style, and arguments.

Errors are shown as one line.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from vididi.analysis.reading import Run, find_runs, read_finished
from vididi.errors import ConfigError, VididiError
from vididi.runs.mirror import local_path, place_of, pull
from vididi.terminal import Parser, one_line, say, say_error

# Paul Tol's "muted" scheme, which colour-blind readers can tell apart; shapes and dashes repeat the
# difference for print.
COLOURS = (
    "#332288",
    "#CC6677",
    "#117733",
    "#DDCC77",
    "#88CCEE",
    "#882255",
    "#44AA99",
    "#999933",
    "#AA4499",
    "#888888",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
INK, FAINT = "#222222", "#DDDDDD"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#777777",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "hatch.linewidth": 0.7,
    "svg.hashsalt": "vididi",
    "text.parse_math": False,  # a label with $ is no formula
}
FORMATS: dict[str, dict[str, None]] = {
    ".png": {},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
}  # and the date left out of each


def extra(module: str) -> Any:
    """A module of the optional extra ``plots``.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).partition(".")[0]
        raise ConfigError(
            f"{package} is not installed; pictures need the extra plots:"
            " pip install 'vididi[plots]'"
        ) from None


def pyplot() -> Any:
    """matplotlib.pyplot, drawing into files only."""
    extra("matplotlib").use("Agg")
    return extra("matplotlib.pyplot")


def style() -> AbstractContextManager[None]:
    """The style of all pictures, for as long as the context lasts."""
    return pyplot().rc_context(STYLE)


def save(figure: Any, out: Path, **texts: str) -> None:
    """Write a figure and say so. Equal figures are equal files.

    Args:
        texts: kept in the file, where it is a PNG.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = texts if out.suffix.lower() == ".png" else {}
    figure.savefig(out, metadata={**FORMATS[out.suffix.lower()], **kept})
    pyplot().close(figure)
    say(f"wrote {out}")


def image_path(text: str) -> Path:
    """An argument that names a picture to write."""
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out: {text} must end in .png, .pdf or .svg")
    return path


def picture_parser(description: str, example: str) -> argparse.ArgumentParser:
    """The arguments of a picture of any runs: RUNS and --out."""
    parser = Parser(description=description, epilog=example)
    parser.add_argument(
        "runs",
        nargs="+",
        type=local_path,
        metavar="RUNS",
        help="run folders, or folders (s3://...) that hold some",
    )
    parser.add_argument(
        "--out", type=image_path, required=True, metavar="FILE.png", help="the picture"
    )
    return parser


def runs_in(folders: Sequence[Path], find: Callable[[Path], list[Path]] = find_runs) -> list[Path]:
    """The run folders among ``folders`` and below them, in the order given, each once.

    Raises:
        ConfigError: there is no such folder, or no run in it.
    """
    run_folders: dict[Path, None] = {}
    for folder in folders:
        pull(folder)
        if not folder.is_dir():
            raise ConfigError(f"{place_of(folder)}: there is no such folder")
        inner_runs = find(folder)
        if not inner_runs:
            raise ConfigError(f"{place_of(folder)}: no runs in it")
        run_folders |= dict.fromkeys(inner_runs)
    return list(run_folders)


def finished_in(folders: Sequence[Path]) -> list[Run]:
    """The finished runs among ``folders`` and below them, in the order given.

    Damaged ones and copies are named and left out.

    Raises:
        ConfigError: there is no such folder, or no run in it that can be read.
    """
    run_folders = runs_in(folders)
    runs = read_finished(run_folders)
    if not runs:
        raise ConfigError(f"none of the {len(run_folders)} runs can be read")
    return runs


def legend_text(label: str) -> str:
    """A label for a picture.

    matplotlib leaves out of its legends what begins with an underscore.
    """
    text = one_line(label)
    return f" {text}" if text.startswith("_") else text


def titles(runs: Sequence[Run]) -> list[str]:
    """Each run's label, with its seed where labels repeat."""
    labels = [one_line(str(run.cell["label"])) for run in runs]
    return [
        label if labels.count(label) == 1 else f"{label}, seed {run.seed}"
        for run, label in zip(runs, labels, strict=True)
    ]


def run_main(
    draw: Callable[[argparse.Namespace], None],
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
) -> int:
    """Exit status: 0 written, 2 it cannot be drawn, which is said in one line.

    Raises:
        OSError: a file or folder that the system refuses, which whoever started the program tells.
    """
    try:
        draw(parser.parse_args(argv))
    except (VididiError, ValueError, OSError, yaml.YAMLError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        say_error(error, " ".join(str(error).split()))
        return 2
    return 0
