"""The prepared sets that the runs of a report were made on."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vididi.analysis.reading import Run
from vididi.data.shards import ShardSet
from vididi.data.storage import Folder, cache_folder
from vididi.errors import VididiError
from vididi.terminal import one_line

REJECTS_SHOWN = 500


@dataclass(frozen=True)
class PreparedData:
    """A prepared set that runs were made on: found (``shards``), or why not (``missing``)."""

    name: str
    checksum: str
    shards: ShardSet | None
    missing: str = ""

    @property
    def rejects(self) -> list[list[str]]:
        """Video, file and reason of each video that was left out, the first REJECTS_SHOWN."""
        if self.shards is None:
            return []
        path = self.shards.root / "rejects.csv"
        if not path.is_file():
            return []
        rows = list(csv.reader(path.read_text().splitlines()))[1:]
        return [[one_line(cell) for cell in row] for row in rows[:REJECTS_SHOWN]]


def prepared_data(runs: Iterable[Run], folders: Sequence[Folder] = ()) -> list[PreparedData]:
    """The prepared sets that the runs were made on, by their checksums; nothing is prepared.

    Args:
        folders: where to look before the cache.
    """
    needed = {run.result["data_checksum"]: run.data for run in runs}
    candidates: list[Folder] = [*folders, *sorted(cache_folder().glob("shards/*"))]
    found: dict[str, ShardSet] = {}
    problems: list[str] = []
    for folder in candidates:
        if not (folder / "manifest.json").is_file():
            continue
        try:
            checksum = json.loads((folder / "manifest.json").read_text()).get("checksum")
            if checksum in needed and checksum not in found:
                found[checksum] = ShardSet.open(folder)
        except (VididiError, OSError, ValueError) as error:
            problems.append(one_line(str(error)))
    return [
        PreparedData(
            name,
            checksum,
            found.get(checksum),
            ""
            if checksum in found
            else "; ".join(
                [
                    "the prepared videos are not on this machine; --shards names a folder of them",
                    *problems,
                ]
            ),
        )
        for checksum, name in needed.items()
    ]
