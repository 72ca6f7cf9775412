"""What a machine must have before anything can run on it, each thing checked in a moment.

``vididi doctor`` prints all of it; whoever starts Ray or a sweep asks the same functions first
(``refuse``), so that a fault is one sentence instead of a traceback of another program. Imports
torch only inside functions, and never starts Ray.
"""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vididi.errors import ResourceError
from vididi.estimate import duration
from vididi.words import counted

if TYPE_CHECKING:
    from vididi.config import Config

Level = Literal["ok", "warning", "problem"]

# Linux takes 108 bytes for the path of a Unix socket, with the zero at its end. Ray's longest is
# TEMP/vididi-RANDOM/r/session_DATE_PID/sockets/plasma_store.
SOCKET_PATH = 107
PREFIX, RAY = "vididi-", "r"  # of the folders of our own Rays; in such a one, Ray's
SESSION = len(
    f"/{PREFIX}abcdefgh/{RAY}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
)
FEW_FILES, LEAST_FILES = 8192, 1024  # Ray warns below the first
LITTLE_DISK = 10 * 2**30
# Of one core, for a clip of 8 frames and 2 more at 112 pixels through r3d_18, forward and backward:
# benchmarks/results/train_step_cpu_r3d_18.json has 2.42 s for 8 clips on two threads.
CLIP_SECONDS = 0.6
LONG_RUN_S = 600.0  # of one core, below which a run is not worth a word
OBJECT_STORE_BYTES = 2**30  # of a Ray of our own at least, for encoded frames in flight
SHARED_MEMORY = Path("/dev/shm")
PYTHONS = ((3, 11), (3, 13))  # from the first, below the second
NEEDED = ("torch", "torchvision", "ray", "av")


@dataclass(frozen=True)
class Check:
    """What was found of one thing; ``text`` also says what to do."""

    name: str
    level: Level
    text: str


def refuse(checks: Iterable[Check]) -> None:
    """Raise ResourceError for the first problem among checks."""
    for check in checks:
        if check.level == "problem":
            raise ResourceError(f"{check.name}: {check.text}")


def all_checks(runs: Path, cache: Path, data: Iterable[Path] = ()) -> Iterator[Check]:
    """Every check, one by one."""
    yield check_python()
    yield from map(check_version, NEEDED)
    yield check_operators()
    yield check_decoder()
    yield check_gpu()
    yield from checks_of_ray()
    yield check_writable("cache", cache, "set VIDIDI_CACHE to a folder that is")
    yield check_writable("runs", runs, "give --runs a folder that is")
    yield from map(check_data, data)


def check_python() -> Check:
    """This program runs on Python 3.11 and 3.12."""
    here = ".".join(map(str, sys.version_info[:3]))
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return Check("python", "ok", here)
    return Check("python", "problem", f"{here}; make an environment of Python 3.11 or 3.12")


def check_version(package: str) -> Check:
    """Whether the installed version of a package is one that vididi asks for."""
    from packaging.requirements import Requirement

    with suppress(PackageNotFoundError):
        for line in requires("vididi") or []:
            needed = Requirement(line)
            if needed.name == package and needed.marker is None:
                try:
                    here = version(package)
                except PackageNotFoundError:
                    return Check(package, "problem", f"is missing; pip install '{needed}'")
                if needed.specifier.contains(here, prereleases=True):
                    return Check(package, "ok", here)
                return Check(package, "problem", f"{here}; pip install '{needed}'")
    return Check(package, "warning", "vididi is not installed, so no version is asked for")


def check_operators() -> Check:
    """Whether torch and torchvision are of one build: operators of both are called."""
    try:
        import torch
        from torchvision.ops import nms

        torch.nn.functional.conv3d(torch.ones(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2))
        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except Exception as error:  # what a broken pair raises is of many kinds
        reason = str(error).partition("\n")[0]
        return Check(
            "operators",
            "problem",
            f"{type(error).__name__}: {reason}; install torch and torchvision of one release"
            " together, from one index",
        )
    return Check("operators", "ok", "torch's and torchvision's can be called")


def check_decoder() -> Check:
    """Whether PyAV reads H.264; decord is optional."""
    try:
        import av

        av.codec.Codec("h264", "r")
    except Exception as error:  # a library that is not there, or FFmpeg without the codec
        return Check("decoder", "problem", f"PyAV: {error}; pip install --force-reinstall av")
    try:
        importlib.import_module("decord")
    except Exception:  # it is not there, or its libraries are not
        return Check("decoder", "ok", "PyAV; decord cannot be imported, leave --decoder at pyav")
    return Check("decoder", "ok", "PyAV and decord")


def check_gpu() -> Check:
    """Whether torch reaches a GPU that is there."""
    try:
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names = [torch.cuda.get_device_name(i) for i in range(count)]
    except Exception as error:  # a driver that does not fit raises several kinds
        return Check("gpu", "problem", f"{error}; see nvidia-smi")
    if names:
        return Check("gpu", "ok", ", ".join(names))
    if Path("/dev/nvidia0").exists():
        return Check(
            "gpu",
            "warning",
            f"there is one that torch {torch.__version__} does not reach; install a torch with CUDA"
            " for this driver (nvidia-smi), or look at CUDA_VISIBLE_DEVICES",
        )
    return Check("gpu", "ok", "none; set backbone: r3d_tiny for networks that CPUs can train")


def warn_of_backbone(config: Config, gpu: bool | None = None, videos: int | None = None) -> str:
    """A sentence where a configuration leaves out its backbone, no GPU trains it, and that takes
    long; else empty.

    The default is a network for GPUs, which on CPUs is no mistake that shows before hours are gone.

    Args:
        config: as it was written, before its defaults are filled in. gpu: whether one trains
            it; None: whether this machine has one. videos: training videos, where that is known.
    """
    if "backbone" in config.model_fields_set:
        return ""
    if gpu is None:
        import torch

        gpu = torch.cuda.is_available()
    if gpu:
        return ""
    clip, training = config.clip, config.training
    clips = training.batch_size * (clip.per_video or 2)
    seconds = CLIP_SECONDS * clips * clip.length / 10 * (clip.size / 112) ** 2
    whole = ""
    if videos is not None:
        total = seconds * training.epochs * (videos // training.batch_size)
        if total < LONG_RUN_S:
            return ""
        whole = (
            f", {duration(total)} for {counted(training.epochs, 'epoch')} of"
            f" {counted(videos, 'video')}"
        )
    return (
        f"warning: backbone: is left out, so it is {config.backbone.name}, at clip.size"
        f" {clip.size}, and no GPU trains it: about {seconds:.1f} s of one core for each step of"
        f" {training.batch_size} videos{whole}; set backbone.name: r3d_tiny, and a smaller"
        f" clip.size, or say backbone.name: {config.backbone.name} where that is meant; --estimate"
        " measures it here"
    )


# --- Ray ------------------------------------------------------------------------------------------


def checks_of_ray() -> list[Check]:
    """What keeps Ray from starting on this machine."""
    return [
        check_temporary(),
        check_home(),
        check_loopback(),
        check_open_files(),
        check_shared_memory(),
    ]


def check_temporary() -> Check:
    """A folder for Ray's sockets: short enough for them, and writable."""
    folder = folder_for_sockets()
    if folder is None:
        tried = ", ".join(map(str, _temporary_folders()))
        longest = SOCKET_PATH - SESSION
        return Check(
            "sockets",
            "problem",
            f"{tried}: not writable, or longer than the {longest} bytes that leave room for the"
            " paths of Ray's sockets; set RAY_TMPDIR to a folder that is",
        )
    return check_writable("sockets", folder, "set RAY_TMPDIR to a folder that is")


def folder_for_sockets() -> Path | None:
    """Where Ray's own folder goes: the first of RAY_TMPDIR, TMPDIR and /tmp that is writable and
    short enough for the paths of its sockets; None if none is.
    """
    longest = SOCKET_PATH - SESSION
    for folder in _temporary_folders():
        if len(os.fsencode(folder)) <= longest and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


def _temporary_folders() -> list[Path]:
    names = [os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp"]
    return list(dict.fromkeys(Path(name).absolute() for name in names if name))


def check_home() -> Check:
    """Ray and torch keep small files under HOME."""
    home = Path(os.environ.get("HOME") or "/")
    found = check_writable("home", home, "set HOME to a folder that is", disk=0)
    return Check("home", "warning", found.text) if found.level == "problem" else found


def check_loopback(address: str = "127.0.0.1") -> Check:
    """Ray listens on this machine's own IPv4 address, which machines of IPv6 alone have, too,
    unless it was taken away.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
            own.bind((address, 0))
    except OSError as error:
        return Check(
            "loopback",
            "problem",
            f"{address} is not to be had ({error.strerror}), which Ray listens on; ip link set lo"
            f" up && ip address add {address}/8 dev lo",
        )
    return Check("loopback", "ok", address)


def check_open_files() -> Check:
    """Ray raises the soft limit to the hard one."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= FEW_FILES:
        return Check("open files", "ok", "no limit" if hard < 0 else f"{hard}")
    level: Level = "problem" if hard < LEAST_FILES else "warning"
    return Check(
        "open files", level, f"at most {hard}; raise the hard limit: ulimit -n {FEW_FILES}"
    )


def free_shared_memory(place: Path = SHARED_MEMORY) -> int:
    """Bytes that are free there; 0 where it is not."""
    return shutil.disk_usage(place).free if place.is_dir() else 0


def check_shared_memory(place: Path = SHARED_MEMORY) -> Check:
    """Ray's object store lies in it; where it is too small Ray takes the disk, which is slow."""
    if not place.is_dir():
        return Check("shared memory", "warning", f"{place} is not there; Ray takes the disk")
    free = free_shared_memory(place)
    if free < OBJECT_STORE_BYTES:
        return Check(
            "shared memory",
            "warning",
            f"{place} has {free / 2**20:.0f} MiB, less than {OBJECT_STORE_BYTES / 2**20:.0f}; Ray"
            " takes the disk, which is slow: give a container --shm-size=2g",
        )
    return Check("shared memory", "ok", f"{free / 2**30:.1f} GiB")


# --- Folders --------------------------------------------------------------------------------------


def check_writable(name: str, folder: Path, otherwise: str, disk: int = LITTLE_DISK) -> Check:
    """Whether a folder is writable, or can be made, and has room.

    Args:
        otherwise: what to do where it is not. disk: bytes, below which it is little.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        what = "is not writable" if existing.is_dir() else "is not a folder"
        return Check(name, "problem", f"{folder}: {existing} {what}; {otherwise}")
    free = shutil.disk_usage(existing).free
    if free < disk:
        return Check(
            name,
            "warning",
            f"{folder}: {free / 2**30:.1f} GiB are free; prepared sets and checkpoints take more",
        )
    return Check(name, "ok", f"{folder}: {free / 2**30:.0f} GiB are free")


def check_data(folder: Path) -> Check:
    """Whether a folder of videos or shards is there, readable and not empty."""
    try:
        with os.scandir(folder.expanduser()) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        return Check("data", "problem", f"{folder}: {error.strerror}; is its disk mounted?")
    if empty:
        return Check("data", "problem", f"{folder}: is empty; is its disk mounted?")
    return Check("data", "ok", f"{folder}")
