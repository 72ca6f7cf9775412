"""Two sets of runs, and how sure their difference is.

``python analysis/compare.py ARM_A ARM_B --runs runs/ablation``
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("compare")
