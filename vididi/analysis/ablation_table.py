"""Print ViDiDi's Table 6 from run folders: ``python analysis/ablation_table.py runs/ablation``."""

from __future__ import annotations

from vididi.analysis.paper_table import main_of_table


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``paper_table.print_table``."""
    return main_of_table("vididi_table_6", "ViDiDi's Table 6, the ablation study", argv)
