"""The nearest videos of a prepared set, and a sheet of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vididi.data.encode import Encoded
from vididi.data.shards import FrameReader, ShardSet
from vididi.errors import DataError
from vididi.evaluation.retrieval import unit_rows
from vididi.runs.readers import read_evaluation_result, read_feature_table
from vididi.terminal import one_line

PICTURES = 4  # frames of a video on the sheet, evenly spaced
HEIGHT, GAP, LINE = 96, 4, 16  # pixels
# Settings of an evaluation that decide its features, and those that old results do not say.
MEASURED_BY = ("frames", "stride", "size", "clips", "crop", "seed", "orders", "batch_norm")
BEFORE = {"orders": [0], "batch_norm": "running"}
INK, PAPER = (0, 0, 0), (255, 255, 255)


def nearest_rows(
    query: NDArray[np.float32], gallery: NDArray[np.float32], count: int, without: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The ``count`` rows of a gallery ``[V, D]`` nearest to a query ``[D]`` by cosine, of equal
    ones the first, and their similarities.

    Args:
        without: a row that is left out.
    """
    (unit,) = unit_rows("search", "query", query[None])
    similar = unit_rows("search", "gallery", gallery).astype(np.float64) @ unit.astype(np.float64)
    order = np.argsort(-similar, kind="stable")
    rows = order[order != without][:count] if without is not None else order[:count]
    return rows, similar[rows]


def kept_features(
    run: Path, described: Mapping[str, Any], shards: ShardSet
) -> NDArray[np.float32] | None:
    """The features ``[V, D]`` of all rows of a set that an evaluation of a run has kept, measured
    as the run's description says; None where there are none, or none that can be read.
    """
    spec = described["spec"]
    for folder in sorted((run / "evaluations").glob("*")):
        try:
            result = read_evaluation_result(folder) or {}
            said = {**BEFORE, **result.get("settings", {})}
            if any(said.get(name) != spec[name] for name in MEASURED_BY) or (
                result.get("data", {}).get("checksum") != shards.manifest.checksum
            ):
                continue
            table = read_feature_table(folder)
        except DataError:
            continue
        ids = None if table is None else table.column("video_id").to_pylist()
        if table is not None and ids == shards.column("video_id").tolist():
            return np.stack(table.column("features").to_numpy(zero_copy_only=False))
    return None


def neighbour_sheet(
    query: Encoded,
    name: str,
    shards: ShardSet,
    rows: NDArray[np.int64],
    similar: NDArray[np.float64],
) -> Image.Image:
    """The query and what was found, a line each: frames of it below its name."""
    reader = FrameReader(shards)
    lines = [(f"query: {one_line(name)}", _pictures([query.frames[n] for n in _evenly(query)]))]
    names, classes, counts = (
        shards.column(column) for column in ("video_id", "class_name", "frame_count")
    )
    for rank, (row, value) in enumerate(zip(rows.tolist(), similar.tolist(), strict=True), 1):
        frames = reader.frames(row, _spaced(int(counts[row])))
        caption = f"{rank}: {value:.4f}  {one_line(names[row])}  {one_line(classes[row])}"
        lines.append((caption, _pictures(frames)))
    return _drawn(lines)


def _evenly(video: Encoded) -> list[int]:
    return _spaced(len(video.frames)).tolist()


def _spaced(count: int) -> NDArray[np.int64]:
    return np.rint(np.linspace(0, count - 1, PICTURES)).astype(np.int64)


def _pictures(jpegs: Sequence[bytes | memoryview]) -> list[Image.Image]:
    pictures = [Image.fromarray(simplejpeg.decode_jpeg(jpeg)) for jpeg in jpegs]
    return [
        picture.resize((max(1, round(picture.width * HEIGHT / picture.height)), HEIGHT))
        for picture in pictures
    ]


def _drawn(lines: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    font = ImageFont.load_default()
    widths = [
        max(sum(picture.width + GAP for picture in pictures), int(font.getlength(caption)))
        for caption, pictures in lines
    ]
    step = LINE + HEIGHT + GAP
    sheet = Image.new("RGB", (max(widths) + 2 * GAP, step * len(lines) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (caption, pictures) in enumerate(lines):
        left, top = GAP, GAP + step * number
        draw.text((left, top), caption, INK, font)
        for picture in pictures:
            sheet.paste(picture, (left, top + LINE))
            left += picture.width + GAP
    return sheet
