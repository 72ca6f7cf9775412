"""Print ViDiDi's Table 7 from run folders: ``python analysis/silhouette_table.py
runs/frameworks``.
"""

from __future__ import annotations

from vididi.analysis.paper_table import main_of_one


def main(argv: list[str] | None = None) -> int:
    return main_of_one("vididi_table_7", "ViDiDi's Table 7, silhouette scores", argv)
