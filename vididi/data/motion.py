"""The built-in motion set: the class of a video is its law of motion, and everything else is
nuisance.

A textured static background, the object's colour, shape, size, start and speed are drawn for each
video. The background's family is the scene label: families are shared by both splits and
independent of the motion, instances never are. An encoder that learned backgrounds retrieves by
scene; one that learned motion retrieves by class.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vididi.data.nuisance import Nuisance, shifted
from vididi.data.video import Video
from vididi.draws import Use, key, uniform

FORMAT = 2  # raise it when the same options would draw other videos
FPS = 20
# The same bytes for the same frames, on any machine: one thread, and none of the code that differs
# between processors. Without the latter x264's rate control depends on where its buffers happen to
# lie in memory.
ENCODER = {"crf": "18", "preset": "veryfast", "threads": "1", "x264-params": "cpu-independent=1"}

MINIMUM = {"train": 1, "test": 0, "size": 16, "frames": 8, "seed": 0}  # of the options

Array = NDArray[np.float64]
NOTHING_ELSE = Nuisance()


@dataclass
class Track:
    """Where an object is in each frame, ``[T]``.

    x, y: its centre, in [0, 1] of the frame; its radius; and its angle.
    """

    x: Array
    y: Array
    radius: Array
    angle: Array


# A law maps time [T] in frames, the video's length, its draws, and the object's radius to a track.
Draw = Callable[[float, float], float]
Law = Callable[[Array, float, Draw, float], Track]


def _track(
    t: Array, x: Array | float, y: Array | float, radius: Array | float, angle: Array | float = 0.0
) -> Track:
    return Track(
        *(
            np.broadcast_to(np.asarray(value, dtype=np.float64), t.shape)
            for value in (x, y, radius, angle)
        )
    )


def _sign(draw: Draw) -> float:
    return 1.0 if draw(0, 1) < 0.5 else -1.0


def _translation(t: Array, length: float, draw: Draw, r: float) -> Track:
    heading, distance = draw(0, 2 * np.pi), draw(0.35, 0.6)
    along = (t / length - 0.5) * distance
    return _track(
        t, draw(0.4, 0.6) + along * np.cos(heading), draw(0.4, 0.6) + along * np.sin(heading), r
    )


def _free_fall(t: Array, length: float, draw: Draw, r: float) -> Track:
    start, drop, drift = draw(r, r + 0.1), draw(0.6, 0.75), draw(-0.15, 0.15)
    return _track(
        t, draw(0.35, 0.65) + drift * (t / length - 0.5), start + drop * (t / length) ** 2, r
    )


def _bounce(t: Array, length: float, draw: Draw, r: float) -> Track:
    period, height, drift = draw(0.3, 0.5) * length, draw(0.35, 0.6), draw(-0.3, 0.3)
    phase = np.mod(t / period + draw(0, 1), 1.0)
    floor = 1 - r - draw(0, 0.1)
    return _track(t, 0.5 + drift * (t / length - 0.5), floor - height * 4 * phase * (1 - phase), r)


def _oscillation(t: Array, length: float, draw: Draw, r: float, vertical: bool) -> Track:
    wave = draw(0.15, 0.3) * np.sin(2 * np.pi * t / (draw(0.3, 0.6) * length) + draw(0, 2 * np.pi))
    x, y = draw(0.4, 0.6), draw(0.4, 0.6)
    return _track(t, x, y + wave, r) if vertical else _track(t, x + wave, y, r)


def _orbit(t: Array, length: float, draw: Draw, r: float) -> Track:
    angle = _sign(draw) * 2 * np.pi * t / (draw(0.4, 0.8) * length) + draw(0, 2 * np.pi)
    radius = draw(0.15, 0.28)
    return _track(
        t, draw(0.45, 0.55) + radius * np.cos(angle), draw(0.45, 0.55) + radius * np.sin(angle), r
    )


def _spin(t: Array, length: float, draw: Draw, r: float) -> Track:
    angle = _sign(draw) * 2 * np.pi * t / (draw(0.4, 0.8) * length) + draw(0, 2 * np.pi)
    return _track(t, draw(0.3, 0.7), draw(0.3, 0.7), 1.4 * r, angle)


def _growth(t: Array, length: float, draw: Draw, r: float) -> Track:
    return _track(t, draw(0.35, 0.65), draw(0.35, 0.65), r * 0.5 * draw(4, 6) ** (t / length))


def _shrinkage(t: Array, length: float, draw: Draw, r: float) -> Track:
    return _track(t, draw(0.35, 0.65), draw(0.35, 0.65), r * 0.5 * draw(4, 6) ** (1 - t / length))


def _zigzag(t: Array, length: float, draw: Draw, r: float) -> Track:
    phase = np.mod(t / (draw(0.25, 0.4) * length) + draw(0, 1), 1.0)
    wave = draw(0.12, 0.2) * (1 - 4 * np.abs(phase - 0.5))
    along = _sign(draw) * draw(0.4, 0.6) * (t / length - 0.5)
    return _track(t, 0.5 + along, draw(0.35, 0.65) + wave, r)


LAWS: dict[str, Law] = {
    "translation": _translation,
    "free_fall": _free_fall,
    "bounce": _bounce,
    "oscillation_x": partial(_oscillation, vertical=False),
    "oscillation_y": partial(_oscillation, vertical=True),
    "orbit": _orbit,
    "spin": _spin,
    "growth": _growth,
    "shrinkage": _shrinkage,
    "zigzag": _zigzag,
}

Texture = Callable[[Array, Array, np.random.Generator], Array]


def _stripes(x: Array, y: Array, rng: np.random.Generator) -> Array:
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(3, 9)
    return np.sin(2 * np.pi * (frequency * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform()))


def _checks(x: Array, y: Array, rng: np.random.Generator) -> Array:
    frequency = rng.uniform(2, 5)
    return np.sign(
        np.sin(2 * np.pi * (frequency * x + rng.uniform()))
        * np.sin(2 * np.pi * (frequency * y + rng.uniform()))
    )


def _clouds(x: Array, y: Array, rng: np.random.Generator) -> Array:
    field = np.zeros_like(x)
    for octave in (2, 4, 8):
        for _ in range(3):
            fx, fy = rng.uniform(-octave, octave, 2)
            field += np.sin(2 * np.pi * (fx * x + fy * y + rng.uniform())) / octave
    return field / np.abs(field).max()


def _rings(x: Array, y: Array, rng: np.random.Generator) -> Array:
    cx, cy = rng.uniform(0, 1, 2)
    return np.sin(2 * np.pi * (rng.uniform(3, 8) * np.hypot(x - cx, y - cy) + rng.uniform()))


def _tiles(x: Array, y: Array, rng: np.random.Generator) -> Array:
    cells = int(rng.integers(4, 8))
    values = rng.uniform(-1, 1, (cells + 1, cells + 1))
    # Beyond the frame, where a moving camera sees it, the pattern begins anew.
    return values[
        np.floor(y * cells).astype(int) % (cells + 1), np.floor(x * cells).astype(int) % (cells + 1)
    ]


SCENES: dict[str, Texture] = {
    "stripes": _stripes,
    "checks": _checks,
    "clouds": _clouds,
    "rings": _rings,
    "tiles": _tiles,
}
SHAPES = ("disc", "square", "triangle", "cross")


def render_video(
    law: str, scene: str, size: int, frames: int, seed: int, nuisance: Nuisance = NOTHING_ELSE
) -> NDArray[np.uint8]:
    """One video ``[frames, size, size, 3]`` of class ``law`` before a background of ``scene``."""
    rng, other = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    camera = nuisance.camera_path(frames, size, other)
    margin = int(np.ceil(np.abs(camera * size).max())) + 1 if camera.any() else 0
    canvas = _background(scene, size, margin, rng)
    colour = _distinct_colour(canvas.mean(axis=(0, 1)), rng)

    t = np.arange(frames, dtype=np.float64)
    track = LAWS[law](
        t,
        float(frames),
        lambda low, high: float(rng.uniform(low, high)),
        float(rng.uniform(0.09, 0.14)),
    )
    # A spinning disc would stand still.
    shape = str(rng.choice(SHAPES[1:] if law == "spin" else SHAPES))
    tilt = rng.uniform(0, 2 * np.pi)
    offset = nuisance.offset(other)
    objects = [
        *_distracting(nuisance, frames, other),
        _Object(
            shape,
            track.x + offset[0],
            track.y + offset[1],
            track.radius,
            tilt + track.angle,
            colour,
        ),
    ]

    y, x = (np.mgrid[:size, :size] + 0.5) / size
    video = np.empty((frames, size, size, 3))
    for i, (dx, dy) in enumerate(camera):
        frame = shifted(canvas, margin, size, dx * size, dy * size) if margin else canvas
        for thing in objects:
            frame = thing.drawn(frame, i, x, y, dx, dy)
        video[i] = frame
    if nuisance.noise:
        video += nuisance.noise * other.normal(size=video.shape)
    return np.clip(np.rint(video * 255), 0, 255).astype(np.uint8)


def _background(scene: str, size: int, margin: int, rng: np.random.Generator) -> Array:
    """The texture of a family between two colours, ``margin`` pixels wider than the frame on each
    side.
    """
    y, x = (np.mgrid[-margin : size + margin, -margin : size + margin] + 0.5) / size
    dark, light = np.sort(rng.uniform(0.1, 0.9, (2, 3)), axis=0)
    texture = 0.5 + 0.5 * SCENES[scene](x, y, rng)
    return dark + (light - dark) * texture[..., None]


@dataclass(frozen=True)
class _Object:
    """A thing of one colour ``[3]``; its centre, radius and angle are per frame ``[T]``."""

    shape: str
    x: Array
    y: Array
    radius: Array
    angle: Array
    colour: Array

    def drawn(self, frame: Array, i: int, x: Array, y: Array, dx: float, dy: float) -> Array:
        """Frame ``i``, whose pixels lie at x and y, with the thing in it, as a camera at (dx, dy)
        sees it.
        """
        inside = _coverage(
            self.shape,
            x - (self.x[i] - dx),
            y - (self.y[i] - dy),
            self.radius[i],
            self.angle[i],
            1.0 / len(frame),
        )
        return frame + inside[..., None] * (self.colour - frame)


def _distracting(nuisance: Nuisance, frames: int, rng: np.random.Generator) -> Iterator[_Object]:
    for d in nuisance.others(frames, SHAPES, rng):
        steady = np.ones(frames)
        yield _Object(d.shape, d.x, d.y, d.radius * steady, d.angle * steady, np.full(3, d.grey))


def _distinct_colour(background: Array, rng: np.random.Generator) -> Array:
    """A colour that can be told from the background's mean: the most distant of a few draws."""
    candidates = rng.uniform(0, 1, (4, 3))
    return candidates[np.abs(candidates - background).sum(axis=1).argmax()]


def _coverage(shape: str, dx: Array, dy: Array, radius: float, angle: float, pixel: float) -> Array:
    """How much of each pixel the object covers, in [0, 1], from a signed distance."""
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    if shape == "disc":
        distance = np.hypot(u, v) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(u), np.abs(v)) - 0.85 * radius
    elif shape == "triangle":
        distance = np.maximum(v - 0.6 * radius, 0.866 * np.abs(u) - 0.5 * v - 0.6 * radius)
    else:
        distance = np.minimum(
            np.maximum(np.abs(u) - radius, np.abs(v) - 0.35 * radius),
            np.maximum(np.abs(v) - radius, np.abs(u) - 0.35 * radius),
        )
    return np.clip(0.5 - distance / pixel, 0.0, 1.0)


@dataclass(frozen=True)
class _Job:
    path: Path
    law: str
    scene: str
    size: int
    frames: int
    seed: int
    nuisance: Nuisance


def _write(job: _Job) -> None:
    import av

    video = render_video(job.law, job.scene, job.size, job.frames, job.seed, job.nuisance)
    with av.open(str(job.path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=ENCODER)
        stream.width = stream.height = job.size
        stream.pix_fmt = "yuv420p"
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def motion(
    cache: Path,
    *,
    train: int = 600,
    test: int = 200,
    size: int = 64,
    frames: int = 40,
    seed: int = 0,
    camera: float = 0.0,
    shake: float = 0.0,
    placement: float = 0.0,
    distractors: int = 0,
    noise: float = 0.0,
    scene_class: float = 0.0,
    test_scenes: Literal["same", "none", "swapped"] = "same",
) -> list[Video]:
    """The motion set, made as H.264 MP4 files under ``cache`` unless it is there already.

    Args:
        cache: folder that holds made sets, one sub-folder per combination of the options.
        train, test: number of videos; classes are balanced, scenes drawn independently [videos].
        size: height and width, even [pixels].
        frames: of each video [frames].
        seed: of every draw.
        camera, shake, placement, distractors, noise: see Nuisance.
        scene_class: the share of training videos whose scene is that of their class; the others'
            is drawn. Two classes have each scene.
        test_scenes: the test videos' scenes: as the training videos', drawn independently, or, for
            the same share, that of another class.

    Raises:
        ValueError: an option is too small or too large, or the size is odd.
    """
    options = {"train": train, "test": test, "size": size, "frames": frames, "seed": seed}
    _check(options, scene_class)
    nuisance = Nuisance(camera, shake, placement, distractors, noise)
    scenes = {"scene_class": scene_class, "test_scenes": test_scenes} if scene_class else {}
    root = _root(cache, options, nuisance, scenes)
    jobs = {
        split: _jobs(root, split, count, scene_class, scenes_are, size, frames, seed, nuisance)
        for split, count, scenes_are in (("train", train, "same"), ("test", test, test_scenes))
    }
    if not root.is_dir():
        _make(root, [job for split in jobs.values() for job in split])

    return [video for split, made in jobs.items() for video in _videos(split, made)]


def _root(
    cache: Path, options: Mapping[str, int], nuisance: Nuisance, scenes: Mapping[str, Any]
) -> Path:
    """Where a made set lies."""
    # A set of the first options alone keeps the name that it always had.
    named = {"format": FORMAT, **options, **nuisance.options, **scenes}
    name = "motion-" + sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:12]
    return cache / name


def motion_is_made(cache: Path, options: Mapping[str, Any]) -> bool:
    """Whether the set of all of ``motion``'s options is there, so that listing makes nothing."""
    first = {name: options[name] for name in ("train", "test", "size", "frames", "seed")}
    nuisance = Nuisance(**{name: options[name] for name in Nuisance.__dataclass_fields__})
    scenes = {name: options[name] for name in ("scene_class", "test_scenes")}
    return _root(cache, first, nuisance, scenes if scenes["scene_class"] else {}).is_dir()


def _videos(split: str, jobs: list[_Job]) -> list[Video]:
    return [
        Video(
            path=job.path,
            video_id=f"{split}/{job.law}/{job.path.stem}",
            class_name=job.law,
            split=split,
            scene=job.scene,
        )
        for job in jobs
    ]


def _check(options: Mapping[str, int], scene_class: float) -> None:
    for name, minimum in MINIMUM.items():
        if options[name] < minimum:
            raise ValueError(f"{name}: {options[name]} is not valid; it must be at least {minimum}")
    if options["size"] % 2:
        raise ValueError(
            f"size: {options['size']} is not valid; H.264 with 4:2:0 colour needs an even size"
        )
    if not 0 <= scene_class <= 1:
        raise ValueError(f"scene_class: {scene_class} is not valid; it must lie in 0 to 1")


def _jobs(
    root: Path,
    split: str,
    count: int,
    scene_class: float,
    scenes_are: str,
    size: int,
    frames: int,
    seed: int,
    nuisance: Nuisance,
) -> list[_Job]:
    laws = list(LAWS)
    keys = key(Use.MOTION, seed, ("train", "test").index(split), np.arange(count))
    scenes = _scenes(keys, scene_class, scenes_are)
    return [
        _Job(
            root / split / laws[i % len(laws)] / f"{i:06d}.mp4",
            laws[i % len(laws)],
            scenes[i],
            size,
            frames,
            int(keys[i]),
            nuisance,
        )
        for i in range(count)
    ]


def _scenes(keys: NDArray[np.uint64], scene_class: float, scenes_are: str) -> list[str]:
    """The scene of each video, of which video i has class i modulo the number of classes."""
    names = list(SCENES)
    draws = uniform(keys, 2)
    scene = (draws[:, 0] * len(names)).astype(int)
    of_class = np.arange(len(keys)) % len(LAWS) % len(names)
    if scenes_are == "swapped":
        of_class = (of_class + 1) % len(names)
    share = 0.0 if scenes_are == "none" else scene_class
    return [names[i] for i in np.where(draws[:, 1] < share, of_class, scene)]


def _make(root: Path, jobs: list[_Job]) -> None:
    """Write into a staging folder, then rename: a half-made set is never taken for a whole one."""
    staging = root.with_name(f"{root.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    moved = [replace(job, path=staging / job.path.relative_to(root)) for job in jobs]
    for parent in {job.path.parent for job in moved}:
        parent.mkdir(parents=True)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(_write, moved, chunksize=8))
    try:
        staging.rename(root)
    except OSError:
        if not root.is_dir():
            raise
        shutil.rmtree(staging)  # another process made the same set first
