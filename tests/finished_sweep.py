"""A sweep whose cells are finished, made up; and what the program at hand says of it, as JSON. Also
run in changed copies of the tree:

python tests/finished_sweep.py SWEEP RUNS [CHANGES]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vididi.analysis.paper import load_paper_table
from vididi.analysis.reading import find_runs
from vididi.analysis.tables import write_tables
from vididi.cell_status import cell_states
from vididi.sweep import Cell, expand, load_sweep

CHECKSUM = "0" * 64
RECALLS = {"retrieval/R@1": 0.5, "retrieval/R@5": 0.6, "retrieval/R@10": 0.7}


def resolved_cells(
    sweep: Path, changes: Mapping[str, Any] | None = None, seeds: Sequence[int] = ()
) -> list[Cell]:
    cells = expand(load_sweep(sweep), changes, seeds=seeds)
    return [cell.resolved() for cell in cells]


def write_finished(cells: Iterable[Cell], sweep: str, runs: Path) -> None:
    """Run folders as they are when their cells are finished."""
    for cell in cells:
        folder = runs / cell.folder_name(CHECKSUM)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(cell.config.to_yaml())
        (folder / "cell.json").write_text(
            json.dumps({**cell.describe(sweep), "data_checksum": CHECKSUM})
        )
        (folder / "result.json").write_text(
            json.dumps({"version": 1, "rules": 2, **RECALLS, "data_checksum": CHECKSUM, "steps": 3})
        )


def look_at(sweep: Path, runs: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The folders' names of a sweep's cells, what became of them, and the table once cells of a
    second seed are finished too.
    """
    cells = resolved_cells(sweep, changes)
    found: dict[str, Any] = {"names": [cell.folder_name(CHECKSUM) for cell in cells]}
    found["states"] = [state.name for state in cell_states(cells, runs, CHECKSUM)]
    about = load_sweep(sweep)
    assert about.table
    write_finished(resolved_cells(sweep, changes, [1]), about.name, runs)
    found["table"] = write_tables(load_paper_table(about.table), find_runs(runs), runs)
    return found


if __name__ == "__main__":
    sweep, runs, *changes = sys.argv[1:]
    print(json.dumps(look_at(Path(sweep), Path(runs), json.loads(changes[0]) if changes else {})))
