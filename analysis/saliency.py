"""Where encoders look in a clip: ``python analysis/saliency.py RUN RUN --video ID --out clip.png``.

ViDiDi Figures 4 and 10 to 14.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("saliency")
