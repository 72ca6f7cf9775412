"""Action detection: what each person in a key frame does (ViDiDi E.6, CVRL 4.1).

The boxes are those of the annotation in training; in testing they are these, or those of a file.
Shapes: B clips, T frames, D features, N boxes, A actions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyarrow import csv
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from vididi.backbones import Backbone
from vididi.data.boxes import KeyFrames
from vididi.data.stream import Batch
from vididi.draws import Use, key, uniform
from vididi.evaluation.ava_files import Proposals
from vididi.evaluation.ava_map import AvaRows
from vididi.evaluation.training_step import check_loss, training_step
from vididi.finite import check_finite
from vididi.heartbeat import beat, rest
from vididi.interrupts import check
from vididi.optim import steps_with_warmup
from vididi.views import whole_view
from vididi.words import counted

CELLS = 7  # a box is pooled to this many cells along either side, as SlowFast has it
SHOWN = 5  # films or key frames that a note names


def pool_boxes(features: Tensor, boxes: Tensor, owner: Tensor) -> Tensor:
    """One feature of each box (ViDiDi E.6).

    3D RoIAlign, the mean over time, the maximum over space.

    The 3D RoIAlign cuts the same box out of every time's features. It is linear in them, so the
    mean over time comes first, which gives the same for less.

    Args:
        features: ``[B, D, T, h, w]``.
        boxes: ``[N, 4]``, x1, y1, x2, y2 as shares of the width and height that the features cover.
        owner: ``[N]``, to which of the B clips each box belongs.

    Returns:
        ``[N, D]``.
    """
    from torchvision.ops import roi_align

    means = features.mean(dim=2)
    height, width = means.shape[-2:]
    corners = boxes * boxes.new_tensor([width, height, width, height])
    cells = roi_align(
        means, torch.cat([owner[:, None].to(boxes), corners], dim=1), CELLS, aligned=True
    )
    return cells.amax(dim=(2, 3))


class Detector(nn.Module):
    """An encoder, and a classifier of what it gives inside a box: dropout, then a linear layer.

    Args:
        width: D, features of the encoder.
        actions: A.
    """

    def __init__(self, encoder: Backbone, width: int, actions: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        linear = nn.Linear(width, actions)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        self.head = nn.Sequential(nn.Dropout(dropout), linear)

    def forward(self, clips: Tensor, boxes: Tensor, owner: Tensor) -> Tensor:
        """Clips ``[B, 3, T, H, W]``, boxes as in pool_boxes -> logits ``[N, A]``."""
        return self.head(pool_boxes(self.encoder.feature_map(clips).float(), boxes, owner))


@dataclass(frozen=True)
class Inputs:
    """What a detector sees of a batch.

    ``numbers`` ``[N]`` say which boxes of the data set these are.
    """

    clips: Tensor
    boxes: Tensor
    owner: Tensor
    numbers: NDArray[np.int64]


def make_inputs(
    batch: Batch,
    key_frames: KeyFrames,
    size: int,
    device: torch.device,
    flip: NDArray[np.bool_] | None = None,
) -> Inputs:
    """Whole frames of the batch's clips, and the boxes of their key frames.

    Args:
        size: short side in pixels.
        flip: ``[B]``, mirror a clip and its boxes.
    """
    pixels = (
        torch.from_numpy(batch.clips[:, 0]).to(device, non_blocking=True).permute(0, 4, 1, 2, 3)
    )
    clips, shares = whole_view(pixels, batch.sizes, size, flip)

    numbers, owner = key_frames.boxes_of(batch.rows)
    corners = key_frames.corners[numbers]
    if flip is not None:
        corners = np.where(flip[owner, None], mirrored(corners), corners)
    boxes = corners * shares[owner][:, [1, 0, 1, 0]]
    return Inputs(
        clips,
        torch.from_numpy(boxes).float().to(device),
        torch.from_numpy(owner).to(device),
        numbers,
    )


def mirrored(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes ``[N, 4]`` where they are in a frame of which left and right are exchanged."""
    x1, y1, x2, y2 = corners.T
    return np.stack([1 - x2, y1, 1 - x1, y2], axis=1)


# --- Training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DetectorFit:
    """How a detector is trained; plain values."""

    steps_per_epoch: int
    warmup_epochs: int
    rate_steps: tuple[int, ...]  # epochs after which the rate falls to rate_factor of what it was
    rate_factor: float
    size: int
    flip: float
    seed: int
    precision: str

    def rate(self, step: int) -> float:
        """The factor on the base learning rate at ``step``, from 0."""
        each = self.steps_per_epoch
        return steps_with_warmup(
            step,
            [epoch * each for epoch in self.rate_steps],
            self.rate_factor,
            self.warmup_epochs * each,
        )

    def flipped(self, epoch: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which clips of an epoch are mirrored, ``[B]``."""
        return uniform(key(Use.AUGMENT, self.seed, epoch, rows), 1)[:, 0] < self.flip


def train_epoch(
    model: Detector,
    optimiser: Optimizer,
    batches: Iterator[Batch],
    key_frames: KeyFrames,
    fit: DetectorFit,
    epoch: int,
    on_step: Callable[[Tensor], None] = lambda so_far: None,
    so_far: Tensor | None = None,
) -> dict[str, float | int]:
    """Train for one epoch, counted from 0, on the next batches.

    The loss is the mean over boxes and actions.

    Args:
        on_step: called after every step but the last with the losses of the epoch's steps.
        so_far: these, of an epoch that was begun before; the batches are those after them.

    Returns:
        the epoch's metrics: epoch and step (from 1), loss, lr.

    Raises:
        TrainingError: the loss is not finite.
    """
    model.train()
    device = next(model.parameters()).device
    losses = [] if so_far is None else list(so_far.to(device))
    first, last = epoch * fit.steps_per_epoch + len(losses), (epoch + 1) * fit.steps_per_epoch
    for step in range(first, last):
        batch = next(batches)
        inputs = make_inputs(batch, key_frames, fit.size, device, fit.flipped(epoch, batch.rows))
        targets = torch.from_numpy(key_frames.targets[inputs.numbers]).to(device).float()
        seed = int(key(Use.CLASSIFIER, fit.seed, step)) >> 1
        loss = partial(F.binary_cross_entropy_with_logits, target=targets)
        model_inputs = (inputs.clips, inputs.boxes, inputs.owner)
        rate, _, value = training_step(
            model, optimiser, model_inputs, loss, fit.rate(step), seed, fit.precision
        )
        losses.append(value)
        beat()
        if step + 1 < last:
            on_step(torch.stack(losses))

    rest()
    mean = float(torch.stack(losses).mean())
    check_loss(mean, epoch + 1)
    return {"epoch": epoch + 1, "step": (epoch + 1) * fit.steps_per_epoch, "loss": mean, "lr": rate}


# --- Proposed boxes -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Proposed:
    """Key frames with proposed boxes instead of the annotation's, to test in.

    Args:
        key_frames: the data set's, of which no action of a box is known and only tested rows have
            boxes.
        counts: lines of the file, by what became of them, and key frames.
        notes: what was left out, by name.
    """

    key_frames: KeyFrames
    counts: dict[str, int]
    notes: list[str]


def propose(key_frames: KeyFrames, rows: NDArray[np.int64], proposals: Proposals) -> Proposed:
    """Give proposed boxes to the tested ``rows`` ``[R]``, and leave out those of others."""
    row_of = {(key_frames.film[row], float(key_frames.second[row])): row for row in rows}
    places = list(zip(proposals.films, proposals.second.tolist(), strict=True))
    row = np.array([row_of.get(place, -1) for place in places], dtype=np.int64)
    tested = np.flatnonzero(row >= 0)
    tested = tested[np.argsort(row[tested], kind="stable")]
    row = row[tested]

    known = set(key_frames.film.tolist())
    films = Counter(film for film, _ in places if film not in known)
    seconds = Counter(
        f"{film}/{second:04g}"
        for film, second in places
        if film in known and (film, second) not in row_of
    )
    without = len(rows) - len(np.unique(row))
    counts = {
        "lines": proposals.lines,
        "below_score": proposals.below_score,
        "without_area": len(proposals.without_area),
        "repeated": proposals.repeated,
        "of_other_films": films.total(),
        "of_other_key_frames": seconds.total(),
        "tested": len(tested),
        "key_frames": len(rows),
        "key_frames_without": without,
    }
    several = replace(
        key_frames,
        first=np.searchsorted(row, np.arange(len(key_frames.film) + 1)),
        corners=proposals.corners[tested],
        person=np.zeros(len(tested), dtype=np.int64),
        targets=np.zeros((len(tested), len(key_frames.actions)), dtype=bool),
    )
    return Proposed(several, counts, _notes_of(counts, proposals.without_area, films, seconds))


def _notes_of(
    counts: dict[str, int], without_area: tuple[int, ...], films: Counter, seconds: Counter
) -> list[str]:
    lines = [f"line {number}" for number in without_area]
    left_out = (
        (len(without_area), "without an area", lines),
        (films.total(), "of films that the data set does not have", list(films)),
        (seconds.total(), "of key frames that are not tested", list(seconds)),
    )
    notes = [
        f"left out {counted(count, 'proposed box', 'proposed boxes')} {what}:"
        f" {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
        for count, what, names in left_out
        if count
    ]
    if counts["key_frames_without"]:
        notes.append(
            f"{counts['key_frames_without']:,} of {counts['key_frames']:,} test key frames have no"
            " proposed box, so nothing is predicted there"
        )
    return notes


# --- Testing --------------------------------------------------------------------------------------


@torch.inference_mode()
def predict_boxes(
    model: Detector,
    batches: Iterator[Batch],
    count: int,
    key_frames: KeyFrames,
    size: int,
    device: torch.device,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The probability of each action in each box of the next ``count`` batches.

    Returns:
        numbers of the boxes ``[N]``, and scores ``[N, A]``; a row's boxes follow one another in the
        order of ``key_frames``.

    Raises:
        NotFiniteError: a score is not finite.
    """
    model.eval()
    rows, scores = [], []
    for _ in range(count):
        check()
        batch = next(batches)
        inputs = make_inputs(batch, key_frames, size, device)
        logits = model(inputs.clips, inputs.boxes, inputs.owner).float()
        scores.append(logits.sigmoid().where(logits.isfinite(), torch.nan).cpu().numpy())
        rows.append(inputs.numbers)
        beat()
    rest()
    all_scores = np.concatenate(scores)
    check_finite("detection", scores=all_scores)
    return np.concatenate(rows), all_scores


def true_rows(key_frames: KeyFrames, boxes: NDArray[np.int64]) -> AvaRows:
    """The annotated, evaluated actions of ``boxes`` ``[N]``, as ``ava_map`` takes them."""
    box, column = np.nonzero(key_frames.targets[boxes])
    return _ava_rows(key_frames, boxes[box], column, key_frames.person[boxes[box]])


def predicted_rows(
    key_frames: KeyFrames, boxes: NDArray[np.int64], scores: NDArray[np.float32]
) -> AvaRows:
    """Scores ``[N, A]`` of ``boxes`` ``[N]``, as ``ava_map`` takes them."""
    box, column = (index.ravel() for index in np.indices(scores.shape))
    return _ava_rows(key_frames, boxes[box], column, scores.ravel())


def _ava_rows(
    key_frames: KeyFrames, boxes: NDArray[np.int64], column: NDArray[np.int64], value: NDArray
) -> AvaRows:
    row = np.searchsorted(key_frames.first, boxes, side="right") - 1
    films, film = np.unique(key_frames.film.astype(str), return_inverse=True)
    ids = np.array(list(key_frames.actions), dtype=np.int64)
    return AvaRows(
        tuple(films.tolist()),
        film[row],
        key_frames.second[row].astype(np.float64),
        key_frames.corners[boxes],
        ids[column],
        value.astype(np.float64),
    )


def write_predictions(path: Path, rows: AvaRows) -> None:
    """Write predictions in AVA's layout, which ``vididi evaluate ava-map`` reads.

    Numbers have as many digits as tell them from any other.
    """
    names = ("x1", "y1", "x2", "y2")
    table = pa.table(
        {
            "video_id": (
                pa.DictionaryArray.from_arrays(rows.film.astype(np.int32), list(rows.films)).cast(
                    pa.string()
                )
            ),
            # Seconds of a prepared set are whole.
            "second": np.char.zfill(rows.second.astype(np.int64).astype(str), 4),
            **{name: rows.corners[:, column] for column, name in enumerate(names)},
            "action_id": rows.action,
            "score": rows.value.astype(np.float32),
        }
    )

    # Arrow quotes all names or none.
    odd = any(character in film for film in rows.films for character in ',"\r\n')
    csv.write_csv(
        table,
        path,
        csv.WriteOptions(include_header=False, quoting_style="needed" if odd else "none"),
    )
