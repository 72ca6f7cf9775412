"""Print ViDiDi's Table 6 from run folders: ``python analysis/ablation_table.py runs/ablation``."""

from __future__ import annotations

from vididi.analysis.paper_table import main_of_one


def main(argv: list[str] | None = None) -> int:
    return main_of_one("vididi_table_6", "ViDiDi's Table 6, the ablation study", argv)
