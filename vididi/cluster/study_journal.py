"""The journal of a search's study, a line for each record, with a checksum; it is cut back to whole
records where a kill or a full disk left half of one.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from vididi.checksums import LINE_KEY
from vididi.errors import DamagedError
from vididi.words import counted

ADVICE = "move the file away, and the search takes what is finished from the run folders"


class CheckedJournal(JournalFileBackend):
    """Optuna's journal, whose records also hold their CRC-32; a record of an earlier version has
    none. Optuna's own reader takes no notice of it.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records with their checksums; see JournalFileBackend."""
        super().append_logs([{**log, LINE_KEY: _checksum(log)} for log in logs])

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """The records from a number on; see JournalFileBackend.

        Raises:
            DamagedError: one was changed after it was written, or is no record.
        """
        number = log_number_from
        try:
            for log in super().read_logs(log_number_from):
                number += 1
                checksum = log.pop(LINE_KEY, None)
                if checksum is not None and checksum != _checksum(log):
                    raise ValueError("was changed after it was written: its checksum does not fit")
                yield log
        except (ValueError, AttributeError) as error:
            raise DamagedError(
                f"{self._file_path}: line {number} or the one after it: {error}; {ADVICE}"
            ) from None


def _checksum(log: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(log, separators=(',', ':')).encode()):08x}"


def mend_journal(path: Path, report: Callable[[str], None]) -> bool:
    """Cut a journal back to whole records. The caller holds the search, and this the journal's own
    lock.

    Args:
        report: is called with what was cut.

    Returns:
        whether records may be missing: there was half of one, or no journal, or an empty one.

    Raises:
        DamagedError: another line is no record.
    """
    if not path.is_file() or not path.stat().st_size:
        return True
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DamagedError(f"{path}: line {number} is not JSON: {error}; {ADVICE}") from None
        if not isinstance(record, dict) or "op_code" not in record:
            raise DamagedError(f"{path}: line {number} is no record of a study; {ADVICE}")
    if whole == len(content):
        return False
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        with path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
    finally:
        lock.release()
    report(
        f"{path}: its last record was cut short; it is cut back by"
        f" {counted(len(content) - whole, 'byte')} to {counted(len(lines), 'whole record')}"
    )
    return True
