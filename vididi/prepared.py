"""The prepared data of a configuration, prepared now if it is not there yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from vididi.components import _about, options_model
from vididi.config import Config
from vididi.data.encode import Settings
from vididi.data.layout import Manifest
from vididi.data.motion import motion_is_made
from vididi.data.prepare import TIMEOUT_S, PrepareProgress, Runner, prepare
from vididi.data.shards import ShardSet, check_no_overlap
from vididi.data.sources import SOURCES, Listing
from vididi.data.storage import Folder, cache_folder
from vididi.data.video import Video
from vididi.errors import DataError
from vididi.introduced import with_introduced, without_introduced


def ensure_prepared(
    config: Config,
    shards: Folder | None = None,
    progress: PrepareProgress | None = None,
    timeout: float = TIMEOUT_S,
    run: Runner | None = None,
) -> ShardSet:
    """The prepared data of a resolved configuration, prepared now if it is not there yet.

    Args:
        shards: a folder of shards, here or in an object store; without it, a folder under the
            cache named after the data and prepare sections and the videos that the source lists, so
            that a folder with other videos in it is prepared anew.
        timeout: seconds that one video may take.
        run: decodes the videos elsewhere than in processes of this machine, such as
            ``vididi.cluster.ray_prepare.over_cluster``.

    Raises:
        DataError: the videos are not there or cannot be read, or a test video is also in the
            training split.
        ResourceError: ``run`` cannot do its work.
    """
    videos = None
    if shards is None:
        videos = list_videos(config)
        shards = _cached(config, videos)

    if not (shards / "manifest.json").is_file():
        if isinstance(shards, Path) and shards.exists() and any(shards.iterdir()):
            raise DataError(
                f"{shards}: holds no manifest.json, so it is not a (completely) prepared data set"
            )
        videos, content = videos or list_videos(config), config.to_dict()
        settings = Settings(**content["prepare"])
        prepare(
            videos,
            shards,
            settings,
            content["data"],
            progress,
            timeout=timeout,
            run=run,
            work_dir=_work_dir(shards),
            notes=videos.notes,
        )
    opened = ShardSet.open(shards)
    check_no_overlap(opened)
    return opened


@dataclass(frozen=True)
class DataPlace:
    """Where the data of a configuration are, as far as they are there.

    Attributes:
        shards: the prepared set; None: there is none yet.
        listed: videos that are to be prepared; files: how many of them are there.
        made: whether the videos are made when they are needed (the motion set).
        videos: those that are listed and there, where there is no prepared set.
    """

    shards: Folder | None
    listed: int = 0
    files: int = 0
    made: bool = False
    videos: Sequence[Video] = ()


def find_data(config: Config) -> DataPlace:
    """Look for what ensure_prepared would open or prepare without a folder of shards; makes
    nothing.

    Raises:
        DataError: the videos are not there or cannot be listed.
    """
    options = config.data.options
    if config.data.name == "motion" and not motion_is_made(cache_folder(), options):
        return DataPlace(None, made=True)
    videos = list_videos(config)
    shards = _cached(config, videos)
    if (shards / "manifest.json").is_file():
        return DataPlace(shards)
    there = [video for video in videos if _size(video.path) is not None]
    return DataPlace(None, len(videos), len(there), videos=there)


def count_training_videos(config: Config, shards: Folder | None = None) -> int | None:
    """Training videos of a resolved configuration, as far as can be told without making any.

    Args:
        shards: as of ensure_prepared; one in an object store is not looked at.
    """
    if shards is not None and not isinstance(shards, Path):
        return None
    try:
        if shards is None:
            place = find_data(config)
            if place.made:
                return int(config.data.options["train"])
            if place.shards is None:
                return sum(video.split == "train" for video in place.videos)
            shards = place.shards
        return len(ShardSet.open(shards).rows("train"))
    except DataError:  # whoever needs the data says what is wrong with them
        return None


def _cached(config: Config, videos: list[Video]) -> Path:
    """The folder of a prepared set that has no other place."""
    name = f"{config.data.name}-{_preparation_digest(config, videos)}"
    return cache_folder() / "shards" / name


def _work_dir(shards: Folder) -> Path:
    """The local folder to prepare a set in: beside it, or for one in a store under the cache."""
    if isinstance(shards, Path):
        return shards.with_name(f"{shards.name}.partial")
    return cache_folder() / "shards" / f"{sha256(str(shards).encode()).hexdigest()[:12]}.partial"


def list_videos(config: Config) -> Listing:
    """The videos of the data section; the motion set is made by this if need be."""
    with _about("data", config.data):
        options = options_model(SOURCES[config.data.name]).model_validate(config.data.options)
        videos = SOURCES[config.data.name](cache_folder(), **dict(options))
        return videos if isinstance(videos, Listing) else Listing(videos)


def is_made_of(manifest: Manifest, config: Config) -> bool:
    """Whether a prepared set is that of a resolved configuration's data and prepare sections.

    An option that came after the manifest was written counts as its introduction value
    (vididi.introduced).
    """
    requested = config.to_dict()
    one, other = (
        with_introduced(type(config), {"data": data, "prepare": settings})
        for data, settings in (
            (requested["data"], requested["prepare"]),
            (manifest.source, manifest.prepare),
        )
    )
    return one == other


def _preparation_digest(config: Config, videos: list[Video]) -> str:
    content = without_introduced(type(config), config.to_dict())
    listed = [[video.video_id, video.split, _size(video.path), *video.details] for video in videos]
    return sha256(json.dumps([content["data"], content["prepare"], listed]).encode()).hexdigest()[
        :12
    ]


def _size(path: Path) -> int | None:
    """Of a file; None where there is none, or its name is longer than a name can be."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
