"""t-SNE of a model's best-retrieved classes: ``python analysis/tsne.py RUN RUN --out tsne.png``.

ViDiDi Figures 3 and 6 to 9.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("tsne")
