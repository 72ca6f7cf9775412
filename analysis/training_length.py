"""A metric by length of pretraining: ``python analysis/training_length.py RUNS --out FILE``.

A line for each data set of pretraining (CVRL Figure 4).
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("training_length")
