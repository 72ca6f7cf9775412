"""A newcomer's first hour, by the built wheel and outside the checkout: a folder of clips is split,
prepared, looked at, swept with two arms, told as a table, and its encoder embeds videos and is
exported. Each command is typed in a terminal of 80 columns and 24 lines, or piped.

Everything that is printed is kept in ``transcript.txt`` of the test's folder, and is part of a
failure's report.
"""

from __future__ import annotations

import csv
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from installed import REPO, install_wheel, outside_environment
from rich.cells import cell_len

GRID = REPO.parent / "shared" / "realdata" / "grid_s1_digits"  # not part of the project
COLUMNS, LINES = 80, 24
CLASSES, CLIPS = ("one", "six", "two"), 8
CONTROL = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>])")
# What other programs write in a user's terminal: levels of logs, Ray's and FFmpeg's prefixes,
# Python's warnings.
FOREIGN = re.compile(
    r"\b(WARNING|INFO|DEBUG|ERROR)\b|\b\w+Warning:|^\((raylet|pid=|\w+ pid=)|\[\w+ @ 0x|^[IWE]\d{4} "
)
SWEEP = """\
name: clips
base:
  data: {name: csv, videos: clips, list: clips.csv}
  prepare: {short_side: 40}
  clip: {frames: 4, stride: 2, size: 32}
  objective: {name: vicreg, hidden: 64, out: 64}
  backbone: {name: r3d_tiny, width: 4}
  optimiser: {name: lars, lr: 1.0}
  training: {epochs: 3, batch_size: 9}
  evaluation: {clips: 2, frames: 4, stride: 2}
arms:
  base: {label: "Base", order: 0}
  vididi: {label: "ViDiDi", order: 2}
seeds: [0]
"""


class Walk:
    """Commands of the installed ``vididi`` in one folder, and what they print."""

    def __init__(self, programs: Path, place: Path) -> None:
        self.programs, self.place = programs, place
        self.transcript = place.parent / "transcript.txt"

    def vididi(self, command: str, status: int = 0, piped: bool = False) -> list[str]:
        """Run ``vididi COMMAND``; the lines that it printed, those that a live screen drew over
        included.

        Args:
            status: that it must end with.
            piped: without a terminal.
        """
        began = time.monotonic()
        run = self._piped if piped else self._in_terminal
        found, text = run([str(self.programs / "vididi"), *command.split()])
        lines = [line.rstrip() for line in re.split(r"[\r\n]+", CONTROL.sub("", text))]
        lines = list(dict.fromkeys(line for line in lines if line))  # a live screen repeats itself
        seconds = time.monotonic() - began
        said = "\n".join([f"$ vididi {command}", *lines, f"[status {found}, {seconds:.0f} s]", ""])
        with self.transcript.open("a") as file:
            file.write(said + "\n")
        print(said)
        assert found == status, f"vididi {command}"
        assert [line for line in lines if "Traceback" in line or FOREIGN.search(line)] == []
        if not piped:
            assert [line for line in lines if is_too_wide(line)] == []
        return lines

    def _options(self) -> dict[str, object]:
        return {"cwd": self.place, "env": outside_environment(self.place.parent)}

    def _piped(self, command: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **self._options(),  # type: ignore[call-overload]
        )
        return done.returncode, done.stdout

    def _in_terminal(self, command: list[str]) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        with subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            **self._options(),  # type: ignore[call-overload]
        ) as process:
            os.close(theirs)
            parts = []
            while True:
                try:
                    part = os.read(ours, 1 << 16)
                except OSError:  # as Linux says that nobody holds the other end any more
                    break
                if not part:
                    break
                parts.append(part)
        os.close(ours)
        return process.returncode, b"".join(parts).decode(errors="replace")


def is_too_wide(line: str) -> bool:
    """Whether a line is wider than the terminal, and could be broken: a path cannot, and a command
    that is to be copied must not.
    """
    if cell_len(line) <= COLUMNS or re.search(r"  (vididi|tensorboard|python) ", line):
        return False
    return len(line.split()) > 1


def told(lines: list[str], *patterns: str) -> None:
    """Each pattern is in what was printed, wherever its lines are broken."""
    text = " ".join(" ".join(lines).split())
    for pattern in patterns:
        assert re.search(pattern, text), pattern


@pytest.fixture
def walk(
    tmp_path_factory: pytest.TempPathFactory, moving_bar: Callable, write_video: Callable
) -> Walk:
    """A folder with clips/ of three classes, and nothing else."""
    root = tmp_path_factory.mktemp("newcomer")
    place = root / "work"
    for number, name in enumerate(CLASSES):
        folder = place / "clips" / name
        folder.mkdir(parents=True)
        for source in sorted((GRID / name).glob("*.mp4"))[:CLIPS]:
            shutil.copy(source, folder)
        if not GRID.is_dir():
            for clip in range(CLIPS):
                frames = moving_bar(20, 48, 64, 80 * number + clip)
                write_video(folder / f"{clip}.mp4", frames[:: 1 if number else -1])
    (root / "wheel").mkdir()
    return Walk(install_wheel(root / "wheel"), place)


def test_a_newcomer_comes_from_a_folder_of_clips_to_an_encoder(walk: Walk) -> None:
    place = walk.place
    assert_outside(walk)
    told(walk.vididi(""), "to begin:", "vididi doctor", "--help")

    lines = walk.vididi("split clips --test-share 0.25 --out clips.csv")
    told(
        lines, r"all +18 +18 +6 +6 +0\.250", r"vididi prepare csv --videos clips --list clips\.csv"
    )
    assert (place / "clips.csv").is_file()

    prepare = "prepare csv --videos clips --list clips.csv --out shards/clips --short-side 40"
    told(walk.vididi(prepare), "18 training and 6 test videos, 3 classes, 0 rejected")
    assert (place / "shards" / "clips" / "manifest.json").is_file()

    video = f"one/{min((place / 'clips' / 'one').iterdir()).name}"
    show = f"show shards/clips --video {video} --out clip.png --frames 4 --stride 2 --size 32"
    told(walk.vididi(show), r"clip\.png: \d+ x \d+ pixels")
    assert (place / "clip.png").is_file()

    (place / "clips.yaml").write_text(SWEEP)
    sweep = "sweep clips.yaml --shards shards/clips"
    told(walk.vididi(f"{sweep} --dry-run", piped=True), "2 cells", "2 to run, in runs")
    told(
        walk.vididi(sweep),
        r"\d of 2 done",
        "Base .*ViDiDi",
        "R@1",
        r"tensorboard --logdir \S*runs/clips",
    )
    cells = sorted(path.parent for path in (place / "runs" / "clips").glob("*/result.json"))
    assert [cell.name.partition("-")[0] for cell in cells] == ["base", "vididi"]
    told(walk.vididi(f"{sweep.replace('sweep', 'status')}", piped=True), "2 finished")

    told(walk.vididi("table runs/clips"), "Base", "ViDiDi", "R@1", r"\d+\.\d")
    assert {"results.md", "results.csv", "results.tex"} <= names_in(place / "runs" / "clips")

    told(
        walk.vididi("report runs/clips --sweep clips.yaml --shards shards/clips"),
        r"wrote report\.html",
    )
    page = (place / "report.html").read_text()
    assert all(word in page for word in ("Base", "ViDiDi", "R@1", "vididi sweep"))
    assert not re.search(r"""(src|href)=["']https?:""", page)

    cell = f"runs/clips/{cells[1].name}"
    told(walk.vididi(f"embed {cell} clips/one --out features.csv"), f"{CLIPS} videos")
    with (place / "features.csv").open() as file:
        assert [Path(row["path"]).parent.name for row in csv.DictReader(file)] == ["one"] * CLIPS

    told(walk.vididi(f"export {cell} --format safetensors --out encoder"), r"encoder\.safetensors")
    assert names_in(place / "encoder") == {"encoder.safetensors", "README.md"}


def assert_outside(walk: Walk) -> None:
    """The code is the wheel's, and nothing of the checkout is looked at."""
    code = "import sys, vididi; print(vididi.__file__, *sys.path, sep='\\n')"
    done = subprocess.run(
        [walk.programs / "python", "-c", code],
        cwd=walk.place,
        env=outside_environment(walk.place.parent),
        capture_output=True,
        text=True,
        check=True,
    )
    file, *paths = done.stdout.splitlines()
    assert Path(file).is_relative_to(walk.programs.parent)
    assert str(REPO) not in paths


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("line", "wide"),
    [
        ("x" * 81, False),  # one word, such as a path
        ("again:  vididi sweep " + "x" * 80, False),
        ("a sentence " * 8, True),
        ("a sentence " * 7, False),
    ],
)
def test_what_is_too_wide(line: str, wide: bool) -> None:
    assert is_too_wide(line.rstrip()) == wide


def test_what_others_write_is_known() -> None:
    for line in (
        "WARNING:root:x",
        "2026-01-01 00:00:00,000\tINFO worker.py:1927 -- Started a local Ray instance.",
        "(raylet) a node died",
        "(train pid=7) x",
        "[h264 @ 0x55] error while decoding",
        "x.py:3: FutureWarning: y",
    ):
        assert FOREIGN.search(line), line
    for line in ("warning: none", "features: 8 videos", "100% base-s0: finished"):
        assert not FOREIGN.search(line), line
