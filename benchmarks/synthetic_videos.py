"""H.264 files of ordinary size for benchmarks.

Textures that drift, turn and pulse under noise.

The noise matters: without it a frame would compress to nothing, and neither decoder would have the
work of a real one.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FPS = 25


def draw_frames(number: int, frames: int, height: int, width: int) -> NDArray[np.uint8]:
    """``[T, H, W, 3]``, another video for each ``number``."""
    random = np.random.default_rng(number)
    coarse = random.uniform(0, 255, (2, 12, 16, 3))
    # Two smooth textures larger than the frame: one is the background and drifts, the other shines
    # through a moving disc.
    textures = [_enlarge(texture, 2 * height, 2 * width) for texture in coarse]
    noise = random.normal(0, 4, (8, height, width, 3)).astype(np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    pace = random.uniform(0.5, 2.0, 4)
    out = np.empty((frames, height, width, 3), np.uint8)

    for t in range(frames):
        dy, dx = (int(p * t) % size for p, size in zip(pace, (height, width), strict=False))
        frame = textures[0][dy : dy + height, dx : dx + width] + noise[t % 8]
        cy, cx = (
            height * (0.5 + 0.3 * np.sin(pace[2] * t / 15)),
            width * (0.5 + 0.3 * np.cos(pace[3] * t / 20)),
        )
        inside = (y - cy) ** 2 + (x - cx) ** 2 < (height / 5) ** 2
        frame[inside] = textures[1][dx % height : dx % height + height, dy : dy + width][inside]
        out[t] = frame.clip(0, 255)

    return out


def _enlarge(texture: NDArray, height: int, width: int) -> NDArray[np.float32]:
    from PIL import Image

    smooth = Image.fromarray(texture.astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.asarray(smooth, np.float32)


def _write(number: int, folder: Path, frames: int, height: int, width: int) -> None:
    import av

    with av.open(str(folder / f"{number:04d}.mp4"), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"crf": "23", "preset": "veryfast", "threads": "1"}
        )
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in draw_frames(number, frames, height, width):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def make_videos(
    folder: Path, count: int, frames: int, height: int, width: int, workers: int
) -> None:
    """``count`` files under ``folder``, which is made.

    They are of one class, so that the folder source takes its parent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write = partial(_write, folder=folder, frames=frames, height=height, width=width)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(write, range(count), chunksize=4))
