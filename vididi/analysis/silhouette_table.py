"""Print ViDiDi's Table 7: ``python analysis/silhouette_table.py runs/frameworks``."""

from __future__ import annotations

from vididi.analysis.paper_table import main_of_table


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``paper_table.print_table``."""
    return main_of_table("vididi_table_7", "ViDiDi's Table 7, silhouette scores", argv)
