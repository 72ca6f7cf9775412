"""Where encoders look in a clip: ``python analysis/saliency.py RUN RUN --video ID --out clip.png``.

ViDiDi Figures 4 and 10 to 14.

Saliency Tubes (Stergiou et al., ICIP 2019): the maps of the last stage, before they are averaged to
a feature, are summed over channels with a weight for each, enlarged to the clip in time and space,
and laid over the frames. There the weights are a classifier's row for one class; a pretrained
encoder has no classifier, so here they are the clip's own feature, or its class's mean feature, or
all equal (docs/fidelity.md).

Shapes: C channels, maps of T' x h x w positions, T frames of S x S pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from vididi.analysis.plots import extra, finished_in, run_main, titles
from vididi.analysis.reading import Run, print_to_stderr, read_run
from vididi.analysis.tsne import common_evaluation, read_features
from vididi.components import check_clip, read_run_config
from vididi.config import Config
from vididi.data.plan import EvaluationPlan, frame_counts
from vididi.data.shards import FrameReader, ShardSet
from vididi.data.storage import as_folder
from vididi.data.stream import Buffers, decode, fetch
from vididi.encoders import load_encoder
from vididi.errors import ConfigError, DamagedError
from vididi.prepared import ensure_prepared
from vididi.runs.mirror import local_path
from vididi.terminal import Parser, say
from vididi.viewer import find_video, to_pixels
from vididi.views.compose import square_view

# brighter is stronger, in print and for colour-blind readers too; the original's rainbow is neither
COLOURS = "inferno"
HEAT = 0.55  # share of the heat map's colour in a pixel; the rest is the frame
# Pixels of a frame; smaller ones are enlarged by a whole number, so that one can see them.
STRIP_CELL, FILM_CELL = 96, 224
# Pixels: between frames, of a line of text, and of the left margin at least; the text's size.
GAP, LINE, MIN_MARGIN, FONT_SIZE = 3, 15, 130, 12
MAX_PIXEL = 255
CENTRE = 0.5  # position of the square along a frame's longer side
# How exactly the mean of the last maps must be the feature.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-5

WEIGHTS = ("feature", "class", "equal")

Pixels = NDArray[np.uint8]
Weigh = Callable[[Tensor], Tensor]


def main(argv: list[str] | None = None) -> int:
    """Exit status as of ``plots.run_main``."""
    parser = Parser(
        description=(
            "Saliency tubes: where each encoder looks in the middle clip of a video, run below run"
            " (ViDiDi Figures 4, 10 to 14)."
        ),
        epilog=("example: vididi plot saliency runs/clips --video train/jump/a.mp4 --out clip.png"),
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=local_path,
        metavar="RUN",
        help="run folders, or folders (s3://...) of some, in this order",
    )
    parser.add_argument(
        "--shards",
        metavar="URI",
        help="a prepared data set, a folder or s3://... (default: the first run's own)",
    )
    parser.add_argument(
        "--video", required=True, metavar="ID", help="video_id of one of its videos"
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="feature",
        help="what a channel counts; class needs `vididi evaluate retrieval` (default: feature)",
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="of the clip: more have finer maps (default: those of the run's clips)",
    )
    parser.add_argument(
        "--fps", type=int, default=6, help="frames per second of an .mp4 (default: 6)"
    )
    parser.add_argument(
        "--out",
        type=_picture_or_film,
        action="append",
        metavar="FILE",
        help="clip.png, a strip, or clip.mp4; may be given twice (default: saliency.png)",
    )

    return run_main(_draw, parser, argv)


def _picture_or_film(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".png", ".mp4"):
        raise ConfigError(f"--out: {text} must end in .png or .mp4")
    return path


def _draw(arguments: argparse.Namespace) -> None:
    if arguments.fps < 1:
        raise ConfigError(f"--fps: {arguments.fps} is not valid; it must be at least 1")

    extra("matplotlib")  # first, as what follows may take a while
    runs = finished_in(arguments.runs)
    folders = [run.folder for run in runs]
    configs = [read_run_config(folder) for folder in folders]
    _check_same_clip(folders, configs)
    shards = (
        ShardSet.open(as_folder(arguments.shards))
        if arguments.shards
        else ensure_prepared(configs[0])
    )
    clip = read_clip(configs[0], shards, arguments.video, arguments.size)
    tubes = tubes_of(runs, clip, arguments.weights)

    for out in arguments.out or [Path("saliency.png")]:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix.lower() == ".png":
            draw_strip(clip, tubes).save(out)
        else:
            write_film(clip, tubes, out, arguments.fps)
        say(f"wrote {out}")


def _check_same_clip(folders: Sequence[Path], configs: Sequence[Config]) -> None:
    clip_settings = {
        (c.clip.size, c.evaluation.frames, c.evaluation.stride): folder
        for folder, c in zip(folders, configs, strict=True)
    }
    if len(clip_settings) > 1:
        listing = "; ".join(
            f"{folder.name}: {frames} frames of {size}, stride {stride}"
            for (size, frames, stride), folder in clip_settings.items()
        )
        raise ConfigError(f"the runs do not look at the same clips ({listing}); draw them apart")


# --- The clip -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """One clip as encoders see it, ``[1, 3, T, S, S]``.

    With where it is from, its class, and the numbers ``[T]`` of its frames.
    """

    about: str
    class_name: str
    view: Tensor
    numbers: NDArray[np.int64]

    @property
    def frames(self) -> Pixels:
        """``[T, S, S, 3]``"""
        return to_pixels(self.view[0].permute(1, 2, 3, 0).numpy(), 0, 1.0)


def read_clip(config: Config, shards: ShardSet, video_id: str, size: int | None = None) -> Clip:
    """The middle clip of a video, its centre square of ``size`` pixels or the run's own.

    Frames and stride are the evaluation's.

    Raises:
        ConfigError: there is no such video, or the size is too small for the backbone.
    """
    row = find_video(shards, video_id)
    e, size = config.evaluation, config.clip.size if size is None else size
    check_clip(config.backbone, e.frames, size, "evaluation.frames", "--size")
    request = EvaluationPlan(
        np.array([row]), frame_counts(shards), e.frames, e.stride, clips=1, batch_size=1
    )[0]
    batch = decode(fetch(FrameReader(shards), request), request, shards, Buffers())
    pixels = torch.from_numpy(batch.clips[:, 0]).permute(0, 4, 1, 2, 3)
    name = (
        shards.manifest.classes[int(shards.column("label")[row])]
        if shards.manifest.classes
        else "no class"
    )
    about = f"{video_id} ({shards.column('split')[row]}, {name})"
    return Clip(about, name, square_view(pixels, batch.sizes, size, CENTRE), request.frames[0, 0])


# --- Saliency -------------------------------------------------------------------------------------


def channel_weights(kind: str, run: Path, clip: Clip) -> Weigh:
    """What each channel counts, from the clip's feature ``[1, C]``.

    With ``feature`` a place counts the dot product of its activations with the clip's feature,
    whose mean over places is the feature's squared length: what it contributes to where the clip
    lies among others. With ``class`` it is the row that a
    classifier by class means would have: the mean feature of the class's training videos less the
    mean of all classes.

    Raises:
        ConfigError: the class weights need features that no evaluation of the run has kept, or of
            other classes.
    """
    if kind == "class":
        row = torch.from_numpy(class_row(run, clip.class_name))[None]
        return lambda feature: row
    return torch.ones_like if kind == "equal" else lambda feature: feature


def tubes_of(runs: Sequence[Run], clip: Clip, kind: str) -> dict[str, Tube]:
    """The clip's tube of each run by its title.

    Runs whose features are damaged are named and left out.

    Raises:
        ConfigError: none is left.
    """
    tubes = {}
    for run, name in zip(runs, titles(runs), strict=True):
        try:
            weigh = channel_weights(kind, run.folder, clip)
        except DamagedError as error:
            print_to_stderr([f"left out: {error}"])
        else:
            tubes[name] = saliency_tube(load_encoder(run.folder), clip.view, weigh)
    if not tubes:
        raise ConfigError(f"none of the {len(runs)} runs can be drawn")
    return tubes


def class_row(folder: Path, name: str) -> NDArray[np.float32]:
    """``[C]``, from the training videos whose features an evaluation of the run kept."""
    run = read_run(folder)
    evaluation = read_features(run, common_evaluation([run]))
    train = evaluation.splits == "train"
    means = {
        class_name: evaluation.features[train & (evaluation.classes == class_name)].mean(axis=0)
        for class_name in np.unique(evaluation.classes[train])
    }
    if name not in means:
        raise ConfigError(
            f"--weights class: the features of {folder.name} are of other classes than {name}"
        )
    return means[name] - np.mean(list(means.values()), axis=0)


@dataclass(frozen=True)
class Tube:
    """How much each place of a clip counts: ``[T, S, S]``, enlarged from maps of T' x h x w."""

    values: NDArray[np.float32]
    size: tuple[int, ...]

    @property
    def caption(self) -> str:
        """What the colours do not say: how fine it is, and how far the places differ."""
        mean = float(np.abs(self.values).mean()) or 1.0
        low, high = self.values.min() / mean, self.values.max() / mean
        return (
            f"maps of {' x '.join(map(str, self.size))}\n{low:.1f} to {high:.1f} x mean magnitude"
        )


@torch.inference_mode()
def saliency_tube(encoder: nn.Module, view: Tensor, weigh: Weigh) -> Tube:
    """How much each place of a clip ``[1, 3, T, S, S]`` counts to the encoder."""
    maps, feature = last_maps(encoder, view)
    tube = torch.einsum("bc,bcthw->bthw", weigh(feature), maps)
    enlarged = nn.functional.interpolate(
        tube[:, None], view.shape[2:], mode="trilinear", align_corners=False
    )
    return Tube(enlarged[0, 0].numpy(), tuple(tube.shape[1:]))


def last_maps(encoder: nn.Module, view: Tensor) -> tuple[Tensor, Tensor]:
    """The last stage's maps ``[1, C, T', h, w]`` and the feature ``[1, C]`` that is their mean.

    They are what the last submodule gives out that has five dimensions and more than one position;
    that the encoder's output is their mean is checked, so no backbone has to say which submodule it
    is.

    Raises:
        ConfigError: there is no such submodule.
    """
    maps: list[Tensor] = []

    def save_maps(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 5 and output.shape[2:].numel() > 1:
            maps[:] = [output]

    hooks = [
        module.register_forward_hook(save_maps)
        for module in encoder.modules()
        if module is not encoder
    ]
    try:
        feature = encoder.eval()(view)
    finally:
        for hook in hooks:
            hook.remove()
    if not maps or not _is_mean(feature, maps[0]):
        raise ConfigError(
            "backbone: its feature is not the mean of its last maps over several positions, so"
            " there is no place to point at"
        )
    return maps[0], feature


def _is_mean(feature: Tensor, maps: Tensor) -> bool:
    if maps.shape[:2] != feature.shape:
        return False
    mean = maps.mean(dim=(2, 3, 4))
    return torch.allclose(mean, feature, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE)


# --- The picture ----------------------------------------------------------------------------------


def overlay(frames: Pixels, tube: NDArray[np.float32]) -> Pixels:
    """The tube as colours over frames ``[T, S, S, 3]``, dark where low and bright where high."""
    low, high = float(tube.min()), float(tube.max())
    share = (tube - low) / ((high - low) or 1.0)
    heat = MAX_PIXEL * extra("matplotlib").colormaps[COLOURS](share)[..., :3]
    return np.rint((1 - HEAT) * frames + HEAT * heat).astype(np.uint8)


def draw_strip(clip: Clip, tubes: dict[str, Tube]) -> Image.Image:
    """A row of frames, then a row for each run."""
    return _sheet(clip, _rows(clip, tubes), slice(None), STRIP_CELL)


def write_film(clip: Clip, tubes: dict[str, Tube], out: Path, fps: int) -> None:
    """The strip's columns one after the other, as H.264."""
    import av

    rows = _rows(clip, tubes)
    columns = [
        np.asarray(_sheet(clip, rows, slice(t, t + 1), FILM_CELL)) for t in range(len(clip.numbers))
    ]
    # H.264 halves the colour's resolution.
    height, width = (size - size % 2 for size in columns[0].shape[:2])
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "16", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for column in columns:
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(
                        np.ascontiguousarray(column[:height, :width]), format="rgb24"
                    )
                )
            )
        container.mux(stream.encode())


def _rows(clip: Clip, tubes: dict[str, Tube]) -> dict[str, Pixels]:
    """Names and pixels ``[T, S, S, 3]`` of each row."""
    overlays = {
        f"{name}\n{tube.caption}": overlay(clip.frames, tube.values) for name, tube in tubes.items()
    }
    return {"frames": clip.frames, **overlays}


def _sheet(clip: Clip, rows: dict[str, Pixels], columns: slice, cell: int) -> Image.Image:
    """Columns ``columns`` of the strip, each frame at least ``cell`` pixels wide."""
    side = clip.view.shape[-1]
    side *= -(-cell // side)
    numbers, font = clip.numbers[columns], ImageFont.load_default(FONT_SIZE)
    margin = max(
        MIN_MARGIN,
        *(int(font.getlength(line)) + 3 * GAP for name in rows for line in name.split("\n")),
    )
    width = max(margin + len(numbers) * (side + GAP), int(font.getlength(clip.about)) + 2 * GAP)
    sheet = Image.new("RGB", (width, 2 * LINE + len(rows) * (side + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 0), clip.about, "black", font)

    for column, number in enumerate(numbers):
        draw.text((margin + column * (side + GAP), LINE), f"frame {number}", "black", font)

    for row, (name, pixels) in enumerate(rows.items()):
        top = 2 * LINE + row * (side + GAP)
        draw.multiline_text((GAP, top), name, "black", font, spacing=1)
        for column, frame in enumerate(pixels[columns]):
            sheet.paste(
                Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC),
                (margin + column * (side + GAP), top),
            )

    return sheet
