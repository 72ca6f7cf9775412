"""Every table of a small finished sweep is the committed text, whatever moves in the program.

frozen_sweep/every holds the run folders of two arms with all protocols (those of
tests/cluster/test_every_protocol.py, without weights, features and events), and frozen_sweep/tables
what the programs wrote of them. Only a change that is meant to change a table may write its text
anew:

    python tests/analysis/test_frozen_tables.py
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

HERE = Path(__file__).resolve().parent
SWEEP, TABLES = HERE / "frozen_sweep" / "every", HERE / "frozen_sweep" / "tables"

if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))

from vididi.analysis.compare import main as compare  # noqa: E402
from vididi.analysis.own_table import write_results  # noqa: E402
from vididi.analysis.paper import load_paper_table, table_names  # noqa: E402
from vididi.analysis.reading import find_runs  # noqa: E402
from vididi.analysis.tables import write_tables  # noqa: E402


def write_all(out: Path) -> None:
    """Every paper's table, and the table of a sweep that is no paper's: Markdown, CSV and LaTeX."""
    write_results(find_runs(SWEEP), out)
    for name in table_names():
        write_tables(load_paper_table(name), find_runs(SWEEP), out)


def in_full(name: str) -> bool:
    """Kept as text, so that one sees what a change does; of the others the digests do."""
    return name.startswith(("results", "vididi_table_6", "vididi_table_3"))


def test_every_table_is_the_committed_one(tmp_path: Path) -> None:
    write_all(tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    for name in filter(in_full, written):
        assert written[name] == (TABLES / name).read_text()
    assert digests(tmp_path) == json.loads((TABLES / "digests.json").read_text())


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if not in_full(path.name)
    }


def test_comparing_two_arms_prints_the_committed_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(["base", "vididi", "--runs", str(SWEEP)], "vididi compare") == 0
    assert capsys.readouterr().out == (TABLES / "compare.txt").read_text()


def write_frozen(aside: Path) -> None:
    """Replace the committed texts and digests by what the programs write now."""
    write_all(aside)
    TABLES.mkdir(exist_ok=True)
    for path in aside.iterdir():
        if in_full(path.name):
            (TABLES / path.name).write_text(path.read_text())
    (TABLES / "digests.json").write_text(json.dumps(digests(aside), indent=2) + "\n")
    with (TABLES / "compare.txt").open("w") as out, redirect_stdout(out):
        compare(["base", "vididi", "--runs", str(SWEEP)], "vididi compare")


if __name__ == "__main__":
    with TemporaryDirectory() as aside:
        write_frozen(Path(aside))
