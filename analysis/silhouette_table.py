"""Print ViDiDi's Table 7: ``python analysis/silhouette_table.py runs/frameworks``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("silhouette_table")
