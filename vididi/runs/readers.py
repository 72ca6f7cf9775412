"""The small files of a run folder, and of the folders of its evaluations: one reader for each, and
nobody else reads them.

A file that is not there is None, or no records. One that is there and cannot be what was written
(empty, cut, of another form, with a checksum that does not fit) is a DamagedError that begins with
its path. One that a newer program
wrote, and storage that is away, are a DataError: with the file itself nothing is wrong. Only
reading: vididi.runs.mend sets damaged files aside.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, FiniteFloat, TypeAdapter, ValidationError

from vididi import RESULT_VERSION
from vididi.checksums import (
    KEY,
    LINE_KEY,
    content_fault,
    fault_of,
    line_fault,
    whole_at_end,
)
from vididi.config import Config, explain, read_yaml
from vididi.dotted_keys import flatten
from vididi.errors import ConfigError, DamagedError, DataError
from vididi.evaluation.retrieval import ABSENT
from vididi.introduced import with_introduced
from vididi.protocols import PROTOCOLS, settings_model
from vididi.runs.file_names import CELL, CONFIG, ERROR, FEATURES, METRICS, QUERIES, RESULT, STOPPED
from vididi.runs.forms import (
    CellForm,
    EvaluationResultForm,
    Numbers,
    RecordForm,
    RunResultForm,
    StoppedForm,
)
from vididi.values import load_quickly

if TYPE_CHECKING:
    import pyarrow as pa

# of a file that is read whole; the largest that a run writes, the list of too short videos, has a
# few
MOST_BYTES = 64 << 20
TOLD = 300  # characters of what is wrong with a file
Content = TypeVar("Content")
TAIL = 64 << 10  # bytes of error.txt that are read: it ends with the reason


# --- Forms ----------------------------------------------------------------------------------------

# What every configuration has had since there are run folders; what came later may be missing in an
# old one.
_OF_CONFIGS: dict[str, type] = {
    "data.name": str,
    **dict.fromkeys(("clip.frames", "clip.size", "clip.stride"), int),
    **dict.fromkeys(("objective.name", "backbone.name", "optimiser.name"), str),
    **dict.fromkeys(("training.epochs", "training.batch_size", "training.seed"), int),
    **dict.fromkeys(("evaluation.clips", "evaluation.frames"), int),
}
# Columns of Parquet files, and how the names of their types begin.
_TYPES: dict[str, str | tuple[str, ...]] = {
    **dict.fromkeys(("video_id", "class", "split"), ("string", "large_string")),
    **dict.fromkeys(("label", "first_hit", "predicted"), ("int", "uint")),
    "correct": "bool",
    "features": "fixed_size_list",
}
_METRICS = TypeAdapter(Numbers)
_ONLINE = TypeAdapter(dict[str, FiniteFloat])


# --- Readers --------------------------------------------------------------------------------------


def read_result(folder: Path) -> dict[str, Any] | None:
    """What was measured of a run, or by an evaluation, which is finished when it is there.

    Settings that came after it was written have their introduction value (vididi.introduced).

    Raises:
        DamagedError: it is no result. DataError: its version is a newer one, or it cannot be read.
    """
    path = folder / RESULT
    # Losses of earlier versions may be NaN, which is no damage of the file
    # (vididi.runs.old_results); metrics must be finite.
    content = _mapping(path, finite=False)
    if content is None:
        return None
    _check_version(path, content)
    if "protocol" in content:
        _check(path, content, EvaluationResultForm)
        with _damaging(path):
            flatten(content.get("settings", {}))
            if "settings" in content and content["protocol"] in PROTOCOLS:
                content["settings"] = with_introduced(
                    settings_model(content["protocol"]), content["settings"]
                )
    else:
        _check(path, content, RunResultForm)
        _check_values(path, _METRICS, {key: value for key, value in content.items() if "/" in key})
    return content


def read_run_result(folder: Path) -> dict[str, Any] | None:
    """The result of a run alone; raises as read_result."""
    content = read_result(folder)
    if content is not None and "protocol" in content:
        _damaged(folder / RESULT, "is the result of an evaluation, not of a run")
    return content


def read_evaluation_result(folder: Path) -> dict[str, Any] | None:
    """The result of an evaluation alone; raises as read_result."""
    content = read_result(folder)
    if content is not None and "protocol" not in content:
        _damaged(folder / RESULT, "is the result of a run, not of an evaluation")
    return content


def read_cell(folder: Path) -> dict[str, Any] | None:
    """Which cell of which sweep a run is: sweep, arm, label, axes. Raises DamagedError,
    DataError.
    """
    path = folder / CELL
    content = _mapping(path)
    if content is not None:
        _check(path, content, CellForm)
    return content


def read_text_note(path: Path) -> str:
    """A line that a watchdog has left; empty where there is none."""
    with suppress(OSError), path.open(errors="replace") as file:
        return file.read(TOLD).strip()
    return ""


def read_config(folder: Path) -> dict[str, Any] | None:
    """The configuration of a run as plain nested values, as it was written: for whoever shows,
    compares or names runs.

    What came later has its introduction value (vididi.introduced), and what a newer program wrote
    is kept. Who makes something of it takes the Config of vididi.components.read_run_config, which
    reads through here.

    Raises:
        DamagedError: it is no configuration. Keys that this program does not know are taken for
            those of a newer one.
    """
    path = folder / CONFIG
    content = _content(path)
    if content is None:
        return None
    if not content.strip():
        _damaged(path, "is empty")
    if fault := content_fault(content, ".yaml"):
        _damaged(path, fault)
    with _damaging(path):
        values = load_quickly(content)
        values = values if isinstance(values, dict) else read_yaml(path)
        flat = flatten(values)
    for key, kind in _OF_CONFIGS.items():
        if type(flat.get(key)) is not kind:
            _damaged(
                path, f"{key}: {flat[key]!r} is not valid" if key in flat else f"{key}: missing"
            )
    with _damaging(path):
        values = with_introduced(Config, values)
    try:
        Config.model_validate(values)
    except ValidationError as error:
        if any(
            fault["type"] not in ("extra_forbidden", "literal_error") for fault in error.errors()
        ):
            _damaged(path, "; ".join(explain(error, Config)))
    return values


def read_mapping(path: Path, form: type[BaseModel]) -> dict[str, Any] | None:
    """A JSON file of this form, None if it is not there. Raises DamagedError, DataError."""
    content = _mapping(path)
    if content is not None:
        _check(path, content, form)
    return content


def read_stopped(folder: Path) -> dict[str, Any] | None:
    """Where a run was stopped early, and by which measure. Raises DamagedError, DataError."""
    path = folder / STOPPED
    content = _mapping(path)
    if content is None:
        return None
    _check(path, content, StoppedForm)
    online = {key: value for key, value in content.items() if key.startswith("online/")}
    _check_values(path, _ONLINE, online)
    if not online:
        _damaged(path, "has no online measure")
    return content


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """What was recorded of each epoch, in order, the last record of an epoch counting. A last line
    cut by a kill is left out.

    Raises:
        DamagedError: another line is no record; it says which. DataError: the file cannot be read.
    """
    path = folder / METRICS
    records = [
        _record(path, number, line) for number, line in enumerate(_lines(_content(path) or b""), 1)
    ]
    by_epoch = {record["epoch"]: record for record in records}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def valid_lines(folder: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """The whole lines of metrics.jsonl that are records, and these, whatever else is in the file.
    Raises DataError.
    """
    path = folder / METRICS
    records = []
    for number, line in enumerate(_lines(_beginning(path)), 1):
        try:
            records.append((line, _record(path, number, line)))
        except DamagedError:
            continue
    return records


@dataclass(frozen=True, eq=False)
class Queries:
    """queries.parquet: what became of each query, in the file's order.

    Args:
        videos, labels: ``[Q]``.
        first_hit: ``[Q]``, how many wrong neighbours or classes come before the right one, ABSENT
            where the right one is not there; None in a file that only says what was correct.
        correct: ``[Q]``, in such a file.
    """

    videos: NDArray[np.str_]
    labels: NDArray
    first_hit: NDArray[np.int64] | None
    correct: NDArray[np.bool_] | None = None

    def found(self, k: int) -> NDArray[np.bool_] | None:
        """``[Q]``, whether the right one is among the first k; None where the file does not say."""
        if self.first_hit is not None:
            return self.first_hit < k
        return self.correct if k == 1 else None


def queries_table(
    videos: ArrayLike, labels: ArrayLike, first_hit: NDArray[np.int64], **more: ArrayLike
) -> pa.Table:
    """The content of queries.parquet, with further columns. A class that is ABSENT is null, which
    no reader takes for a rank.
    """
    import pyarrow as pa

    ranks = pa.array(first_hit, mask=first_hit == ABSENT)
    return pa.table({"video_id": videos, "label": labels, "first_hit": ranks, **more})


def read_queries(path: Path) -> Queries:
    """Read a queries.parquet.

    Raises:
        DamagedError: it is missing, is no Parquet file, or lacks columns or has others of their
            names. DataError: it cannot be read.
    """
    table = read_table(path, ("video_id", "label"), ("first_hit", "correct"))
    table = needed(path, table)
    for name in (
        "video_id",
        "label",
        *(["correct"] if "first_hit" not in table.column_names else []),
    ):
        if table[name].null_count:
            _damaged(path, f"column {name} has {table[name].null_count} values that are null")
    videos, labels = np.asarray(table["video_id"].to_pylist(), dtype=str), table["label"].to_numpy()
    if "first_hit" in table.column_names:
        return Queries(videos, labels, _ranks(path, table["first_hit"]))
    return Queries(videos, labels, None, table["correct"].to_numpy())


def _ranks(path: Path, column: pa.ChunkedArray) -> NDArray[np.int64]:
    ranks = column.cast("int64").fill_null(ABSENT).to_numpy()
    if (ranks < 0).any():
        _damaged(path, f"first_hit holds {ranks.min()}, which is no rank")
    return ranks


def check_queries(folder: Path) -> None:
    """Raise DamagedError where queries.parquet is there and is no table of queries, DataError where
    it cannot be read.
    """
    if _size(folder / QUERIES) is not None:
        read_queries(folder / QUERIES)


def read_feature_table(folder: Path) -> pa.Table | None:
    """The features of an evaluation's videos: columns label, class, split and features. Raises
    DamagedError, DataError.
    """
    return read_table(folder / FEATURES, ("label", "class", "split", "features"))


def read_table(
    path: Path, needed: Collection[str], one_of: Collection[str] = ()
) -> pa.Table | None:
    """A Parquet file that has these columns, and at least one of ``one_of``; None where there is
    none.

    Raises:
        DamagedError: it is no Parquet file, cannot be decoded, or a column is missing or of another
            type. DataError: it cannot be read.
    """
    if _size(path) is None:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if fault := fault_of(path, ".parquet"):
            _damaged(path, fault)
        table = pq.ParquetFile(
            path
        ).read()  # pq.read_table would import pandas, and make a column of an "=" in the path
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise _away(path, error) from None
        _damaged(path, f"is not a Parquet file that can be decoded: {error}")
    missing = set(needed) - set(table.column_names)
    if missing or (one_of and not set(one_of) & set(table.column_names)):
        _damaged(path, f"has no column {' and '.join(sorted(missing)) or ' or '.join(one_of)}")
    for field in table.schema:
        if not str(field.type).startswith(_TYPES.get(field.name, "")):
            _damaged(path, f"column {field.name} is of type {field.type}")
    said = {key: text for key, text in (table.schema.metadata or {}).items() if key != KEY.encode()}
    return table.replace_schema_metadata(said or None)


def read_error(folder: Path) -> str | None:
    """Why the last attempt failed, the end of it; bytes that are no text are replaced.

    Raises:
        DamagedError: it is no file. DataError: it cannot be read.
    """
    path = folder / ERROR
    if _size(path) is None:
        return None
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            return file.read().decode(errors="replace").replace("\0", "")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _away(path, error) from None


# --- Finding --------------------------------------------------------------------------------------


def needed(path: Path, content: Content | None) -> Content:
    """What a reader found in a file that must be there. Raises DamagedError where it is missing."""
    if content is None:
        _damaged(path, "is missing")
    return content


def is_there(path: Path) -> bool:
    """Whether anything lies there, readable or not. Raises DataError where storage is away."""
    try:
        return _size(path) is not None
    except DamagedError:
        return True


def folders_with(root: Path, name: str) -> list[Path]:
    """The folders, ``root`` itself or anywhere below it, in which something has this name, sorted.
    Each once, whatever links there are.

    Raises:
        DataError: a folder cannot be listed, which may hide others.
    """

    def away(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise _away(Path(error.filename or root), error)

    starts, visited, matches = [root], set(), []
    # links come last, so that a folder has its own name where it lies below root, and not a link's
    for start in starts:
        for directory, folders, files in os.walk(start, onerror=away):
            if (real := os.path.realpath(directory)) in visited:
                folders.clear()
                continue
            visited.add(real)
            starts += sorted(
                link for folder in folders if (link := Path(directory, folder)).is_symlink()
            )
            if name in files or name in folders:
                matches.append(Path(directory))
    return sorted(matches)


# --- Content and form -----------------------------------------------------------------------------


def _damaged(path: Path, reason: str) -> NoReturn:
    raise DamagedError(f"{path}: {shorten(reason, TOLD)}") from None


def _away(path: Path, error: OSError) -> DataError:
    """Storage that is away is no damage."""
    return DataError(f"{path}: cannot be read: {error.strerror or error}")


def _size(path: Path) -> int | None:
    """How many bytes a file has; None where there is none. Raises DamagedError where something else
    lies there.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            _damaged(path, "is a link to nothing")
        return None
    except OSError as error:
        raise _away(path, error) from None
    if not stat.S_ISREG(status.st_mode):
        _damaged(
            path,
            "is a folder, not a file" if stat.S_ISDIR(status.st_mode) else "is not a regular file",
        )
    return status.st_size


def _content(path: Path) -> bytes | None:
    size = _size(path)
    if size is None:
        return None
    if size > MOST_BYTES:
        _damaged(path, f"has {size:,} bytes, more than any such file")
    return _beginning(path)


def _beginning(path: Path) -> bytes:
    """The first MOST_BYTES of a file; nothing where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return b""
    except OSError as error:
        raise _away(path, error) from None


def _lines(content: bytes) -> Iterator[bytes]:
    """Whole lines, with their ends. One that was cut short by a kill has none, unless it lacks
    nothing but that.
    """
    *lines, last = content.split(b"\n")
    return (line + b"\n" for line in ([*lines, last] if whole_at_end(last) else lines))


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """A line of metrics.jsonl. A measure that is not finite is no damage of the file."""
    if fault := line_fault(line):
        _damaged(path, f"line {number} {fault}")
    record = _parsed(path, line, f"line {number} ", finite=False)
    _check(path, record, RecordForm, f"line {number}: ")
    record.pop(LINE_KEY, None)
    return record


def _mapping(path: Path, finite: bool = True) -> dict[str, Any] | None:
    content = _content(path)
    if content is None:
        return None
    found = _parsed(path, content, finite=finite)
    if fault := content_fault(content, ".json"):
        _damaged(path, fault)
    if str(found.get(KEY, "")).startswith("sha256:"):
        del found[KEY]
    return found


def _parsed(path: Path, content: bytes, where: str = "", finite: bool = True) -> dict[str, Any]:
    """A JSON mapping that can be printed and written again."""
    if not content.strip(b" \t\r\n"):
        _damaged(path, f"{where}is empty")
    try:
        found = json.loads(content.decode())
        json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate cannot be
    except UnicodeError:
        _damaged(path, f"{where}is not text in UTF-8")
    except (ValueError, RecursionError) as error:
        _damaged(path, f"{where}is not JSON: {error}")
    if not isinstance(found, dict):
        _damaged(path, f"{where}must be a mapping of keys to values, not {type(found).__name__}")
    if finite and not _is_finite(found):
        _damaged(path, f"{where}has a number that is not finite")
    return found


def _is_finite(content: Any) -> bool:
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        return False
    return True


def _check_version(path: Path, content: dict[str, Any]) -> None:
    version = content.get("version")
    if type(version) is not int or version < 1:
        _damaged(
            path,
            f"version: {version!r} is not valid" if "version" in content else "version: missing",
        )
    if version != RESULT_VERSION:
        raise DataError(
            f"{path.parent}: {path.name} has version {version!r}, this program reads version"
            f" {RESULT_VERSION}"
        )


def _check(path: Path, content: dict[str, Any], form: type[BaseModel], where: str = "") -> None:
    try:
        form.model_validate(content)
    except ValidationError as error:
        _damaged(path, where + "; ".join(explain(error, form)))


def _check_values(path: Path, form: TypeAdapter, values: dict[str, Any]) -> None:
    try:
        form.validate_python(values, strict=True)
    except ValidationError as error:
        _damaged(
            path,
            "; ".join(
                f"{fault['loc'][0]}: {fault['input']!r} is not a finite number"
                for fault in error.errors()
            ),
        )


@contextmanager
def _damaging(path: Path) -> Iterator[None]:
    """What a parser refuses becomes a DamagedError that begins with the path."""
    try:
        yield
    except DamagedError:
        raise
    except (ConfigError, ValueError, RecursionError, yaml.YAMLError) as error:
        _beginning(path)  # raises DataError where storage went away meanwhile
        _damaged(path, str(error).removeprefix(str(path)).lstrip(":, "))
