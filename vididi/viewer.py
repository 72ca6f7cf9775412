"""A contact sheet of what the network sees of one video: both views of a step, as frames, velocity
and acceleration.

The views come from the plan and the functions that training uses, so the sheet shows exactly the
clips and the augmentation that the video gets in one epoch of one seed.

Shapes: C = 3, T frames of a view, S the size of a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vididi.components import make_sampling, resolve
from vididi.config import Config, build_config
from vididi.data.plan import PretrainPlan, frame_counts
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.stream import Batch, Buffers, decode, fetch
from vididi.errors import ConfigError, DataError
from vididi.plans import make_fit
from vididi.training.loop import view_of
from vididi.views.operations import MEAN, STD

ORDERS = ("frames", "velocity", "acceleration")
CELL = 64  # pixels; smaller frames are enlarged by a whole number, so that one can see them
GAP = 2
BETWEEN = 12  # between the two views
MARGIN = 150  # for the rows' names
LINE = 16  # of the caption
INK, PAPER = (0, 0, 0), (255, 255, 255)

CENTRE, DEVIATION = np.array(MEAN, np.float32), np.array(STD, np.float32)

Pixels = NDArray[np.uint8]


def view_config(values: dict[str, Any], where: str) -> Config:
    """A resolved configuration to make views by. No network is used: the smallest stands in, which
    takes clips of any size.
    """
    return resolve(build_config({**values, "backbone": {"name": "r3d_tiny", "width": 1}}, where))


def find_video(shards: ShardSet, video_id: str) -> int:
    """The index row of a video.

    Raises:
        ConfigError: there is no such video; it names near ones.
    """
    names = shards.column("video_id").tolist()
    if video_id in names:
        return names.index(video_id)
    near = [name for name in names if video_id and video_id in name][:5] or get_close_matches(
        video_id, names, n=5, cutoff=0.5
    )
    hint = f"near ones: {', '.join(near)}" if near else f"the first of them: {names[0]}"
    raise ConfigError(
        f"--video: {video_id!r} is not one of the {len(names)} videos in {shards.root}; {hint}"
    )


def clips_of(config: Config, shards: ShardSet, row: int, epoch: int) -> tuple[PretrainPlan, Batch]:
    """The clips that the video at index ``row`` gets in ``epoch``, and the plan of this video alone
    that placed them.

    Raises:
        DataError: the sampling cannot place its clips in so short a video.
    """
    counts, clip = frame_counts(shards), config.clip
    sampling = make_sampling(config)
    assert clip.per_video is not None  # resolve fills it in
    if not sampling.possible(counts[[row]], clip.per_video, clip.length, clip.stride)[0]:
        raise DataError(
            f"{shards.column('video_id')[row]}: its {counts[row]} frames are too few for"
            f" {clip.per_video} clips of {clip.length} frames, one of every {clip.stride}, under"
            f" sampling {config.sampling.name!r}; training leaves it out"
        )
    # What a clip draws follows from (seed, epoch, video, clip), not from the batch, so a plan of
    # one video draws the same.
    plan = PretrainPlan(
        np.array([row]),
        counts,
        clip.length,
        clip.stride,
        1,
        epoch + 1,
        config.training.seed,
        clips=clip.per_video,
        sampling=sampling,
    )
    request = plan[epoch]
    return plan, decode(fetch(FrameReader(shards), request), request, shards, Buffers())


def views_of(
    config: Config, plan: PretrainPlan, batch: Batch, epoch: int
) -> list[list[NDArray[np.float32]]]:
    """Per view (clip 0, clip 1) and order, the values that the network gets, ``[T, S, S, C]``.

    Orders for which the configuration samples too few frames are left out.
    """
    clip = config.clip
    highest = clip.extra_frames if clip.view_length == "constant" else clip.frames - 1
    orders = range(min(len(ORDERS), highest + 1))
    job = make_fit(config, plan)

    def values(which: int, order: int) -> NDArray[np.float32]:
        return (
            view_of(batch, which, order, epoch, job, torch.device("cpu"))[0]
            .permute(1, 2, 3, 0)
            .numpy()
        )

    return [[values(which, order) for order in orders] for which in (0, 1)]


def limit_of(views: list[list[NDArray[np.float32]]], order: int) -> float:
    """The largest difference of an order in both views, as a share of the range from black to
    white.
    """
    return float(max(np.abs(view[order] * DEVIATION).max() for view in views))


def to_pixels(values: NDArray[np.float32], order: int, limit: float) -> Pixels:
    """Normalised values as colours: frames as they were, differences about mid-grey with -limit
    black and +limit white.
    """
    shades = values * DEVIATION
    shades = shades + CENTRE if order == 0 else 0.5 + 0.5 * shades / (limit or 1.0)
    return np.rint(255 * shades.clip(0, 1)).astype(np.uint8)


@dataclass(frozen=True)
class Layout:
    """Where the cells of a sheet lie: the views one below the other, in each a row per order and a
    column per frame.
    """

    frames: int
    orders: int
    size: int
    lines: int  # of the caption

    @property
    def enlarged(self) -> int:
        """How many pixels of the sheet a pixel of a view is wide; rounded up."""
        return -(-CELL // self.size)

    @property
    def cell(self) -> int:
        """Height and width of a cell in pixels."""
        return self.size * self.enlarged

    @property
    def width(self) -> int:
        """Of the sheet, in pixels."""
        return MARGIN + self.frames * (self.cell + GAP)

    @property
    def height(self) -> int:
        """Of the sheet, in pixels."""
        return self.corner(1, self.orders, 0)[1]

    def corner(self, view: int, order: int, frame: int) -> tuple[int, int]:
        """Left and top of a cell."""
        row = view * self.orders + order
        return (
            MARGIN + frame * (self.cell + GAP),
            self.lines * LINE + GAP + row * (self.cell + GAP) + view * BETWEEN,
        )


def draw_sheet(
    views: list[list[NDArray[np.float32]]], caption: Sequence[str], names: Sequence[str]
) -> Image.Image:
    """The sheet of ``views`` (see views_of), with lines above it and the name of each view."""
    frames, size = views[0][0].shape[:2]
    layout = Layout(frames, len(views[0]), size, len(caption))
    font = ImageFont.load_default(11)
    text_width = max(int(font.getlength(line)) for line in caption) + 2 * GAP
    sheet = Image.new("RGB", (max(layout.width, text_width), layout.height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(caption):
        draw.text((GAP, number * LINE), line, INK, font)
    for which, (view, name) in enumerate(zip(views, names, strict=True)):
        for order, values in enumerate(view):
            limit = limit_of(views, order)
            scale = "" if order == 0 else f"\nblack to white:\n-{limit:.3f} to +{limit:.3f}"
            draw.multiline_text(
                (GAP, layout.corner(which, order, 0)[1]),
                f"{name}\n{ORDERS[order]}{scale}",
                INK,
                font,
                spacing=1,
            )
            for frame, pixels in enumerate(to_pixels(values, order, limit)):
                cell = Image.fromarray(pixels).resize(
                    (layout.cell, layout.cell), Image.Resampling.NEAREST
                )
                sheet.paste(cell, layout.corner(which, order, frame))
    return sheet


def contact_sheet(config: Config, shards: ShardSet, video_id: str, epoch: int) -> Image.Image:
    """The sheet of one video in ``epoch`` (from 0) of a resolved configuration.

    Raises:
        ConfigError: there is no such video.
        DataError: it is too short for the configuration's sampling.
    """
    row = find_video(shards, video_id)
    plan, batch = clips_of(config, shards, row, epoch)
    views = views_of(config, plan, batch, epoch)
    clip, count = config.clip, int(plan.frame_count[row])
    caption = [
        (
            f"{video_id} ({shards.column('split')[row]}, {count} frames): seed"
            f" {config.training.seed}, epoch {epoch}"
        ),
        (
            f"{clip.frames} frames, stride {clip.stride}; augmentation {config.augment.name};"
            " differences in shares of black to white"
        ),
    ]
    return draw_sheet(
        views, caption, [f"view {which}, from frame {batch.starts[0, which]}" for which in (0, 1)]
    )
