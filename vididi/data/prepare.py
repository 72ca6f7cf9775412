"""Prepare a source once: decode, resize the short side, encode each frame as JPEG, write Parquet
shards.

The work is done in a folder ``OUT.partial`` beside the result, which is renamed when it is
complete:

    lock             held by the process that prepares; another one waits for it
    plan.json        what is prepared (videos, settings, versions): a run with another plan starts
                     anew
    done-00000.json  written after shard 0 was: its index rows, the rejects and notes up to its end,
                     and how many videos that were
    set/             the shards, and at the end the other files of the result

Where the result goes to an object store, each file of it is moved there as soon as it is finished.
The journal (``plan.json`` and ``done-*``) is kept there too, in ``OUT/partial``, so that another
machine can go on; the folder with the lock is a local one.

A run that is killed loses the shard it was writing. Where a shard ends follows from the videos
alone, so the next run goes on after the last ``done`` file and ends with the bytes of an
uninterrupted one.
"""

from __future__ import annotations

import csv
import fcntl
import json
import logging
import os
import shlex
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vididi.checks import check_positive
from vididi.data.layout import (
    BOX_SCHEMA,
    INDEX_SCHEMA,
    SHARD_SCHEMA,
    SPLITS,
    VERSION,
    Manifest,
    frames_sha256,
    shard_name,
)
from vididi.data.shards import ShardSet, overlap
from vididi.data.storage import Folder, RemotePath, keep, remove, sizes, write_durably
from vididi.data.verify import index_checksum
from vididi.data.video import (
    READER,
    Boxes,
    Video,
    check_file,
    open_moment,
    open_video,
    open_with_decord,
    printable,
    short_side_size,
)
from vididi.data.workers import Failed, run_apart
from vididi.errors import DataError
from vididi.names import check_name

PrepareProgress = Callable[[int, int, int], None]  # videos done, videos in all, rejects
# run_apart somewhere else than here: (function, items, timeout, versions that the libraries must
# have there) -> results in order.
Runner = Callable[[Callable[[Any], Any], Sequence[Any], float, dict[str, str]], Generator[Any]]

ROW_GROUP_BYTES = 1 << 20  # what reading one video at random costs at most, beyond the video itself
SHARD_BYTES = 128 << 20
# of a video's frames: with the rest of its row group they must stay below Arrow's 2 GiB of a column
MOST_BYTES = (2 << 30) - (2 << 20)
TIMEOUT_S = 600.0
WRITERS = ("av", "pillow", "simplejpeg", "pyarrow")  # whose versions may change the bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """short_side: pixels (ViDiDi E.1: 150). quality: JPEG quality, 1 to 100. decoder: ``pyav``; or
    ``decord``, and PyAV where it fails.
    """

    short_side: int = 150
    quality: int = 95
    decoder: Literal["pyav", "decord"] = "pyav"

    def __post_init__(self) -> None:
        if self.decoder not in ("pyav", "decord"):
            raise ValueError(f"decoder: {self.decoder!r} is not valid; it is 'pyav' or 'decord'")
        if self.decoder == "decord" and find_spec("decord") is None:
            raise ValueError(
                "decoder: 'decord' is not installed (its wheels are for Linux on x86-64 only); it"
                " must be 'pyav' here"
            )
        if self.short_side < 8:
            raise ValueError(
                f"short_side: {self.short_side} is not valid; it must be at least 8 pixels"
            )
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: {self.quality} is not valid; it must lie in 1 to 100")


@dataclass(frozen=True)
class Encoded:
    """A video ready for a shard.

    key_frame: its place among the frames, where the video is a moment. note: what was chosen of the
    file, where there was a choice.
    """

    frames: list[bytes]
    fps: float
    height: int
    width: int
    source_sha256: str
    key_frame: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Reject:
    """A video that could not be prepared, and why."""

    video_id: str
    path: str
    reason: str


@dataclass(frozen=True)
class Note:
    """A video that was prepared, and what its user should know of it."""

    video_id: str
    path: str
    note: str


def encode_video(video: Video, settings: Settings) -> Encoded | Reject:
    """Decode, resize and encode one video, a frame at a time: a long video is never held in memory
    as pictures.
    """
    if printable(video.path) != str(video.path):
        return Reject(
            video.video_id,
            printable(video.path),
            "its name, or that of a folder that it is in, is not UTF-8; rename it",
        )
    notes: list[str] = []
    try:
        check_file(video.path)
        checksum = _file_sha256(video.path)
        if video.moment is not None:
            with open_moment(video.path, video.moment, notes) as (frames, fps, key_frame):
                return _encode_frames(frames, fps, settings, checksum, key_frame, notes)
        if settings.decoder == "decord":
            with suppress(Exception), open_with_decord(video.path) as (frames, fps):
                return _encode_frames(frames, fps, settings, checksum)
            # whatever that raised, PyAV now reads the file or says what is wrong with it
        with open_video(video.path, notes) as (frames, fps):
            return _encode_frames(frames, fps, settings, checksum, notes=notes)
    except (DataError, OSError) as error:
        return Reject(video.video_id, str(video.path), str(error))


def _file_sha256(path: Path) -> str:
    status = path.stat()
    return _content_sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache  # many moments are of one film
def _content_sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Of the file as it is with this size and time."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _encode_frames(
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    settings: Settings,
    checksum: str,
    key_frame: int | None = None,
    notes: Sequence[str] = (),
) -> Encoded:
    jpegs: list[bytes] = []
    size = 0
    for frame in frames:
        height, width = short_side_size(frame.shape[0], frame.shape[1], settings.short_side)
        jpegs.append(_encode_frame(frame, height, width, settings.quality))
        size += len(jpegs[-1])
        if size > MOST_BYTES:
            raise DataError(
                f"too long: the first {len(jpegs)} frames are more than {MOST_BYTES / 2**30:.3g}"
                " GiB; cut it into parts"
            )
    return Encoded(jpegs, fps, height, width, checksum, key_frame, "; ".join(notes))


def _encode_frame(frame: NDArray[np.uint8], height: int, width: int, quality: int) -> bytes:
    import simplejpeg
    from PIL import Image

    if frame.shape[:2] != (height, width):
        frame = np.asarray(
            Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        )
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(frame), quality=quality, colorsubsampling="420"
    )


def prepare(
    videos: list[Video],
    out: Folder,
    settings: Settings,
    source: dict[str, Any],
    progress: PrepareProgress | None = None,
    workers: int | None = None,
    timeout: float = TIMEOUT_S,
    run: Runner | None = None,
    aside: Path | None = None,
    notes: Sequence[str] = (),
) -> ShardSet:
    """Write ``videos`` as shards under ``out``.

    The result depends on the videos and the settings alone, not on ``workers``, nor on how often
    the preparation was killed and started again. ``out`` either holds a complete set or nothing (in
    an object store, a complete set or no manifest); a complete set that is there already is
    returned as it is.

    Args:
        progress: called with (videos done, videos in all, rejects) after each video, and before the
            first where an earlier run's work goes on.
        workers: processes that decode; by default one per core.
        timeout: seconds that one video may take before it is rejected.
        run: decodes elsewhere, instead of ``workers`` processes here (vididi.cluster.ray_prepare).
        aside: the local folder to work in, by default ``OUT.partial``; an ``out`` in an object
            store needs one.
        notes: what the source said of its list; the manifest keeps it.

    Raises:
        DataError: no video could be prepared, some have a class and others none, a file is in both
            splits, or ``out`` exists and is not a prepared set.
        ResourceError: processes cannot start, or ``run`` cannot do its work.
    """
    if not videos:
        raise DataError("data: the source lists no videos")
    check_positive(timeout=timeout)
    run = run or (
        lambda function, items, timeout, _: run_apart(
            function, items, workers or os.cpu_count() or 1, timeout
        )
    )
    if _is_free(out):
        check_apart(videos)
        _check_classes(videos)
        check_name(
            source.get("name", "data"), "data.name", DataError
        )  # of folders that evaluations make
        aside = aside or _beside(out)
        with _locked(aside):
            if _is_free(
                out
            ):  # it need not be: this process may have waited for another that prepared it
                apart = partial(run, partial(encode_video, settings=settings))
                _prepare_aside(
                    videos,
                    out,
                    aside,
                    settings,
                    source,
                    notes,
                    progress,
                    lambda left, made: apart(left, timeout, made),
                )
            remove(aside)
    return ShardSet.open(out)


def _prepare_aside(
    videos: list[Video],
    out: Folder,
    aside: Path,
    settings: Settings,
    source: dict[str, Any],
    notes: Sequence[str],
    progress: PrepareProgress | None,
    encode: Callable[[list[Video], dict[str, str]], Generator[Any]],
) -> None:
    """Make the set in a folder beside ``out``, from wherever an earlier attempt got to, and move it
    there; ``encode``: of what is left.
    """
    plan = _plan(videos, settings, out)
    journal = _Journal.open(out, aside, plan)
    results = encode(videos[journal.videos :], plan["made_with"])
    with closing(results):  # whatever happens here, its processes end
        _write_set(journal, videos, progress, results)
    journal.finish(source, asdict(settings), notes)
    if isinstance(out, Path):
        _publish(aside / "set", out)
    else:
        remove(journal.root)


def _check_classes(videos: list[Video]) -> None:
    """All videos have a class or none has: those without one would count as one class more."""
    without = [video for video in videos if not video.class_name]
    if without and len(without) < len(videos):
        some = (
            f"{len(without)} of {len(videos)} videos have no class, the first is"
            f" {without[0].video_id}"
        )
        raise DataError(f"data: {some}; all have one or none")


def check_apart(videos: list[Video]) -> None:
    """Raise DataError if a file is listed in both splits, by two names or through links. Missing
    and empty ones will be rejects.
    """
    by_path: dict[Path, tuple[int, ...] | None] = {}  # many moments are of one film
    for video in videos:
        if video.path not in by_path:
            by_path[video.path] = _identity(video.path)
    train = {
        identity: video
        for video in reversed(videos)
        if video.split == "train" and (identity := by_path[video.path])
    }
    test = [
        (video, train[identity])
        for video in videos
        if video.split == "test" and (identity := by_path[video.path]) in train
    ]
    if test:
        raise overlap(
            f"data: {printable(test[0][0].path)}",
            [(one.video_id, other.video_id) for one, other in test],
        )


def _identity(path: Path) -> tuple[int, ...] | None:
    """What only one file has; its size and time too, as not all filesystems number their files
    well.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (
        (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if status.st_size and S_ISREG(status.st_mode)
        else None
    )


def _beside(out: Folder) -> Path:
    if isinstance(out, RemotePath):
        raise ValueError(
            "aside: None is not valid; preparing into an object store needs a local folder to"
            " work in"
        )
    return out.with_name(f"{out.name}.partial")


def _is_free(out: Folder) -> bool:
    """Whether ``out`` can be written; False if it is complete.

    Raises:
        DataError: something else is there.
    """
    if (out / "manifest.json").is_file():
        return False
    if isinstance(out, RemotePath):
        occupied = bool(sizes(out)) and not (out / "partial" / "plan.json").is_file()
    else:
        occupied = out.exists() and not (out.is_dir() and not any(out.iterdir()))
    if occupied:
        raise DataError(
            f"{out}: exists and is not a prepared data set; give an empty or a new folder"
        )
    return True


def _publish(complete: Path, out: Path) -> None:
    """Rename; what somebody else may have put there meanwhile stays, and the complete set beside
    it.
    """
    _is_free(out)
    complete.rename(out)  # replaces an empty folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make ``folder`` and hold it, after any other process that does; the system releases it
    however this process ends.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / "lock").open("a")
        except FileNotFoundError:
            continue  # the process that held the folder just removed it
        with file:
            _wait_for(file, folder)
            if _is_at(file, folder / "lock"):
                yield
                return


def _wait_for(file: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("%s: another process is preparing this data set; waiting for it", folder)
        fcntl.flock(file, fcntl.LOCK_EX)


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether ``path`` is still this open file, not removed or made anew by the process that held
    it before.
    """
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _plan(videos: list[Video], settings: Settings, out: Folder) -> dict[str, Any]:
    """All that decides the bytes of the result.

    In a store, where another machine may go on, paths and times of files do not count: they are of
    one machine.
    """
    anywhere = isinstance(out, RemotePath)
    digest = sha256()
    for video in videos:
        try:
            status = video.path.stat()
            state = [status.st_size] if anywhere else [status.st_size, status.st_mtime_ns]
        except OSError:
            state = []
        path = None if anywhere else str(video.path)
        listed = [
            video.video_id,
            path,
            video.class_name,
            video.split,
            video.scene,
            *state,
            *video.details,
        ]
        digest.update(json.dumps(listed).encode() + b"\n")
    return {
        "version": VERSION,
        "reader": READER,
        "videos": len(videos),
        "videos_sha256": digest.hexdigest(),
        "settings": asdict(settings),
        "bytes": [ROW_GROUP_BYTES, SHARD_BYTES],
        "made_with": versions([*WRITERS, "decord"] if settings.decoder == "decord" else WRITERS),
    }


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """The versions of libraries here, "none" where one is not installed."""
    found = {}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def _write_set(
    journal: _Journal, videos: list[Video], progress: PrepareProgress | None, results: Iterator[Any]
) -> None:
    """Write the shards of all videos that the journal does not have yet; ``results`` is what became
    of these.
    """
    labels = {name: label for label, name in enumerate(journal.name_classes(videos))}
    writer = _ShardWriter(journal, labels)
    journal.boxes = {video.video_id: video.boxes for video in videos if video.boxes is not None}
    moments = {video.video_id: video.moment for video in videos}
    first = {
        (row["split"], row["source_sha256"], moments[row["video_id"]]): row for row in journal.index
    }
    split_of = {row["source_sha256"]: row for row in journal.index}
    left = videos[journal.videos :]
    if progress is not None and journal.videos:
        progress(journal.videos, len(videos), len(journal.rejects))
    for video, result in zip(left, results, strict=True):
        journal.videos += 1
        if isinstance(result, Failed):
            result = Reject(video.video_id, str(video.path), result.reason)
        elif isinstance(result, Encoded) and (
            same := first.get((video.split, result.source_sha256, video.moment))
        ):
            result = Reject(video.video_id, str(video.path), _duplicate_of(same, video))
        if isinstance(result, Reject):
            journal.rejects.append(result)
        else:
            _check_split(journal, split_of.get(result.source_sha256), video)
            if result.note:
                journal.notes.append(Note(video.video_id, str(video.path), result.note))
            row = writer.add(video, result)
            split_of[result.source_sha256] = row
            first[video.split, result.source_sha256, video.moment] = row
        if progress is not None:
            progress(journal.videos, len(videos), len(journal.rejects))
    if not journal.index:
        reject = journal.rejects[0]
        journal.discard()
        raise DataError(
            f"none of {len(videos)} videos could be prepared; the first: {reject.path}:"
            f" {reject.reason}"
        )
    writer.close()


def _check_split(journal: _Journal, same: dict[str, Any] | None, video: Video) -> None:
    """Refuse a set that would have the same bytes in both splits, as soon as they come. same: the
    row that has the video's bytes.
    """
    if same and same["split"] != video.split:
        journal.discard()  # of a set that cannot be
        names = video.video_id, same["video_id"]
        raise overlap(f"data: {video.path}", [names if video.split == "test" else names[::-1]])


def _duplicate_of(row: dict[str, Any], video: Video) -> str:
    other = (
        f", which is of class {row['class_name']}" if row["class_name"] != video.class_name else ""
    )
    return f"duplicate: the same bytes as {row['video_id']}{other}"


@dataclass
class _Journal:
    """What is done of a set, in memory and where the set is."""

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
    recorded: tuple[int, int, int] = (
        0,
        0,
        0,
    )  # lengths of index, rejects and notes up to the last finished shard

    @classmethod
    def open(cls, out: Folder, aside: Path, plan: dict[str, Any]) -> _Journal:
        """The journal of an earlier run of the same plan, or a new one."""
        work = aside / "set"
        journal = (
            cls(out / "partial", out, work)
            if isinstance(out, RemotePath)
            else cls(aside, work, work)
        )
        path = journal.root / "plan.json"
        if not path.is_file() or json.loads(path.read_text()) != plan:
            journal._start(path, plan)
        work.mkdir(exist_ok=True)
        journal._read()
        return journal

    def _start(self, path: Folder, plan: dict[str, Any]) -> None:
        if path.is_file():
            log.warning("%s: was of other videos, settings or versions; starting anew", self.root)
        for name in [name for name in sizes(self.root) if name.startswith("done-")]:
            remove(
                self.root / name
            )  # before the plan, so that what is half removed is still known to be a preparation's
        for name in sizes(self.set):
            remove(self.set / name)
        write_durably(path, json.dumps(plan))

    def _read(self) -> None:
        done, shards = sizes(self.root), sizes(self.set)
        for number in count():
            path = self._done(number)
            if path.name not in done:
                break
            part = json.loads(path.read_text())
            if shards.get(shard_name(number)) != part["bytes"]:
                break  # somebody removed or cut it
            self.index += part["index"]
            self.rejects += [Reject(**reject) for reject in part["rejects"]]
            self.notes += [Note(**note) for note in part["notes"]]
            self.videos, self.shards = part["videos"], number + 1
        self.recorded = len(self.index), len(self.rejects), len(self.notes)

    def discard(self) -> None:
        """Remove all that was done."""
        for name in [name for name in sizes(self.set) if name.startswith("shard-")]:
            # before the journal, so that what is half removed is still known to be a preparation's
            remove(self.set / name)
        for folder in (self.root, self.work.parent):
            remove(folder)

    def _done(self, number: int) -> Folder:
        return self.root / f"done-{number:05d}.json"

    def name_classes(self, videos: list[Video]) -> list[str]:
        self.classes = sorted({video.class_name for video in videos if video.class_name})
        return self.classes

    def record(self) -> None:
        """Shard ``shards`` is complete and holds all of the index that was not recorded before."""
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
        write_durably(self._done(self.shards), json.dumps(part))
        self.recorded = len(self.index), len(self.rejects), len(self.notes)
        self.shards += 1

    def finish(
        self, source: dict[str, Any], settings: dict[str, Any], notes: Sequence[str]
    ) -> None:
        """Write the files beside the shards, the manifest last."""
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


def _command(source: dict[str, Any], settings: dict[str, Any]) -> str:
    """The command line that prepares the same data set again; it follows from what was prepared,
    not from how that was begun.
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


class _ShardWriter:
    """Writes encoded videos into shards, and tells the journal of each that is complete."""

    def __init__(self, journal: _Journal, labels: dict[str, int]) -> None:
        self.journal, self.labels = journal, labels
        self.pending: list[dict[str, Any]] = []  # rows of the row group to come
        self.pending_bytes = self.shard_bytes = self.row_group = 0
        self.file: pq.ParquetWriter | None = None

    def add(self, video: Video, encoded: Encoded) -> dict[str, Any]:
        """Add a row; what the index says of it."""
        row = {
            "video_id": video.video_id,
            "label": self.labels[video.class_name] if video.class_name else -1,
            "class_name": video.class_name,
            "scene": video.scene,
            "split": video.split,
            "frame_count": len(encoded.frames),
            "fps": encoded.fps,
            "height": encoded.height,
            "width": encoded.width,
            "source_sha256": encoded.source_sha256,
            "frames_sha256": frames_sha256(encoded.frames).hex(),
        }
        place = {
            "shard": self.journal.shards,
            "row_group": self.row_group,
            "row": len(self.pending),
        }
        self.journal.index.append(
            {
                **row,
                **place,
                **({} if encoded.key_frame is None else {"key_frame": encoded.key_frame}),
            }
        )
        self.pending.append({**row, "frames": encoded.frames})
        self.pending_bytes += sum(map(len, encoded.frames))
        if self.pending_bytes >= ROW_GROUP_BYTES:
            self._write_row_group()
        if self.shard_bytes >= SHARD_BYTES:
            self._close_shard()
        return row

    def _write_row_group(self) -> None:
        if self.pending:
            if self.file is None:
                path = self.journal.work / shard_name(self.journal.shards)
                # JPEG does not compress further, so neither codec nor dictionary for the frames.
                self.file = pq.ParquetWriter(
                    path, SHARD_SCHEMA, compression="none", use_dictionary=False
                )
            self.file.write_table(pa.Table.from_pylist(self.pending, SHARD_SCHEMA))
            self.row_group += 1
        self.shard_bytes += self.pending_bytes
        self.pending, self.pending_bytes = [], 0

    def _close_shard(self) -> None:
        if self.file is not None:
            self.file.close()
            self.journal.record()
            self.file, self.shard_bytes, self.row_group = None, 0, 0

    def close(self) -> None:
        self._write_row_group()
        self._close_shard()
