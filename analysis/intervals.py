"""How far apart a video's two clips are: ``python analysis/intervals.py [RUNS] --out FILE``.

By each sampling (CVRL Figure 3).
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("intervals")
