"""A small set in AVA's layout: films of two moving squares, "persons", cut anew every second, the
lists of AVA, and the prepared set.

What a person does is its motion (across, up and down, still), whether it blinks, and whether it is
red. None of it changes when left and right are exchanged. Where it stands, its size, its shade and
the background say nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vididi.data.encode import Settings
from vididi.data.prepare import prepare
from vididi.data.shards import ShardSet
from vididi.data.sources import SOURCES

RATE = 8  # frames a second; a scene's first frame is half a second before its key frame
HEIGHT, WIDTH = 64, 96
ACROSS, UP_AND_DOWN, STILL, BLINK, RED, NEVER, OTHER = range(1, 8)
NAMES = {
    ACROSS: "across",
    UP_AND_DOWN: "up and down",
    STILL: "still",
    BLINK: "blink",
    RED: "be red",
    NEVER: "never",
    OTHER: "stand there",
}
EVALUATED = {number: NAMES[number] for number in (ACROSS, UP_AND_DOWN, STILL, BLINK, RED, NEVER)}
FILMS = {"train": 4, "val": 2}
SECONDS = range(902, 932)

Person = tuple[tuple[float, float, float, float], list[int]]  # corners in the key frame, actions


def made_up_ava(
    folder: Path,
    write_video: Callable[..., Path],
    films: dict[str, int] = FILMS,
    seconds: range = SECONDS,
) -> ShardSet:
    """Films, lists and shards below ``folder``; a row for every film and second, two persons in
    each.
    """
    splits = folder / "lists"
    splits.mkdir(parents=True)
    (splits / "ava_action_list_v2.2.pbtxt").write_text(items(NAMES))
    (splits / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text(items(EVALUATED))
    for split, count in films.items():
        lines = []
        for number in range(count):
            name = f"{split}{number}"
            rng = np.random.default_rng([number, len(split)])
            frames = [
                np.full((2 * RATE - RATE // 2, HEIGHT, WIDTH, 3), 90, np.uint8)
            ]  # up to half a second before second 902
            for second in seconds:
                scene, persons = draw_scene(rng)
                frames.append(scene)
                lines += [
                    f"{name},{second:04d},{','.join(f'{c:.3f}' for c in corners)},{action},{place}"
                    for place, (corners, does) in enumerate(persons)
                    for action in does
                ]
            write_video(
                folder / "films" / f"{name}.mp4", np.concatenate([*frames, frames[0]]), rate=RATE
            )
        (splits / f"ava_{split}_v2.2.csv").write_text("".join(f"{line}\n" for line in lines))
        (splits / f"ava_{split}_excluded_timestamps_v2.2.csv").write_text("")
    options = {
        "videos": str(folder / "films"),
        "splits": str(splits),
        "offset": 900.0,
        "window": RATE + 1,
        "step": 1,
    }
    videos = SOURCES["ava"](folder, **{**options, "videos": folder / "films", "splits": splits})
    return prepare(
        videos,
        folder / "shards",
        Settings(short_side=HEIGHT),
        {"name": "ava", **options},
        workers=1,
    )


def items(names: dict[int, str]) -> str:
    return "".join(
        f'item {{\n  name: "{name}"\n  id: {number}\n}}\n' for number, name in names.items()
    )


def draw_scene(rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[Person]]:
    """A second of film ``[RATE, HEIGHT, WIDTH, 3]`` with a person in either half, and the persons
    at its middle, the key frame.
    """
    texture = rng.integers(60, 130, (HEIGHT // 8, WIDTH // 8, 1)).repeat(3, axis=2)
    frames = np.kron(texture, np.ones((8, 8, 1)))[None].repeat(RATE, axis=0).astype(np.uint8)
    persons = []
    for left in (0, WIDTH // 2):
        motion, blinks, red = (
            rng.choice([ACROSS, UP_AND_DOWN, STILL]),
            rng.random() < 0.4,
            rng.random() < 0.4,
        )
        size, speed = int(rng.integers(16, 23)), 2.0 * rng.choice([-1, 1])
        x, y = left + rng.uniform(8, WIDTH // 2 - 8 - size), rng.uniform(8, HEIGHT - 8 - size)
        shade = rng.integers(170, 255)
        colour = (shade, 30, 30) if red else (shade, shade, shade)
        for t in range(RATE):
            moved = speed * (t - RATE // 2)
            at_x, at_y = (
                round(x + moved * (motion == ACROSS)),
                round(y + moved * (motion == UP_AND_DOWN)),
            )
            if not (blinks and t % 4 >= 2):
                frames[t, max(0, at_y) : at_y + size, max(0, at_x) : at_x + size] = colour
        corners = (
            round(x) / WIDTH,
            round(y) / HEIGHT,
            (round(x) + size) / WIDTH,
            (round(y) + size) / HEIGHT,
        )
        persons.append(
            (corners, [int(motion), *([BLINK] if blinks else []), *([RED] if red else []), OTHER])
        )
    return frames, persons
