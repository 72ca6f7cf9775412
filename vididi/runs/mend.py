"""Setting damaged files of run folders aside, so that what they stood for is made again, and no
more than that.

A damaged file is renamed (``result.json.damaged-1``), never removed, and nothing is overwritten. In
an object store the same is done under the folder's lease. What follows from it:

    result.json, queries.parquet   the run is not finished: its end is measured again, from its
                                   checkpoint or its encoder
    features.parquet               the evaluation's features are computed again; its measures stay
                                   until then; a run's own are not, as nothing else needs them
    metrics.jsonl                  its valid lines are kept
    config.yaml, cell.json         written anew from the cell, if the folder's name says that it is
                                   this cell
    stopped.json                   the run goes on

Checkpoints and weights are looked at by whoever goes on from them (vididi.runs.trust).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from vididi.config import Config
from vididi.errors import DamagedError, DataError, HeldError
from vididi.runs import mirror
from vididi.runs.file_names import CELL, CONFIG, METRICS, QUERIES, RESULT
from vididi.runs.outcome import damage
from vididi.runs.readers import valid_lines
from vididi.runs.run_folder import RunFolder, cell_text, config_text, write_atomically

WAIT_S = 2.0  # for a process that is at work in the folder; it is left to that one then

Report = Callable[[str], None]


def mend_run(
    folder: Path, config: Config, record: Mapping[str, Any], checksum: str, report: Report
) -> None:
    """Set the damaged files of a run aside, if there are any.

    Args:
        config, record, checksum: of the cell, and of its data.
        report: is called for each file, with what is wrong with it and where it is now.

    Raises:
        DataError: a file cannot be read, or was written by a newer program, or cannot be set aside.
    """
    replacements = {
        CONFIG: config_text(config.to_yaml()),
        CELL: cell_text({**record, "data_checksum": checksum}),
    }
    fits = folder.name.endswith(f"-{config.identity(checksum)}")
    _mend(folder, replacements if fits else {}, report)


def mend_evaluation(folder: Path, report: Report) -> None:
    """Set the damaged files of an evaluation aside, so that it is made again. Raises as
    mend_run.
    """
    _mend(folder, {}, report)


def _mend(folder: Path, replacements: Mapping[str, str], report: Report) -> None:
    if not damage(folder):
        return
    try:
        with RunFolder(folder).locked(WAIT_S):
            _fetch_again(folder)
            for name, error in damage(folder).items():
                _mend_file(folder, name, error, replacements, report)
    except HeldError:
        return
    except OSError as error:
        raise DataError(f"{folder}: a damaged file cannot be set aside: {error}") from None


def _fetch_again(folder: Path) -> None:
    """What is damaged in a mirror alone is not damaged: what counts is the store."""
    if mirror.mirror_of(folder) is None:
        return
    for name in damage(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        mirror.pull_file(path)


def _mend_file(
    folder: Path, name: str, error: DamagedError, replacements: Mapping[str, str], report: Report
) -> None:
    path, lines = folder / name, []
    if name in (CONFIG, CELL) and name not in replacements:
        report(f"{error}; left as it is, for the folder's name does not say which cell this is")
        return
    if name == QUERIES and (folder / RESULT).is_file():
        # The result counts as measured only with its queries; it goes first, so that a kill in
        # between loses nothing.
        set_aside(folder / RESULT, "replaced")
    if name == METRICS:
        lines = [line for line, _ in valid_lines(folder)]
    renamed = set_aside(path) if path.exists() or path.is_symlink() else None
    if name in replacements:
        write_atomically(path, replacements[name])
    if name == METRICS:
        write_atomically(path, b"".join(lines).decode())
    report(f"{error}; {f'set aside as {renamed.name}' if renamed else 'written anew'}")


def set_aside(path: Path, why: str = "damaged") -> Path:
    """Give a file, or a folder in its place, a name that is free; in the store too, where this
    process holds the run folder.
    """
    names = (path.with_name(f"{path.name}.{why}-{number}") for number in count(1))
    target = next(name for name in names if not (name.exists() or name.is_symlink()))
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    path.rename(target)
    for file in files:
        mirror.push(target / file.relative_to(path))
        mirror.remove_file(file)
    return target
