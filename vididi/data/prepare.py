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

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any

from vididi.checks import check_positive
from vididi.data import shard_writer
from vididi.data.encode import Encoded, Reject, Settings, encode_video
from vididi.data.journal import Journal, Note
from vididi.data.layout import VERSION
from vididi.data.shards import ShardSet, overlap
from vididi.data.storage import Folder, RemotePath, remove, sizes
from vididi.data.video import Video, printable
from vididi.data.video_reader import READER
from vididi.data.workers import Failed, run_apart
from vididi.disks import writing_to
from vididi.errors import DataError
from vididi.names import check_name
from vididi.words import size_text

PrepareProgress = Callable[[int, int, int], None]  # videos done, videos in all, rejects
# run_apart on other machines: (function, items, timeout, versions that the libraries must have on
# them) -> results in order.
Runner = Callable[[Callable[[Any], Any], Sequence[Any], float, dict[str, str]], Generator[Any]]

TIMEOUT_S = 600.0
WRITERS = ("av", "pillow", "simplejpeg", "pyarrow")  # whose versions may change the bytes

log = logging.getLogger(__name__)


def prepare(
    videos: list[Video],
    out: Folder,
    settings: Settings,
    source: dict[str, Any],
    progress: PrepareProgress | None = None,
    workers: int | None = None,
    timeout: float = TIMEOUT_S,
    run: Runner | None = None,
    work_dir: Path | None = None,
    notes: Sequence[str] = (),
) -> ShardSet:
    """Write ``videos`` as shards under ``out``.

    The result depends on the videos and the settings alone, not on ``workers``, nor on how often
    the preparation was killed and started again. ``out`` holds a complete set, which is returned as
    it is, or nothing (in an object store: no manifest).

    Args:
        progress: called with (videos done, videos in all, rejects) after each video, and before the
            first where an earlier run's work goes on.
        workers: processes that decode; by default one per core.
        timeout: seconds that one video may take before it is rejected.
        run: decodes elsewhere, instead of ``workers`` processes here (vididi.cluster.ray_prepare).
        work_dir: the local folder to work in, by default ``OUT.partial``; an ``out`` in an object
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
    run = run or partial(_run_apart, workers or os.cpu_count() or 1)
    if _is_free(out):
        _check_list(videos, source)
        work_dir = work_dir or _beside(out)
        with writing_to(work_dir), _locked(work_dir):
            # It may be complete by now: this process may have waited for another that prepared it.
            if _is_free(out):
                journal, results = _begin(videos, out, work_dir, settings, run, timeout)
                with closing(results):  # whatever happens here, its processes end
                    _write_set(journal, videos, progress, results)
                journal.finish(source, asdict(settings), notes)
                _publish(journal, work_dir, out)
            remove(work_dir)
    return ShardSet.open(out)


def _begin(
    videos: list[Video],
    out: Folder,
    work_dir: Path,
    settings: Settings,
    run: Runner,
    timeout: float,
) -> tuple[Journal, Generator[Any]]:
    """The journal, of an earlier run of the same plan if there was one.

    With it comes what becomes of each video that it does not have.
    """
    plan = _plan(videos, settings, out)
    journal = Journal.open(out, work_dir, plan)
    encode, left = partial(encode_video, settings=settings), videos[journal.videos :]
    return journal, run(encode, left, timeout, plan["made_with"])


def _run_apart(
    workers: int,
    function: Callable[[Any], Any],
    items: Sequence[Any],
    timeout: float,
    made_with: dict[str, str],
) -> Generator[Any]:
    """A Runner on this machine, whose libraries are those that the versions were taken of."""
    return run_apart(function, items, workers, timeout)


def _check_list(videos: list[Video], source: dict[str, Any]) -> None:
    check_apart(videos)
    _check_classes(videos)
    # It becomes part of the names of folders that evaluations make.
    check_name(source.get("name", "data"), "data.name", DataError)


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
    """Raise DataError if a file is listed in both splits, by two names or through links.

    Missing and empty ones will be rejects.
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
    """What only one file has; None of a file that is missing or empty.

    Size and time are part of it, as not all filesystems number their files well.
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
            "work_dir: None is not valid; preparing into an object store needs a local folder to"
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


def _publish(journal: Journal, work_dir: Path, out: Folder) -> None:
    """Rename the complete set to ``out``, or in an object store remove the journal.

    What somebody else may have put there meanwhile stays, and the complete set beside it.
    """
    if isinstance(out, Path):
        _is_free(out)
        (work_dir / "set").rename(out)  # replaces an empty folder
    else:
        remove(journal.root)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make ``folder`` and lock it, after any other process that has locked it.

    The system releases the lock however this process ends.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / "lock").open("a")
        except FileNotFoundError:
            continue  # the process that had locked the folder just removed it
        with file:
            _lock(file, folder)
            if _is_at(file, folder / "lock"):
                yield
                return


def _lock(file: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("%s: another process is preparing this data set; waiting for it", folder)
        fcntl.flock(file, fcntl.LOCK_EX)


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether ``path`` is still this open file.

    The process that had locked it before may have removed or replaced it.
    """
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _plan(videos: list[Video], settings: Settings, out: Folder) -> dict[str, Any]:
    """All that decides the bytes of the result.

    For a set in a store, where another machine may go on, paths and times of files do not count:
    they are of one machine.
    """
    is_remote = isinstance(out, RemotePath)
    digest = sha256()
    for video in videos:
        try:
            status = video.path.stat()
            state = [status.st_size] if is_remote else [status.st_size, status.st_mtime_ns]
        except OSError:
            state = []
        path = None if is_remote else str(video.path)
        row = [
            video.video_id,
            path,
            video.class_name,
            video.split,
            video.scene,
            *state,
            *video.details,
        ]
        digest.update(json.dumps(row).encode() + b"\n")

    return {
        "version": VERSION,
        "reader": READER,
        "videos": len(videos),
        "videos_sha256": digest.hexdigest(),
        "settings": asdict(settings),
        "bytes": [shard_writer.ROW_GROUP_BYTES, shard_writer.SHARD_BYTES],
        "made_with": versions([*WRITERS, "decord"] if settings.decoder == "decord" else WRITERS),
    }


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """The versions of libraries by name, "none" where one is not installed."""
    installed = {}
    for name in libraries:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "none"
    return installed


def _write_set(
    journal: Journal, videos: list[Video], progress: PrepareProgress | None, results: Iterator[Any]
) -> None:
    """Write the shards of all videos that the journal does not have yet.

    Args:
        results: of these videos, in their order: Encoded, Reject or Failed.
    """
    labels = {name: label for label, name in enumerate(journal.name_classes(videos))}
    writer = shard_writer.ShardWriter(journal, labels)
    journal.boxes = {video.video_id: video.boxes for video in videos if video.boxes is not None}
    moments = {video.video_id: video.moment for video in videos}
    first = {
        (row["split"], row["source_sha256"], moments[row["video_id"]]): row for row in journal.index
    }
    split_of = {row["source_sha256"]: row for row in journal.index}

    left, told = videos[journal.videos :], False
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
            shards, row = journal.shards, writer.add(video, result)
            if journal.shards > shards and not told:
                told = _tell_of_room(journal, len(videos))
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


def _tell_of_room(journal: Journal, videos: int) -> bool:
    """Say so, where the disk has less room than the other videos take if they are like those
    before; returns whether it was said. Nothing is refused, as they may be smaller.
    """
    if isinstance(journal.set, RemotePath):
        return False
    each = sum(sizes(journal.set).values()) / journal.videos
    left = videos - journal.videos
    free = shutil.disk_usage(journal.set).free
    if free >= each * left:
        return False
    log.warning(
        "%s has %s free, and the other %d videos take %s if they are like those before; prepare"
        " goes on, and ends where the disk is full",
        journal.root,
        size_text(free),
        left,
        size_text(each * left),
    )
    return True


def _check_split(journal: Journal, same: dict[str, Any] | None, video: Video) -> None:
    """Refuse a set that would have the same bytes in both splits, as soon as they come.

    Args:
        same: the row that has the video's bytes, if there is one.
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
