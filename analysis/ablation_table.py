"""Print ViDiDi's Table 6 from run folders: ``python analysis/ablation_table.py runs/ablation``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, from anywhere
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.paper_table import main_of_one


def main(argv: list[str] | None = None) -> int:
    return main_of_one("vididi_table_6", "ViDiDi's Table 6, the ablation study", argv)


if __name__ == "__main__":
    sys.exit(main())
