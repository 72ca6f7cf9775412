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
