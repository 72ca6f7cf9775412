"""Folders of prepared data on a disk or in an object store, by pyarrow's filesystems.

A folder on a disk is a pathlib.Path; one in a store is a RemotePath, which has the few methods of
Path that readers need; what writers need are functions below that take either.
Credentials, region and endpoint come from the environment (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``,
...) or stand in the URI (``s3://bucket/folder?endpoint_override=localhost:9000&scheme=http``), as
pyarrow.fs reads them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.fs as pafs

from vididi.errors import DataError
from vididi.files import kind_of
from vididi.values import cut

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMES = ("s3", "gs")  # gs goes the same way as s3 and is untested


@dataclass(frozen=True)
class RemotePath:
    """A file or folder in an object store.

    Picklable; the connection is made anew in each process.
    """

    uri: str

    def __truediv__(self, name: str) -> RemotePath:
        base, mark, query = self.uri.partition("?")
        return RemotePath(f"{base.rstrip('/')}/{name}{mark}{query}")

    def __str__(self) -> str:
        return self.uri

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri}

    @property
    def name(self) -> str:
        """As of a Path: the last part."""
        return self.uri.partition("?")[0].rstrip("/").rpartition("/")[2]

    @cached_property
    def location(self) -> tuple[pafs.FileSystem, str]:
        """The filesystem and the path in it.

        Raises:
            DataError: the URI is not one that pyarrow can read.
        """
        try:
            return pafs.FileSystem.from_uri(self.uri)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.uri}: cannot be opened: {error}") from None

    def is_file(self) -> bool:
        """As of a Path; DataError where the store cannot be reached."""
        return self._info().type == pafs.FileType.File

    def exists(self) -> bool:
        """As of a Path, also for a folder; DataError where the store cannot be reached."""
        return self._info().type != pafs.FileType.NotFound

    def _info(self) -> pafs.FileInfo:
        filesystem, path = self.location
        try:
            return filesystem.get_file_info(path)
        except OSError as error:
            raise DataError(f"{self.uri}: cannot be reached: {error}") from None

    def read_text(self) -> str:
        """The content of a file in UTF-8."""
        with self.open() as file:
            return file.read().decode()

    def open(self) -> pa.NativeFile:
        """The file, to read at any position."""
        filesystem, path = self.location
        return filesystem.open_input_file(path)


Folder = Path | RemotePath


def cache_folder() -> Path:
    """$VIDIDI_CACHE, else ~/.cache/vididi: where built-in data, prepared sets and mirrors lie."""
    return Path(os.environ.get("VIDIDI_CACHE", "~/.cache/vididi")).expanduser().resolve()


def as_folder(text: str) -> Folder:
    """A path or a URI as a user writes it; paths become absolute.

    Raises:
        DataError: a URI of a scheme that is not known, or a path that cannot be one of a folder.
    """
    scheme, mark, _ = text.partition("://")
    if not mark:
        try:
            path = checked_path(text).expanduser().resolve()
        except RuntimeError as error:  # the home of a user who is none
            raise DataError(f"{cut(text)}: {error}") from None
        if path.exists() and not path.is_dir():
            raise DataError(f"{cut(text)}: it is {kind_of(path.stat().st_mode)}, not a folder")
        return path
    if scheme not in SCHEMES:
        raise DataError(
            f"{text}: {scheme!r} is not a known scheme; it is a path, or one of"
            f" {', '.join(f'{s}://' for s in SCHEMES)}"
        )
    return RemotePath(text)


def checked_path(text: str) -> Path:
    """A path as a user writes it, unless no file system can have it (DataError)."""
    try:
        Path(text).exists()
    except OSError as error:
        raise DataError(f"{cut(text)}: {error.strerror}") from None
    if "\0" in text:
        raise DataError(f"{cut(text)}: a NUL character is in its name")
    return Path(text)


def parquet_source(path: Folder) -> Any:
    """What pyarrow.parquet opens to read ``path``."""
    return path if isinstance(path, Path) else path.open()


def sizes(folder: Folder) -> dict[str, int]:
    """Bytes of each file right inside ``folder``; none where there is no such folder."""
    return {name: size for name, (size, _) in stamps(folder).items()}


def stamps(folder: Folder) -> dict[str, tuple[int, int]]:
    """Size in bytes and time of writing (ns) of each file right inside ``folder``.

    None where there is no such folder.
    """
    if isinstance(folder, Path):
        states = (
            {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
            if folder.is_dir()
            else {}
        )
        return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in states.items()}
    filesystem, root = folder.location
    try:
        files = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True))
    except OSError as error:
        raise DataError(f"{folder}: cannot be reached: {error}") from None
    return {
        file.base_name: (file.size, file.mtime_ns or 0)
        for file in files
        if file.type == pafs.FileType.File
    }


def write_durably(path: Folder, text: str) -> None:
    """Write a small file that is complete or not there, after a power failure too."""
    if isinstance(path, RemotePath):
        filesystem, location = path.location
        with filesystem.open_output_stream(location) as file:  # an object appears when it is closed
            file.write(text.encode())
        return
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text)
    _sync(temporary)
    temporary.rename(path)
    _sync(path.parent)


def keep(file: Path, folder: Folder) -> None:
    """Make sure that a written file survives a power failure.

    On a disk it lies in ``folder`` already; to a store it is moved.
    """
    if isinstance(folder, RemotePath):
        filesystem, root = folder.location
        pafs.copy_files(str(file), f"{root}/{file.name}", pafs.LocalFileSystem(), filesystem)
        file.unlink()
    else:
        _sync(file)


def remove(path: Folder) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if isinstance(path, RemotePath):
        filesystem, location = path.location
        kind = filesystem.get_file_info(location).type
        if kind == pafs.FileType.File:
            filesystem.delete_file(location)
        elif kind == pafs.FileType.Directory:
            filesystem.delete_dir(location)
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
