"""Training and test accuracy while a classifier is trained (CVRL Figure 6): ``python
analysis/classifier_curves.py RUNS --out FILE``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("classifier_curves")
