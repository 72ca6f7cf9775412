"""One clip as frames, velocity and acceleration, above the R@1 of arms: ``python analysis/clip.py
SHARDS --video ID --record FILE --out FILE``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("clip")
