"""Which videos are embedded, and the files that their features are written to."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vididi.data.encode import Reject
from vididi.data.sources.lists import csv_lines, numbered_lines
from vididi.data.sources.walk import walk
from vididi.data.video import printable
from vididi.errors import DataError
from vididi.runs.run_folder import replacing

SUFFIXES = (".parquet", ".npy", ".csv")
LISTS = (".txt", ".csv")


@dataclass(frozen=True)
class Embedded:
    """A video with its feature ``[D]``; row: of the prepared set that it was found in."""

    path: str
    sha256: str
    row: int | None
    feature: NDArray[np.float32]


def listed_videos(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The videos that files, folders and lists name, in their order, each once, and notes on what
    was left out of folders.

    A path in a list is relative to the list's folder.

    Raises:
        DataError: a folder has no videos, or a list cannot be read.
    """
    found: dict[Path, None] = {}
    notes: list[str] = []
    for path in paths:
        if path.is_dir():
            tree = walk(path)
            if not tree.videos:
                raise DataError(f"PATH: {path} holds no videos")
            notes += tree.notes
            found.update(dict.fromkeys(path / name for name in tree.videos))
        elif path.suffix.lower() in LISTS and path.is_file():
            found.update(dict.fromkeys(path.parent / name for name in _names(path)))
        else:
            found[path] = None
    return list(found), notes


def _names(path: Path) -> list[str]:
    if path.suffix.lower() == ".txt":
        return [line for _, line in numbered_lines(path)]
    (_, header), *rows = csv_lines(path)
    if "path" not in header:
        raise DataError(f"PATH: {path} has the columns {', '.join(header)}; one must be path")
    return [cells[header.index("path")] for _, cells in rows]


def write_features(out: Path, videos: Sequence[Embedded], width: int) -> None:
    """Write features ``[V, width]`` in the format of the file's suffix, whole or not at all.

    Parquet: path, sha256 (of the file's bytes), row (of --in; null where it is not there),
    features. CSV: the same, with columns f0, f1, .... npy: features alone, and the paths, a line
    each, in OUT.txt.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    features = np.stack([video.feature for video in videos])
    with replacing(out) as temporary:
        if out.suffix.lower() == ".parquet":
            pq.write_table(_table(videos, features), temporary)
        elif out.suffix.lower() == ".npy":
            with temporary.open("wb") as file:
                np.save(file, features)
        else:
            _write_rows(
                temporary,
                ["path", "sha256", "row", *(f"f{n}" for n in range(width))],
                (
                    [v.path, v.sha256, "" if v.row is None else v.row, *map(str, v.feature)]
                    for v in videos
                ),
            )
    if out.suffix.lower() == ".npy":
        with replacing(out.with_name(f"{out.name}.txt")) as temporary:
            temporary.write_text("".join(f"{video.path}\n" for video in videos))


def _table(videos: Sequence[Embedded], features: NDArray[np.float32]) -> pa.Table:
    columns = {
        "path": [video.path for video in videos],
        "sha256": [video.sha256 for video in videos],
        "row": pa.array([video.row for video in videos], pa.int64()),
    }
    vectors = pa.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])
    return pa.table({**columns, "features": vectors})


def write_rejects(out: Path, rejects: Sequence[Reject]) -> Path:
    """List what was rejected beside the features, as a prepared set does; an old list goes.

    Returns:
        the list's path, OUT.rejects.csv.
    """
    path = out.with_name(f"{out.name}.rejects.csv")
    if not rejects:
        path.unlink(missing_ok=True)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ([reject.video_id, printable(reject.path), reject.reason] for reject in rejects)
    with replacing(path) as temporary:
        _write_rows(temporary, ["video_id", "path", "reason"], rows)
    return path


def _write_rows(path: Path, header: list[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)
