"""Detection in given boxes: what a box pools, where it lies after resizing and mirroring, and files
of predictions.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vididi.backbones import BACKBONES, Backbone
from vididi.data.boxes import KeyFrames
from vididi.data.stream import Batch
from vididi.errors import NotFiniteError, TrainingError
from vididi.evaluation import ava_map
from vididi.evaluation.ava_files import Proposals, read_predictions
from vididi.evaluation.detection import (
    Detector,
    DetectorFit,
    make_inputs,
    mirrored,
    pool_boxes,
    predict_boxes,
    predicted_rows,
    propose,
    train_epoch,
    true_rows,
    write_predictions,
)

CPU = torch.device("cpu")
LEFT, RIGHT, ALL = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)


class Pixels(Backbone):
    """The pixels themselves as features: D = 3."""

    def feature_map(self, clips: Tensor) -> Tensor:
        return clips


def make_key_frames(
    corners: list[tuple[float, float, float, float]],
    first: list[int],
    targets: NDArray | None = None,
) -> KeyFrames:
    """Boxes of ``len(first) - 1`` rows; actions 12 and 80."""
    rows, boxes = len(first) - 1, len(corners)
    return KeyFrames(
        {12: "stand", 80: "watch"},
        np.array([f"film {row // 2}" for row in range(rows)], dtype=object),
        902 + np.arange(rows),
        np.full(rows, 1),
        np.array(first),
        np.array(corners, dtype=np.float64).reshape(-1, 4),
        np.arange(boxes),
        np.zeros((boxes, 2), dtype=bool) if targets is None else targets,
    )


def make_batch(sizes: list[tuple[int, int]], frames: int = 2) -> Batch:
    """Clips whose red rises from left to right and whose green rises from top to bottom, padded as
    decoded ones are.
    """
    height, width = np.max(sizes, axis=0)
    clips = np.zeros((len(sizes), 1, frames, height, width, 3), np.uint8)
    for clip, (h, w) in zip(clips, sizes, strict=True):
        clip[:, :, :h, :w, 0] = np.linspace(0, 250, w)
        clip[:, :, :h, :w, 1] = np.linspace(0, 250, h)[:, None]
    return Batch(np.arange(len(sizes)), np.array(sizes), np.zeros((len(sizes), 1), np.int64), clips)


# --- Pooling --------------------------------------------------------------------------------------


def test_a_box_pools_what_is_in_it_and_in_its_clip() -> None:
    features = torch.zeros(2, 1, 3, 4, 8)
    features[0, ..., :4] = 1
    features[1, ..., 4:] = 5
    boxes = torch.tensor([LEFT, RIGHT, LEFT, RIGHT, (0.75, 0.5, 1.0, 1.0)])
    pooled = pool_boxes(features, boxes, torch.tensor([0, 0, 1, 1, 1]))
    torch.testing.assert_close(pooled[[0, 3, 4], 0], torch.tensor([1.0, 5.0, 5.0]))
    assert (
        pooled[[1, 2], 0] <= torch.tensor([0.5, 2.5])
    ).all()  # what the cells next to the edge mix in


def test_over_time_the_mean_and_over_space_the_maximum() -> None:
    features = torch.zeros(1, 2, 4, 14, 14)
    features[0, 0, 1] = 1
    features[0, 1, :, 3, 9] = 8
    pooled = pool_boxes(features, torch.tensor([ALL]), torch.tensor([0]))
    torch.testing.assert_close(
        pooled[0], torch.tensor([0.25, 8 / 4])
    )  # a cell covers 2 x 2 positions


def test_pooling_time_first_is_3d_roi_align() -> None:
    from torchvision.ops import roi_align

    torch.manual_seed(0)
    features = torch.randn(1, 3, 5, 6, 9, dtype=torch.float64)
    box = torch.tensor([[0.1, 0.2, 0.63, 0.97]], dtype=torch.float64)
    rois = torch.cat(
        [torch.zeros(1, 1, dtype=torch.float64), box * torch.tensor([9, 6, 9, 6])], dim=1
    )
    each = torch.stack(
        [roi_align(features[:, :, t], rois, 7, aligned=True) for t in range(5)], dim=2
    )
    torch.testing.assert_close(
        pool_boxes(features, box, torch.tensor([0])), each.mean(dim=2).amax(dim=(2, 3))
    )


def test_a_box_is_where_the_person_is_in_clips_of_any_shape() -> None:
    """Red and green say how far right and how far down a pixel is: the greatest are those in the
    middle of the box's last cells.
    """
    sizes = [(40, 80), (40, 56), (90, 50)]
    corners = [
        (0.1, 0.1, 0.4, 0.3),
        (0.5, 0.2, 0.9, 0.6),
        (0.0, 0.0, 0.5, 0.8),
        (0.2, 0.4, 0.6, 0.7),
    ]
    key_frames = make_key_frames(corners, [0, 2, 3, 4])
    batch = make_batch(sizes)
    for flip in (None, np.array([True, False, True])):
        inputs = make_inputs(batch, key_frames, 64, CPU, flip)
        assert inputs.numbers.tolist() == [0, 1, 2, 3]
        assert inputs.owner.tolist() == [0, 0, 1, 2]
        pooled = pool_boxes(inputs.clips, inputs.boxes, inputs.owner).numpy() * [
            0.229,
            0.224,
            0.225,
        ] + [0.485, 0.456, 0.406]
        edges = pooled[:, :2] * 255 / 250
        ends = np.array(corners)[:, 2:]
        np.testing.assert_allclose(edges, ends - (ends - np.array(corners)[:, :2]) / 14, atol=0.015)


def test_mirroring_exchanges_left_and_right() -> None:
    boxes = np.array([LEFT, (0.25, 0.5, 0.375, 0.75)])
    assert mirrored(boxes).tolist() == [list(RIGHT), [0.625, 0.5, 0.75, 0.75]]
    assert mirrored(mirrored(boxes)).tolist() == boxes.tolist()


def test_boxes_of_rows_in_any_order() -> None:
    key_frames = make_key_frames([ALL] * 6, [0, 2, 2, 5, 6])
    numbers, owner = key_frames.boxes_of(np.array([2, 1, 0, 2]))
    assert numbers.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert owner.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("name", ["r3d_tiny", "s3d"])
def test_a_backbone_detects(name: str) -> None:
    encoder, width = BACKBONES[name]()
    model = Detector(encoder, width, 5, 0.5).eval()
    with torch.no_grad():
        logits = model(
            torch.randn(1, 3, 8, 32, 64), torch.tensor([LEFT, RIGHT]), torch.tensor([0, 0])
        )
    assert logits.shape == (2, 5)
    assert not torch.equal(logits[0], logits[1])


# --- Training -------------------------------------------------------------------------------------


def make_fit(**changes: object) -> DetectorFit:
    values = {
        "steps_per_epoch": 4,
        "warmup_epochs": 0,
        "rate_steps": (2,),
        "rate_factor": 0.5,
        "size": 32,
        "flip": 0.5,
        "seed": 1,
    }
    return DetectorFit(**{**values, "precision": "fp32", **changes})  # type: ignore[arg-type]


def test_the_rate_is_halved_after_an_epoch() -> None:
    assert [make_fit().rate(step) for step in (0, 7, 8, 100)] == [1, 1, 0.5, 0.5]


def test_which_clips_are_mirrored_follows_from_seed_epoch_and_row() -> None:
    rows = np.arange(1000)
    flipped = make_fit().flipped(3, rows)
    assert 0.45 < flipped.mean() < 0.55
    assert (make_fit().flipped(3, rows[::-1]) == flipped[::-1]).all()
    assert (make_fit().flipped(4, rows) != flipped).any()
    assert (make_fit(seed=2).flipped(3, rows) != flipped).any()
    assert not make_fit(flip=0.0).flipped(3, rows).any()
    assert make_fit(flip=1.0).flipped(3, rows).all()


def test_a_detector_learns_which_half_of_the_frame_a_box_is_in() -> None:
    targets = np.array([[True, False], [False, True]] * 2)
    key_frames = make_key_frames([LEFT, RIGHT] * 2, [0, 2, 4], targets)
    torch.manual_seed(0)
    model = Detector(Pixels(), 3, 2, 0.0)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    batches = [make_batch([(32, 64), (32, 48)])] * 4
    fit = make_fit(flip=0.0)
    losses = [
        train_epoch(model, optimiser, iter(batches), key_frames, fit, epoch)["loss"]
        for epoch in range(20)
    ]
    assert losses[-1] < 0.3 * losses[0]
    numbers, scores = predict_boxes(model, iter(batches), 1, key_frames, 32, CPU)
    assert numbers.tolist() == [0, 1, 2, 3]
    assert (scores.argmax(axis=1) == [0, 1, 0, 1]).all()


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    key_frames = make_key_frames([LEFT], [0, 1])
    model = Detector(Pixels(), 3, 2, 0.0)
    with torch.no_grad():
        model.head[1].bias.fill_(float("nan"))
    with pytest.raises(
        TrainingError, match=r"the loss is not finite in epoch 3; lower optimiser\.lr"
    ):
        train_epoch(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            iter([make_batch([(32, 32)])] * 4),
            key_frames,
            make_fit(),
            2,
        )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_logit_that_is_not_finite_is_no_score(bad: float) -> None:
    key_frames = make_key_frames([LEFT, RIGHT, ALL], [0, 3])
    model = Detector(Pixels(), 3, 2, 0.0)
    with torch.no_grad():
        model.head[1].bias[0] = bad  # of which the sigmoid is 1 if it is infinite
    with pytest.raises(NotFiniteError, match=r"^detection: 3 of 3 rows of scores are not finite"):
        predict_boxes(model, iter([make_batch([(32, 32)])]), 1, key_frames, 32, CPU)


# --- Proposed boxes -------------------------------------------------------------------------------


def proposals(places: list[tuple[str, float]], corners: list[tuple[float, ...]]) -> Proposals:
    films, seconds = zip(*places, strict=True)
    return Proposals(films, np.array(seconds), np.array(corners), len(places), 0, (), 0)


def test_proposed_boxes_are_those_of_their_key_frames() -> None:
    """Rows 0 and 1 are of "film 0", at 902 and 903; rows 2 and 3 of "film 1", at 904 and 905."""
    key_frames = make_key_frames([LEFT, RIGHT, ALL, LEFT], [0, 1, 2, 3, 4])
    places = [("film 1", 905.0), ("film 0", 903.0), ("film 1", 905.0), ("film 0", 902.0)]
    corners = [RIGHT, ALL, LEFT, RIGHT]
    found = propose(key_frames, np.array([1, 2, 3]), proposals(places, corners))
    assert [found.key_frames.boxes_of(np.array([row]))[0].tolist() for row in range(4)] == [
        [],
        [0],
        [],
        [1, 2],
    ]
    assert found.key_frames.corners.tolist() == [list(ALL), list(RIGHT), list(LEFT)]
    assert (found.counts["of_other_key_frames"], found.counts["key_frames_without"]) == (1, 1)
    assert (
        found.notes[0] == "left out 1 proposed box of key frames that are not tested: film 0/0902"
    )


def test_a_batch_without_a_box_predicts_nothing() -> None:
    key_frames = make_key_frames([LEFT, RIGHT], [0, 1, 2])
    found = propose(key_frames, np.array([0, 1]), proposals([("film 0", 903.0)], [LEFT]))
    batches = [make_batch([(32, 64), (32, 64)])] * 2
    batches = [replace(batch, rows=batch.rows[i : i + 1]) for i, batch in enumerate(batches)]
    batches = [
        replace(batch, clips=batch.clips[:1], sizes=batch.sizes[:1], starts=batch.starts[:1])
        for batch in batches
    ]
    model = Detector(Pixels(), 3, 2, 0.0)
    numbers, scores = predict_boxes(model, iter(batches), 2, found.key_frames, 32, CPU)
    assert (numbers.tolist(), scores.shape) == ([0], (1, 2))
    rows = predicted_rows(found.key_frames, numbers, scores)
    assert [
        (rows.films[film], second) for film, second in zip(rows.film, rows.second, strict=True)
    ] == [("film 0", 903.0)] * 2


# --- Files ----------------------------------------------------------------------------------------


def test_a_file_of_predictions_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = (
        np.sort(rng.random((40, 2, 2)), axis=1)
        .reshape(40, 4)
        .astype(np.float32)
        .astype(str)
        .astype(np.float64)
    )
    targets = rng.random((40, 2)) < 0.4
    key_frames = make_key_frames([tuple(box) for box in corners], [0, 10, 10, 25, 40], targets)
    boxes, _ = key_frames.boxes_of(np.array([3, 0]))
    scores = rng.random((len(boxes), 2)).astype(np.float32)
    rows = predicted_rows(key_frames, boxes, scores)
    write_predictions(tmp_path / "predictions.csv", rows)
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(lines) == 50
    assert lines[0].startswith("film 1,0905,")
    assert lines[1].split(",")[:7] == ["film 1", "0905", *map(str, corners[25].tolist()), "80"]
    read = read_predictions(tmp_path / "predictions.csv")
    for name in ("second", "corners", "action"):
        assert (getattr(read, name) == getattr(rows, name)).all()
    assert [read.films[film] for film in read.film] == [rows.films[film] for film in rows.film]
    assert (read.value.astype(np.float32) == scores.ravel()).all()
    truth = true_rows(key_frames, boxes)
    assert len(truth) == targets[boxes].sum()
    assert (
        ava_map(truth, read, key_frames.actions, limit=9).to_dict()
        == ava_map(truth, rows, key_frames.actions, limit=9).to_dict()
    )
