"""R@1 of each framework with and without ViDiDi, the paper's beside ours (ViDiDi Figure 1):
``python analysis/bars.py RUNS --out FILE``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("bars")
