"""Lists of actions in AVA's layout, for its source and for scoring predictions."""

from __future__ import annotations

import re
from pathlib import Path

from vididi.errors import DataError
from vididi.files import check_regular


def read_actions(path: Path) -> dict[int, str]:
    """Names by id of a list of actions.

    Entries are ``item { name: "stand" id: 12 }`` or ``label { name: "stand" label_id: 12
    label_type: ... }``.

    Raises:
        DataError: the file cannot be read, holds anything else or nothing, or an id is 0 or there
            twice; names file and line.
    """
    try:
        text = check_regular(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    names: dict[int, str] = {}
    end = 0
    for block in re.finditer(r"\s*(?:item|label)\s*\{([^}\"]*\"[^\"]*\"[^}\"]*)\}", text):
        name, number = (
            re.search(r'\bname\s*:\s*"([^"]+)"', block[1]),
            re.search(r"\b(?:label_)?id\s*:\s*(\d+)", block[1]),
        )
        if block.start() != end or name is None or number is None:
            break
        action, line = int(number[1]), text.count("\n", 0, block.start(1)) + 1
        if action == 0:
            raise DataError(f"{path}, line {line}: id 0 is not valid; ids count from 1")
        if action in names:
            raise DataError(f"{path}, line {line}: id {action} is {names[action]!r} already")
        names[action], end = name[1], block.end()
    if rest := text[end:].lstrip():
        line = text.count("\n", 0, len(text) - len(rest)) + 1
        raise DataError(
            f'{path}, line {line}: neither item {{ name: "..." id: 12 }} nor label {{ name: "..."'
            " label_id: 12 }"
        )
    if not names:
        raise DataError(f"{path}: holds no actions")
    return names
