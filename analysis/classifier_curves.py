"""Accuracy while a classifier is trained: ``python analysis/classifier_curves.py RUNS --out FILE``.

On training clips and on test videos (CVRL Figure 6).
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("classifier_curves")
