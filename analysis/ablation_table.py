"""Print ViDiDi's Table 6 from run folders: ``python analysis/ablation_table.py runs/ablation``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("ablation_table")
