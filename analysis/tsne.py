"""t-SNE of the classes that a model retrieves best (ViDiDi Figures 3 and 6 to 9): ``python
analysis/tsne.py RUN RUN --out tsne.png``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from analysis._program import run

    run("tsne")
