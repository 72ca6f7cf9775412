"""Pretraining curves: ``python analysis/curves.py runs/ablation --out curves.png``.

CVRL Figure 5, CORP Figure 3.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("curves")
