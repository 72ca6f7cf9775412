"""Files of run folders without their checksums: what they say, to compare it or to write another
one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def plain(path: Path) -> dict[str, Any]:
    """The content of a JSON file."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "checksum"}


def plain_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "crc32"} for line in lines]
