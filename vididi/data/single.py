"""One video that need not be of a prepared set, as the batch that an evaluation gets: prepared by
the same functions, and planned by the same plan. No torch.

A crop is drawn by a video's index row. A video that is of no set has a number of its content
instead: the first 60 bits of the SHA-256 of its file's bytes, or of its frames' where it comes as
frames. So its features do not depend on its name, nor on what it is embedded with.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vididi.data.encode import Encoded, Reject, Settings, encode_frames, encode_video
from vididi.data.layout import frames_sha256
from vididi.data.plan import EvaluationPlan
from vididi.data.shards import ShardSet
from vididi.data.stream import Batch
from vididi.data.video import Video, printable
from vididi.errors import DataError

KEY_DIGITS = 15  # hexadecimal, of a SHA-256: a number that int64 holds


def as_video(path: Path) -> Video:
    """A file as a source would list it."""
    return Video(path, printable(path), "", "test")


def encoded_file(path: Path, settings: Settings) -> Encoded:
    """A video file as a prepared set would hold it.

    Raises:
        DataError: it would be a reject; with the reason.
    """
    result = encode_video(as_video(path), settings)
    if isinstance(result, Reject):
        raise DataError(f"{result.path}: {result.reason}")
    return result


def encoded_array(frames: NDArray[np.uint8], settings: Settings) -> Encoded:
    """Frames ``[T, H, W, 3]`` (RGB) as a prepared set would hold them."""
    frames = np.ascontiguousarray(frames)
    digest = sha256(repr(frames.shape).encode() + frames.tobytes()).hexdigest()
    return encode_frames(frames, 0.0, settings, digest)


def row_in(shards: ShardSet, video: Encoded) -> int | None:
    """The index row of a video of a set: the one with its frames, of several the one of its file.

    None where there is none. A file of which the set has moments, a part of the picture or other
    frames is not in it.
    """
    rows = np.flatnonzero(
        shards.column("frames_sha256") == frames_sha256(video.frames).hex()
    ).tolist()
    sources = shards.column("source_sha256")
    return next(
        (row for row in rows if sources[row] == video.source_sha256), next(iter(rows), None)
    )


def content_number(video: Encoded) -> int:
    """What stands for the index row of a video that is of no set."""
    return int(video.source_sha256[:KEY_DIGITS], 16)


def batch_of(video: Encoded, number: int, length: int, stride: int, clips: int) -> Batch:
    """The clips of one video that an EvaluationPlan names, ``[1, clips, length, H, W, 3]``.

    Args:
        number: the index row, or what stands for it.
    """
    import simplejpeg

    count = np.array([len(video.frames)])
    picks = EvaluationPlan(np.zeros(1, np.int64), count, length, stride, clips, 1)[0].frames
    numbers, places = np.unique(picks, return_inverse=True)
    pixels = np.stack([simplejpeg.decode_jpeg(video.frames[n]) for n in numbers.tolist()])
    return Batch(
        np.array([number]),
        np.array([[video.height, video.width]]),
        picks[:, :, 0],
        pixels[places.reshape(picks.shape)],
    )
