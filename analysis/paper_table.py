"""Print a paper's table: ``python analysis/paper_table.py vididi_table_1 runs/frameworks``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("paper_table")
