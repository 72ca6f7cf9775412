"""What is done of a set that is being prepared, kept so that another process can go on with it, and
the files that it has beside its shards.
"""

from __future__ import annotations

import csv
import json
import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vididi.checksums import KEY, content_fault, sealed_json
from vididi.data.encode import Reject
from vididi.data.layout import BOX_SCHEMA, INDEX_SCHEMA, SPLITS, VERSION, Manifest, shard_name
from vididi.data.storage import Folder, RemotePath, keep, remove, sizes, write_durably
from vididi.data.verify import index_checksum
from vididi.data.video import Boxes, Video
from vididi.data.video_reader import READER

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """A video that was prepared, and what its user should know of it."""

    video_id: str
    path: str
    note: str


@dataclass
class Journal:
    """What is done of a set: in memory, and as files where the set is (vididi.data.prepare)."""

    root: Folder  # of the journal itself
    set: Folder  # of the finished files
    work: Path  # where files are written; ``set``, unless that is in a store
    index: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    videos: int = 0  # how many of the plan's videos are in the index or rejected
    shards: int = 0
    classes: list[str] = field(default_factory=list)
    boxes: dict[str, Boxes] = field(default_factory=dict)  # of the plan's videos, by id
    # Lengths of index, rejects and notes up to the last finished shard.
    recorded: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def open(cls, out: Folder, work_dir: Path, plan: dict[str, Any]) -> Journal:
        """The journal of an earlier run of the same plan, or a new one.

        Args:
            out: where the set is to be; work_dir: the local folder in which it is prepared.
        """
        work = work_dir / "set"
        if isinstance(out, RemotePath):
            journal = cls(out / "partial", out, work)
        else:
            journal = cls(work_dir, work, work)

        path = journal.root / "plan.json"
        if not path.is_file() or _content(path) != plan:
            journal._start(path, plan)
        work.mkdir(exist_ok=True)
        journal._read()
        return journal

    def _start(self, path: Folder, plan: dict[str, Any]) -> None:
        if path.is_file():
            log.warning("%s: was of other videos, settings or versions; starting anew", self.root)
        # Before the plan, so that what is half removed is still known to be a preparation's.
        for name in [name for name in sizes(self.root) if name.startswith("done-")]:
            remove(self.root / name)
        for name in sizes(self.set):
            remove(self.set / name)
        write_durably(path, sealed_json(json.dumps(plan)))

    def _read(self) -> None:
        done, shards = sizes(self.root), sizes(self.set)
        for number in count():
            path = self._done(number)
            if path.name not in done:
                break
            part = _content(path)
            if part is None:
                break
            if shards.get(shard_name(number)) != part["bytes"]:
                log.warning(
                    "%s: was removed or cut; goes on before it", self.set / shard_name(number)
                )
                break
            self.index += part["index"]
            self.rejects += [Reject(**reject) for reject in part["rejects"]]
            self.notes += [Note(**note) for note in part["notes"]]
            self.videos, self.shards = part["videos"], number + 1
        self.recorded = len(self.index), len(self.rejects), len(self.notes)

    def discard(self) -> None:
        """Remove all that was done."""
        # Before the journal, so that what is half removed is still known to be a preparation's.
        for name in [name for name in sizes(self.set) if name.startswith("shard-")]:
            remove(self.set / name)
        for folder in (self.root, self.work.parent):
            remove(folder)

    def _done(self, number: int) -> Folder:
        return self.root / f"done-{number:05d}.json"

    def name_classes(self, videos: list[Video]) -> list[str]:
        """The classes of the set, in the order of their labels."""
        self.classes = sorted({video.class_name for video in videos if video.class_name})
        return self.classes

    def record(self) -> None:
        """Note that shard ``shards`` is complete and holds all rows that were not recorded yet."""
        shard = self.work / shard_name(self.shards)
        size = shard.stat().st_size
        keep(shard, self.set)

        rows, rejects, notes = self.recorded
        part = {
            "videos": self.videos,
            "bytes": size,
            "index": self.index[rows:],
            "rejects": [asdict(reject) for reject in self.rejects[rejects:]],
            "notes": [asdict(note) for note in self.notes[notes:]],
        }
        write_durably(self._done(self.shards), sealed_json(json.dumps(part)))
        self.recorded = len(self.index), len(self.rejects), len(self.notes)
        self.shards += 1

    def finish(
        self, source: dict[str, Any], settings: dict[str, Any], notes: Sequence[str]
    ) -> None:
        """Write the files beside the shards, the manifest last.

        Args:
            notes: what the source said of its list.
        """
        pq.write_table(pa.Table.from_pylist(self.index, INDEX_SCHEMA), self.work / "index.parquet")
        names = ["index.parquet", "rejects.csv"]
        _write_csv(self.work / "rejects.csv", ["video_id", "path", "reason"], self.rejects)
        if self.notes:
            names.append("notes.csv")
            _write_csv(self.work / "notes.csv", ["video_id", "path", "note"], self.notes)
        if self.boxes:
            names.append("boxes.parquet")
            pq.write_table(self._boxes_table(), self.work / "boxes.parquet")
        for name in names:
            keep(self.work / name, self.set)
        write_durably(self.set / "manifest.json", self._manifest(source, settings, notes).to_json())

    def _boxes_table(self) -> pa.Table:
        """The boxes of the videos that were not rejected."""
        rows = [
            {
                "video_id": row["video_id"],
                "key_frame": row["key_frame"],
                "second": boxes.second,
                **person._asdict(),
            }
            for row in self.index
            if (boxes := self.boxes.get(row["video_id"]))
            for person in boxes.people
        ]
        actions = next(iter(self.boxes.values())).actions
        metadata = {
            "actions": json.dumps(dict(actions.names)),
            "evaluated": json.dumps(actions.evaluated),
        }
        return pa.Table.from_pylist(rows, BOX_SCHEMA.with_metadata(metadata))

    def _manifest(
        self, source: dict[str, Any], settings: dict[str, Any], notes: Sequence[str]
    ) -> Manifest:
        index = pa.Table.from_pylist(self.index, INDEX_SCHEMA)
        return Manifest(
            version=VERSION,
            videos={split: sum(row["split"] == split for row in self.index) for split in SPLITS},
            frames=sum(row["frame_count"] for row in self.index),
            rejects=len(self.rejects),
            shards=self.shards,
            classes=self.classes,
            checksum=index_checksum(index, self._boxes_table() if self.boxes else None),
            source=source,
            prepare=settings,
            command=_command(source, settings),
            listing_notes=[*notes],
            reader=READER,
        )


def _content(path: Folder) -> dict[str, Any] | None:
    """What a file of a journal holds; None where it is damaged, which is logged: what it stood for
    is made again.
    """
    fault = None
    try:
        text = path.read_text()
        fault = content_fault(text.encode(), ".json")
        content = json.loads(text)
        if fault is None and isinstance(content, dict):
            return {key: value for key, value in content.items() if key != KEY}
    except ValueError as error:
        fault = fault or f"is not JSON: {error}"
    log.warning("%s: %s; goes on before it", path, fault or "is no mapping")
    return None


def _command(source: dict[str, Any], settings: dict[str, Any]) -> str:
    """The command line that prepares the same data set again.

    It follows from what was prepared, not from how that was begun.
    """
    parts = ["vididi", "prepare", source.get("name", "")]
    for name, value in source.items():
        if name in ("videos", "splits", "list"):
            parts += [f"--{name}", str(value)]
        elif name != "name" and value is not None:
            parts += ["--set", f"{name}={json.dumps(value)}"]
    for name, value in settings.items():
        parts += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*parts, "--out", "DIR"])


def _write_csv(path: Path, names: list[str], rows: Iterable[Reject | Note]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(names)
        table.writerows([getattr(row, name) for name in names] for row in rows)
