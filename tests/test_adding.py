"""docs/adding.md followed to the letter: each section is applied to a copy of the repository, and
its commands are run there.

A comment in the page says what the block of code below it is:

    <!-- new file: PATH -->              the whole content of a new file
    <!-- in PATH, after: LINE -->        comes after the only line that reads so, indented as it is
    in the block <!-- in PATH, before: LINE -->       comes before it
    <!-- in PATH, instead of: LINE -->   replaces it
    <!-- run -->                         a shell script, run in the root of the copy; each of its
                                         commands must succeed

A block without such a comment is an illustration. A section without one has nothing to follow, and
is named in PROSE.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "adding.md"
BLOCK = re.compile(r"^<!-- (?P<what>.+?) -->\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
EDIT = re.compile(r"in (?P<path>[^\s,]+), (?P<where>after|before|instead of): (?P<line>.+)")
COMMENT = re.compile(r"^<!-- (.+?) -->$", re.MULTILINE)
PROSE = {"Smaller things"}
PROGRAMS = Path(sys.executable).parent
MADE = ("__pycache__", "*.egg-info", ".*_cache")  # beside sources, by programs
AT_THE_TOP = {".git", ".venv", "runs"}


@dataclass(frozen=True)
class Block:
    """One block of code of the page: ``what`` the comment above it says, and its ``text``."""

    what: str
    text: str


def sections() -> dict[str, list[Block]]:
    """The blocks to follow of each section of the page, by the section's title."""
    _, *parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    texts = zip(parts[::2], parts[1::2], strict=True)
    return {
        title: [Block(**found.groupdict()) for found in BLOCK.finditer(text)]
        for title, text in texts
    }


SECTIONS = sections()
FOLLOWED = [title for title in SECTIONS if title not in PROSE]


def apply(block: Block, root: Path) -> None:
    """Do to the copy in ``root`` what a block says."""
    if block.what.startswith("new file: "):
        path = root / block.what.removeprefix("new file: ")
        assert not path.exists(), f"{path} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        return
    edit = EDIT.fullmatch(block.what)
    assert edit, f"docs/adding.md: not understood: {block.what!r}"
    path = root / edit["path"]
    lines = path.read_text().splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line.strip() == edit["line"]]
    assert len(places) == 1, (
        f"{edit['path']}: {len(places)} lines, not one, read {edit['line']!r}; mend docs/adding.md"
    )
    first, last = {"after": (1, 1), "before": (0, 0), "instead of": (0, 1)}[edit["where"]]
    lines[places[0] + first : places[0] + last] = [block.text]
    path.write_text("".join(lines))


def run(script: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Run a block's commands as a reader would, with the copy's code and this environment's
    programs.
    """
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    # Without what this pytest tells its own workers.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    }
    environment |= {"PATH": path, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def left_out(folder: str, names: list[str]) -> set[str]:
    """What a copy of the repository does without."""
    return shutil.ignore_patterns(*MADE)(folder, names) | (
        AT_THE_TOP if Path(folder) == REPO else set()
    )


def written(blocks: list[Block]) -> list[str]:
    """The Python files that some blocks write or change."""
    edits = [EDIT.fullmatch(block.what) for block in blocks]
    paths = [
        edit["path"] if edit else block.what.removeprefix("new file: ")
        for block, edit in zip(blocks, edits, strict=True)
    ]
    return sorted({path for path in paths if path.endswith(".py")})


@pytest.mark.parametrize("title", FOLLOWED)
def test_a_section_followed_to_the_letter_works(title: str, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(REPO, root, ignore=left_out)
    *blocks, commands = SECTIONS[title]
    for block in blocks:
        apply(block, root)
    files = " ".join(written(blocks))
    lint = f"ruff format --quiet {files}\nruff check --quiet {files}\n" if files else ""
    done = run(lint + commands.text, root)
    assert done.returncode == 0, f"{done.args[-1]}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"


def test_every_section_can_be_followed_and_ends_with_its_commands() -> None:
    for title in FOLLOWED:
        whats = [block.what for block in SECTIONS[title]]
        assert len(whats) > 1, title
        assert whats.count("run") == 1, title
        assert whats[-1] == "run", title
    assert set(SECTIONS) >= PROSE
    assert not any(SECTIONS[title] for title in PROSE)


def test_no_comment_of_the_page_is_passed_over() -> None:
    """One with a slip in its form would be, and its block never tried."""
    assert COMMENT.findall(PAGE.read_text()) == [
        block.what for blocks in SECTIONS.values() for block in blocks
    ]
