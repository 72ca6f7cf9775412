"""Run folders in an object store: all code works on a mirror of them on the local disk, and this
module pulls and pushes.

``s3://bucket/runs/x`` is mirrored at ``<cache>/mirror/<bucket>-<digest>/runs/x``. What counts is
the store: a mirror may be deleted at any moment, and what a process that died had not pushed is not
there. Files whose names begin with a dot stay where they are. Functions that take a path do nothing
for one that is not in a mirror.

What a process pushes goes one after the other, in a thread of its own: a checkpoint after the
metrics up to it, a result last.

One process at a time may write into a folder, the one that holds its lease (vididi.runs.lease).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from queue import Queue
from typing import IO
from uuid import uuid4

import pyarrow.fs as pafs

from vididi.data.storage import RemotePath, as_folder, cache_folder, checked_path
from vididi.errors import DataError, TrainingError
from vididi.names import check_inside
from vididi.runs.file_names import CHECKPOINT, FEATURES, PREVIOUS, RESULT

WAITING = 8  # files on their way to the store; the next one waits
PULLS = 16  # folders that are pulled at a time
RETRY_S = (1.0, 4.0, 15.0, 30.0)  # pauses between attempts to write to the store


# --- Places ---------------------------------------------------------------------------------------


def local_path(text: str | Path) -> Path:
    """A folder as a user writes it: a path as it is, or for a URI its mirror, of which nothing has
    been pulled yet.

    Raises:
        DataError: the URI cannot be one of a folder in a store.
    """
    text = str(text)
    if "://" not in text:
        return checked_path(text)
    as_folder(text)  # refuses schemes that are not known
    scheme, _, rest = text.partition("://")
    base, mark, query = rest.partition("?")
    bucket, _, inside = base.strip("/").partition("/")
    name = bucket.rpartition("@")[2]
    try:
        check_inside(f"{name}/{inside}" if inside else name, "URI", DataError)
    except DataError:
        raise DataError(
            f"{ascii(text)[1:-1]}: is not the URI of a folder; it is like {scheme}://bucket/folder"
        ) from None
    uri = f"{scheme}://{bucket}{mark}{query}"
    # The same name may be of another bucket under another endpoint.
    digest = sha256(f"{uri} {os.environ.get('AWS_ENDPOINT_URL', '')}".encode()).hexdigest()[:8]
    root = _mirrors() / f"{name}-{digest}"
    if not (root / ".store").is_file():
        root.mkdir(parents=True, exist_ok=True, mode=0o700)  # a URI may hold a key
        temporary = root / f".store.{uuid4().hex}"
        temporary.write_text(uri)
        temporary.rename(root / ".store")
    return root / inside


def place_of(path: Path) -> str:
    """What local_path makes ``path`` of on any machine: the URI of what it mirrors, or the path
    itself.
    """
    mirror = mirror_of(path)
    return str(path) if mirror is None else mirror.uri_of(path)


def pulled(text: str) -> Path:
    """local_path, with the small files of the folder."""
    path = local_path(text)
    pull(path)
    return path


def _mirrors() -> Path:
    return cache_folder() / "mirror"


@dataclass(frozen=True)
class Mirror:
    """A bucket, and the folder that stands for it."""

    root: Path
    uri: str

    @cached_property
    def place(self) -> tuple[pafs.FileSystem, str]:
        """The store's file system, and the path of the bucket in it."""
        return RemotePath(self.uri).location

    @property
    def filesystem(self) -> pafs.FileSystem:
        """The store's file system."""
        return self.place[0]

    def key_of(self, path: Path) -> str:
        """The key in the store of a local path."""
        return f"{self.place[1]}/{path.relative_to(self.root).as_posix()}"

    def path_of(self, key: str) -> Path:
        """The local path of a key in the store.

        Raises:
            DataError: the store calls an object so that it would lie elsewhere.
        """
        return self.root / check_inside(
            key.removeprefix(self.place[1]).lstrip("/"), self.uri, DataError
        )

    def uri_of(self, path: Path) -> str:
        """The URI of a local path."""
        base, mark, query = self.uri.partition("?")
        return f"{base}/{path.relative_to(self.root).as_posix()}{mark}{query}"

    def info(self, path: Path) -> pafs.FileInfo | None:
        """What the store says of a file; None where there is none. Raises DataError."""
        with _reaching(self, path):
            info = self.filesystem.get_file_info(self.key_of(path))
        return info if info.type == pafs.FileType.File else None

    def files(self, folder: Path, recursive: bool = True) -> list[pafs.FileInfo]:
        """The files below a folder in the store. Raises DataError."""
        with _reaching(self, folder):
            selector = pafs.FileSelector(
                self.key_of(folder), allow_not_found=True, recursive=recursive
            )
            return [
                info
                for info in self.filesystem.get_file_info(selector)
                if info.type == pafs.FileType.File
            ]

    def download(self, info: pafs.FileInfo, path: Path) -> None:
        """Bring a file of the store to ``path``, with its time. Raises DataError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with (
                _reaching(self, path),
                self.filesystem.open_input_stream(info.path) as source,
                temporary.open("wb") as target,
            ):
                shutil.copyfileobj(source, target, 8 << 20)
            os.utime(temporary, ns=(info.mtime_ns, info.mtime_ns))
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)

    def upload(self, file: IO[bytes], path: Path) -> None:
        """Write an open file to the key of ``path``, and give the file the time of the object.

        Raises:
            TrainingError: it cannot be written, after several attempts.
        """
        key = self.key_of(path)

        def write() -> None:
            file.seek(0)
            with self.filesystem.open_output_stream(
                key
            ) as stream:  # an object appears when it is closed
                shutil.copyfileobj(file, stream, 8 << 20)
            info = self.filesystem.get_file_info(key)
            os.utime(file.fileno(), ns=(info.mtime_ns, info.mtime_ns))

        self._patiently(path, write)

    def put(self, path: Path, content: bytes) -> pafs.FileInfo:
        """Write a small object, without trying again.

        Returns:
            what the store says of it then.

        Raises:
            DataError: the store cannot be reached, or has no such object then.
        """
        with _reaching(self, path), self.filesystem.open_output_stream(self.key_of(path)) as stream:
            stream.write(content)
        info = self.info(path)
        if info is None:
            raise DataError(f"{self.uri_of(path)}: was removed as soon as it was written")
        return info

    def copy(self, path: Path, target: Path) -> None:
        """Give an object a second key in the store, and the file of that the time of the object.

        Raises:
            TrainingError: it cannot be copied, after several attempts.
        """

        def copy() -> None:
            key, other = self.key_of(path), self.key_of(target)
            if self.filesystem.get_file_info(key).type != pafs.FileType.File:
                return
            self.filesystem.copy_file(key, other)
            info = self.filesystem.get_file_info(other)
            with contextlib.suppress(FileNotFoundError):  # it is removed already
                os.utime(target, ns=(info.mtime_ns, info.mtime_ns))

        self._patiently(target, copy)

    def delete(self, path: Path) -> None:
        """Remove a file from the store, if it is there. Raises TrainingError."""

        def delete() -> None:
            with contextlib.suppress(FileNotFoundError):
                self.filesystem.delete_file(self.key_of(path))

        self._patiently(path, delete)

    def _patiently(self, path: Path, action: Callable[[], None]) -> None:
        for pause in RETRY_S:
            try:
                action()
                return
            except OSError:
                time.sleep(pause)
        try:
            action()
        except OSError as error:
            raise TrainingError(f"{self.uri_of(path)}: cannot be written: {error}") from None


@contextmanager
def _reaching(mirror: Mirror, path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{mirror.uri_of(path)}: cannot be reached: {error}") from None


def mirror_of(path: Path) -> Mirror | None:
    """The mirror that a path is in, if it is in one."""
    mirrors = _mirrors()
    if not path.is_relative_to(mirrors) or path == mirrors:
        return None
    return _opened(mirrors / path.relative_to(mirrors).parts[0])


@lru_cache
def _opened(root: Path) -> Mirror | None:
    store = root / ".store"
    return Mirror(root, store.read_text()) if store.is_file() else None


# --- Pulling --------------------------------------------------------------------------------------


def _is_large(name: str) -> bool:
    """What is pulled only where it is asked for."""
    return name in (CHECKPOINT, PREVIOUS, FEATURES) or name.endswith(".safetensors")


def pull(folder: Path) -> None:
    """Make the small files below a folder those of the store; where a process of this machine is at
    work they are newer, and stay.

    Raises:
        DataError: the store cannot be reached.
    """
    mirror = mirror_of(folder)
    if mirror is not None:
        _pull(mirror, folder, _Locks(mirror.root))


def pull_file(path: Path, of_others: bool = False) -> bool:
    """Bring one file up to date with the store; returns whether it exists.

    Of a path that is not in a mirror nothing is pulled.

    Args:
        of_others: another process may write it while this one holds the folder.

    Raises:
        DataError: the store cannot be reached.
    """
    mirror = mirror_of(path)
    if mirror is None:
        return path.is_file()
    writer = _writer(path)
    if writer is not None and of_others:
        writer.settle()
    elif writer is not None and path in writer.known:  # the store's may be an older one still
        return path.is_file()
    info = mirror.info(path)
    if info is None:
        path.unlink(missing_ok=True)
    elif not _same(path, info):
        mirror.download(info, path)
    if writer is not None:
        writer.known.add(path)
    return info is not None


def fetch_again(path: Path) -> bool:
    """Bring a file that is damaged in a mirror from the store once more; whether it is in a mirror,
    and there now. Raises DataError, TrainingError.
    """
    if mirror_of(path) is None:
        return False
    writer = _writer(path)
    if writer is not None:
        writer.settle()
        writer.known.discard(path)
    path.unlink(missing_ok=True)
    return pull_file(path)


def has(path: Path) -> bool:
    """Whether a file exists, on this machine or in the store, without pulling it."""
    mirror = mirror_of(path)
    return path.is_file() or (mirror is not None and mirror.info(path) is not None)


def find(folder: Path, name: str) -> list[Path]:
    """The files of that name anywhere below a folder, sorted, pulled or not."""
    mirror = mirror_of(folder)
    if mirror is None:
        return sorted(folder.rglob(name))
    stored = (mirror.path_of(info.path) for info in mirror.files(folder))
    return sorted({*folder.rglob(name), *(path for path in stored if path.name == name)})


class _Locks:
    """Keeps folders of a mirror from processes of this machine that would work in them, where none
    does.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def free(self, folder: Path) -> Iterator[bool]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
        with ExitStack() as locks:
            for parent in (folder, *folder.parents):
                if parent == self.root:
                    break
                if (parent / ".lock").is_file():
                    file = locks.enter_context((parent / ".lock").open("r"))
                    try:
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    except BlockingIOError:
                        yield False
                        return
            yield True


class _NoLocks(_Locks):
    """For the process that works there itself."""

    @contextmanager
    def free(self, folder: Path) -> Iterator[bool]:
        yield True


def _pull(mirror: Mirror, folder: Path, locks: _Locks) -> None:
    stored: dict[Path, dict[Path, pafs.FileInfo]] = {}
    for info in mirror.files(folder):
        path = mirror.path_of(info.path)
        if not _hidden(path.relative_to(folder)):
            stored.setdefault(path.parent, {})[path] = info
    local: dict[Path, list[Path]] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not _hidden(path.relative_to(folder)):
            local.setdefault(path.parent, []).append(path)

    def bring(directory: Path) -> None:
        infos = stored.get(directory, {})
        changed = [
            path for path, info in infos.items() if not (_is_large(path.name) or _same(path, info))
        ]
        gone = [path for path in local.get(directory, ()) if path not in infos]
        if not changed and not gone:
            return
        with locks.free(directory) as free:
            if not free:
                return
            # A result says that all else exists: it goes first and comes last.
            for path in sorted(gone, key=_is_result, reverse=True):
                path.unlink(missing_ok=True)
            for path in sorted(changed, key=_is_result):
                with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    mirror.download(infos[path], path)

    with ThreadPoolExecutor(PULLS) as pool:
        list(pool.map(bring, {**stored, **local}))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_result(path: Path) -> bool:
    return path.name == RESULT


def _same(path: Path, info: pafs.FileInfo) -> bool:
    """Whether a local file is the one in the store. Some listings have whole seconds only."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    return stat.st_size == info.size and stat.st_mtime_ns // 10**9 == info.mtime_ns // 10**9


# --- Pushing --------------------------------------------------------------------------------------


def push(path: Path) -> None:
    """Write a file as it is now to the store.

    Where this process holds the folder that is queued after earlier writes, else done at once.

    Raises:
        TrainingError: it, or something before it, cannot be written.
    """
    mirror = mirror_of(path)
    if mirror is None:
        return
    file = path.open("rb")  # what is opened now stays what it is when another file takes the name
    _in_turn(path, lambda: _upload(mirror, file, path))


def _upload(mirror: Mirror, file: IO[bytes], path: Path) -> None:
    with file:
        mirror.upload(file, path)


def remove_file(path: Path) -> None:
    """Remove a file, in the store too; nothing where there is none."""
    mirror = mirror_of(path)
    path.unlink(missing_ok=True)
    if mirror is not None:
        _in_turn(path, lambda: mirror.delete(path))


def rename_file(path: Path, target: Path) -> None:
    """Give a file another name; the store copies it there, so it is not uploaded again."""
    path.rename(target)
    mirror = mirror_of(path)
    if mirror is not None:
        _in_turn(target, lambda: mirror.copy(path, target))


def settle(folder: Path) -> None:
    """Wait until all that was pushed in a folder is in the store.

    Raises:
        TrainingError: something is not.
    """
    writer = _writer(folder / "any")
    if writer is not None:
        writer.settle()


class _Writer:
    """Does one thing after the other in a thread, for the process that holds a folder."""

    def __init__(self, check_lease: Callable[[], None]) -> None:
        self.check_lease = check_lease
        self.known: set[Path] = set()  # what was written or fetched since the folder is held
        self.failure: Exception | None = None
        self.queue: Queue[Callable[[], None] | None] = Queue(WAITING)
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def put(self, path: Path, action: Callable[[], None]) -> None:
        self.check()
        self.known.add(path)
        self.queue.put(action)

    def settle(self) -> None:
        self.queue.join()
        self.check()

    def check(self) -> None:
        if self.failure is not None:
            raise TrainingError(str(self.failure)) from self.failure

    def close(self) -> None:
        self.queue.put(None)
        self.thread.join()

    def _work(self) -> None:
        while (action := self.queue.get()) is not None:
            try:
                if self.failure is None:
                    self.check_lease()
                    action()
            except (
                Exception
            ) as error:  # raised where the next thing is pushed, or everything is awaited
                self.failure = error
            finally:
                self.queue.task_done()


_WRITERS: dict[Path, _Writer] = {}  # by the folder that this process holds


def _writer(path: Path) -> _Writer | None:
    return next((_WRITERS[parent] for parent in path.parents if parent in _WRITERS), None)


@contextmanager
def working_in(mirror: Mirror, folder: Path, check_lease: Callable[[], None]) -> Iterator[None]:
    """Work on what is in the store, in a folder that this process holds; at the end all that was
    pushed is there.

    Args:
        check_lease: called before each write to the store; raises if this process no
            longer holds the folder.

    Raises:
        TrainingError: what was written cannot be brought to the store.
    """
    _pull(mirror, folder, _NoLocks(mirror.root))
    writer = _WRITERS[folder] = _Writer(check_lease)
    try:
        yield
        writer.settle()
    finally:
        writer.close()
        del _WRITERS[folder]


def _in_turn(path: Path, action: Callable[[], None]) -> None:
    writer = _writer(path)
    if writer is None:
        action()
    else:
        writer.put(path, action)
