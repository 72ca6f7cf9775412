"""Print ViDiDi's Table 6 from run folders: ``python analysis/ablation_table.py runs/ablation``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, from anywhere
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.runs import find_runs
from analysis.tables import load_paper_table, write_tables


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="ViDiDi's Table 6, measured beside the paper's; also as Markdown and CSV.")
    parser.add_argument("runs", type=Path, help="a folder that holds run folders")
    parser.add_argument("--out", type=Path, help="where vididi_table_6.md and .csv go (default: RUNS)")
    arguments = parser.parse_args(argv)
    if not arguments.runs.is_dir():
        print(f"error: {arguments.runs}: there is no such folder", file=sys.stderr)
        return 2
    folders = find_runs(arguments.runs)
    try:
        print(write_tables(load_paper_table("vididi_table_6"), folders, arguments.out or arguments.runs))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if folders else 1


if __name__ == "__main__":
    sys.exit(main())
