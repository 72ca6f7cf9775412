"""Numbers and values in messages, as a user would write them. Pure Python."""

from __future__ import annotations

import json
from typing import Any


def counted(number: int, what: str, plural: str | None = None) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number} {what if number == 1 else plural or what + 's'}"


def written(value: Any) -> str:
    """A value as it stands in a YAML file: true, null, [1, 2]; a text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def rounded_off(value: float) -> str:
    """Two figures, and whole numbers whole: ``0.0042``, ``3.1``, ``42``, ``317``."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def size_text(count: float) -> str:
    """Bytes as ``812 B``, ``3.4 KB``, ``57 MB``, ``1.2 GB``: powers of 1000, as disks are sold."""
    for unit in ("B", "KB", "MB"):
        if count < 999.5:
            return f"{rounded_off(count) if unit != 'B' else f'{count:.0f}'} {unit}"
        count /= 1000
    return f"{rounded_off(count)} GB"
