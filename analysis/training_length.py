"""A metric by length and data of pretraining (CVRL Figure 4): ``python analysis/training_length.py
RUNS --out FILE``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("training_length")
