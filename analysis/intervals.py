"""How far apart the two clips of a video are, by each sampling (CVRL Figure 3): ``python
analysis/intervals.py --out intervals.png``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("intervals")
