"""The pictures of a report, as data URIs: curves, confusions, t-SNE, saliency, and the sheet of
what the network sees. Each is drawn by the functions of the picture's own program.
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vididi.analysis.curves import (
    by_arm,
    curves_figure,
    find_curves,
    notes,
    panel_names,
    read_curves,
)
from vididi.analysis.plots import FORMATS, extra, legend_text, pyplot, runs_in, style, titles
from vididi.analysis.reading import Run
from vididi.analysis.report_classes import Confusion
from vididi.analysis.tsne import (
    RUN_END,
    evaluations_in_common,
    features_of,
    make_panel,
    tsne_figure,
)
from vididi.data.shards import ShardSet
from vididi.errors import ConfigError, VididiError
from vididi.runs.file_names import ENCODER
from vididi.runs.mirror import has, pull_file
from vididi.terminal import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

DPI = 110
TSNE_CLASSES = 5
COUNTED_CLASSES = 12  # of a matrix up to which each cell has its number
NAMED_CLASSES = 30  # and up to which rows and columns have names
CELL_INCHES, MATRIX_MARGIN = 0.36, 1.5


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture as ``data:`` URI, and what it shows in words."""

    title: str
    uri: str
    words: str


@dataclass(frozen=True)
class Drawn:
    """The pictures of a section, and a sentence for each that could not be drawn."""

    pictures: list[EmbeddedPicture]
    why_not: list[str]


def attempt(what: str, draw: Callable[[], list[EmbeddedPicture]]) -> Drawn:
    """What ``draw`` gives, or why it gives nothing; a report does without what is missing."""
    try:
        return Drawn(draw(), [])
    except ImportError as error:
        return Drawn([], [f"{what}: not drawn; {error.name} is not installed."])
    except (VididiError, ValueError, OSError) as error:
        return Drawn([], [f"{what}: not drawn; {one_line(str(error))}."])


def as_data_uri(content: bytes, kind: str) -> str:
    """``data:`` with the content in base64; an image that holds it runs no script."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def _figure_uri(figure: Any, kind: str) -> str:
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=DPI, metadata=FORMATS[f".{kind}"])
    pyplot().close(figure)
    return as_data_uri(out.getvalue(), {"svg": "svg+xml"}.get(kind, kind))


def _image_uri(image: Image) -> str:
    out = io.BytesIO()
    image.save(out, format="png")
    return as_data_uri(out.getvalue(), "png")


# --- Of run folders alone -------------------------------------------------------------------------


def curve_pictures(roots: Sequence[Path]) -> list[EmbeddedPicture]:
    """The pretraining curves of all runs, finished or not.

    Raises:
        ConfigError: no run has a whole epoch, or matplotlib is missing.
    """
    pyplot()
    arms = by_arm(read_curves(runs_in(roots, find_curves)))
    panels = panel_names(curve for curves in arms.values() for curve in curves)
    with style():
        uri = _figure_uri(curves_figure(panels, arms), "svg")
    words = "; ".join(
        [
            f"By epoch: {', '.join(panels)}; a line for each of {', '.join(arms)}: the mean of its"
            " runs, with a band from the lowest to the highest",
            *notes(arms),
        ]
    )
    return [EmbeddedPicture("Training curves", uri, f"{words}.")]


def confusion_pictures(confusions: Sequence[Confusion]) -> list[EmbeddedPicture]:
    """A picture of each arm's confusion matrix. Raises ConfigError where matplotlib is missing."""
    return [_confusion_picture(confusion) for confusion in confusions]


def _confusion_picture(confusion: Confusion) -> EmbeddedPicture:
    """A confusion matrix, each row in shares of its class."""
    counts = confusion.counts
    size = len(confusion.classes)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    side = CELL_INCHES * min(max(size, 4), NAMED_CLASSES) + MATRIX_MARGIN
    with style():
        figure, axis = pyplot().subplots(figsize=(side, side))
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.set(title=legend_text(confusion.arm), xlabel="taken for", ylabel="class")
        if size <= NAMED_CLASSES:
            names = [legend_text(name) for name in confusion.classes]
            axis.set_xticks(range(size), names, rotation=60, ha="right", rotation_mode="anchor")
            axis.set_yticks(range(size), names)
        if size <= COUNTED_CLASSES:
            for row in range(size):
                for column in range(size):
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    text = str(counts[row, column])
                    axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
        uri = _figure_uri(figure, "png")
    frequent = "; ".join(confusion.frequent) or "none"
    return EmbeddedPicture(confusion.arm, uri, f"Most frequent mistakes: {frequent}.")


def tsne_pictures(runs: Sequence[Run], evaluation: str | None) -> list[EmbeddedPicture]:
    """t-SNE of the test videos of the classes that each run retrieves best.

    Raises:
        ConfigError: the runs kept no features in common, or an extra is missing.
    """
    extra("sklearn.manifold")
    names = [evaluation] if evaluation else evaluations_in_common(runs)
    name = names[0]
    features = features_of(runs, name)
    drawn = [run for run in runs if run.folder in features]
    fewest = min(len(set(part.query_labels.tolist())) for part in features.values())
    count = min(TSNE_CLASSES, fewest)
    if count < 2:
        raise ConfigError("the test videos have fewer than 2 classes")
    panels = [
        make_panel(title, features[run.folder], count, "test", seed=0)
        for run, title in zip(drawn, titles(drawn), strict=True)
    ]
    with style():
        uri = _figure_uri(tsne_figure(panels), "png")
    words = "; ".join(f"{p.title}: silhouette {p.silhouette:.3f}" for p in panels)
    which = "kept at the end of the runs" if name == RUN_END else f"of evaluation {name}"
    others = f" --evaluation draws {' or '.join(names[1:])} instead." if names[1:] else ""
    return [
        EmbeddedPicture(
            "t-SNE of test features",
            uri,
            f"The {count} classes that each retrieves best, by the features {which}."
            f" {words}.{others}",
        )
    ]


# --- Of encoders and videos -----------------------------------------------------------------------


def saliency_pictures(
    runs: Sequence[Run], shards: ShardSet | None, missing: str, video: str | None
) -> list[EmbeddedPicture]:
    """Where each encoder looks in a test video.

    Args:
        missing: why there are no ``shards``. video: its id; None: the first test video.

    Raises:
        ConfigError: the videos or encoders are not there.
    """
    if shards is None:
        raise ConfigError(missing)
    from vididi.analysis.saliency import draw_strip, read_clip, tubes_of
    from vididi.components import read_run_config

    with_encoder = [run for run in runs if _has_encoder(run)]
    if not with_encoder:
        raise ConfigError(f"the run folders have no {ENCODER}")
    configs = [read_run_config(run.folder) for run in with_encoder]
    alike = [(c.clip.size, c.evaluation.frames, c.evaluation.stride) for c in configs]
    drawn = [run for run, how in zip(with_encoder, alike, strict=True) if how == alike[0]]
    clip = read_clip(configs[0], shards, video or _first_video(shards, "test"))
    strip = draw_strip(clip, tubes_of(drawn, clip, "feature"))
    words = (
        f"Video {one_line(clip.about)}: a row for each of {', '.join(titles(drawn))}, bright where"
        " a place looks to the encoder like the clip as a whole."
    )
    return [EmbeddedPicture("Saliency", _image_uri(strip), words)]


def sheet_pictures(
    runs: Sequence[Run], shards: ShardSet | None, missing: str, video: str | None
) -> list[EmbeddedPicture]:
    """What the network sees of a video in the first epoch of a run: both views, by order.

    Arguments and errors as saliency_pictures.
    """
    if shards is None:
        raise ConfigError(missing)
    from vididi.components import read_run_config
    from vididi.viewer import contact_sheet

    config = read_run_config(runs[0].folder)
    video_id = video or _first_video(shards, "train")
    image = contact_sheet(config, shards, video_id, 0)
    words = (
        f"Video {one_line(video_id)} in the first epoch of {runs[0].folder.name}: the two views,"
        " each as frames and as the differences that the run's schedule may take."
    )
    return [EmbeddedPicture("What the network sees", _image_uri(image), words)]


def _has_encoder(run: Run) -> bool:
    return has(run.folder / ENCODER) and pull_file(run.folder / ENCODER)


def _first_video(shards: ShardSet, split: str) -> str:
    rows: Any = shards.rows(split)
    if not len(rows):
        raise ConfigError(f"{shards.root}: has no {split} videos")
    return str(shards.column("video_id")[rows[0]])


def all_pictures(
    runs: Sequence[Run],
    data: Mapping[str, tuple[ShardSet | None, str]],
    video: str | None,
    evaluation: str | None,
) -> Drawn:
    """t-SNE, saliency and the sheet of the runs, each with its reason where it is missing.

    Args:
        data: by checksum, the prepared set or why it is missing.
    """
    shards, missing = data[runs[0].result["data_checksum"]]
    same = [run for run in runs if run.result["data_checksum"] == runs[0].result["data_checksum"]]
    parts = [
        attempt("t-SNE", lambda: tsne_pictures(runs, evaluation)),
        attempt("Saliency", lambda: saliency_pictures(same, shards, missing, video)),
        attempt("Sheet", lambda: sheet_pictures(same, shards, missing, video)),
    ]
    return Drawn(
        [picture for part in parts for picture in part.pictures],
        [line for part in parts for line in part.why_not],
    )
