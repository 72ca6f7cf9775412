"""Frameworks with and without ViDiDi, the paper's and ours: ``python analysis/bars.py RUNS --out
FILE``.

A bar chart by framework (ViDiDi Figure 1).
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("bars")
