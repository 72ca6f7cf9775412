"""Classifiers on encoders: which labels are used, how the rate falls, what is trained, and what a
prediction is.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vididi.data.stream import Batch
from vididi.evaluation.classification import (
    Classifier,
    ClassifierFit,
    accuracy,
    labelled_rows,
    predict,
    train_classifier,
    true_class_ranks,
)
from vididi.training.context import LocalContext
from vididi.views import AUGMENTATIONS, operations


class Encoder(nn.Module):
    """The mean colour of a clip, through batch normalisation and weights of its own: D = 3."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(3), nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.linear.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(x.mean(dim=(2, 3, 4))))


def colours(rows: np.ndarray, clips: int = 1) -> Batch:
    """Videos whose class is their row modulo 3, and whose colour is that channel."""
    pixels = np.zeros((len(rows), clips, 4, 12, 16, 3), np.uint8)
    for i, row in enumerate(rows):
        pixels[i, ..., row % 3] = 150 + row % 50
    sizes = np.tile([12, 16], (len(rows), 1))
    return Batch(np.asarray(rows), sizes, np.zeros((len(rows), clips), np.int64), pixels)


LABELS = np.arange(30) % 3


def fit(epochs: int = 3, **changes: object) -> ClassifierFit:
    values = {
        "steps_per_epoch": 5,
        "warmup_epochs": 0,
        "rate_steps": None,
        "frames": 4,
        "seed": 1,
        "precision": "fp32",
    }
    return ClassifierFit(epochs, augment=AUGMENTATIONS["plain"](8), **{**values, **changes})  # type: ignore[arg-type]


def run(model: Classifier, how: ClassifierFit, start: int = 0, lr: float = 0.5) -> list[dict]:
    seen: list[dict] = []
    optimiser = torch.optim.SGD(model.trained.parameters(), lr=lr)
    batches = (colours(np.arange(6) + 6 * (step % 5)) for step in range(start, how.steps))
    train_classifier(
        model,
        optimiser,
        batches,
        LABELS,
        how,
        start,
        LocalContext(),
        lambda metrics: seen.append(dict(metrics)),
    )
    return seen


# --- Which videos have labels ---


@pytest.mark.parametrize(
    ("balance", "expected"), [("classes", [4, 4, 4]), ("proportions", [6, 5, 1])]
)
def test_a_share_of_the_labels(balance: str, expected: list[int]) -> None:
    labels = np.repeat([0, 1, 2], [30, 25, 5])
    rows = np.arange(100, 160)
    chosen = labelled_rows(rows, labels, 0.2, balance, seed=0)  # type: ignore[arg-type]
    assert np.bincount(labels[chosen - 100]).tolist() == expected
    assert (np.diff(chosen) > 0).all()


def test_a_class_that_has_too_few_gives_all_and_every_class_gives_one() -> None:
    labels = np.repeat([0, 1], [50, 2])
    assert np.bincount(
        labels[labelled_rows(np.arange(52), labels, 0.5, "classes", 0)]
    ).tolist() == [13, 2]
    assert np.bincount(
        labels[labelled_rows(np.arange(52), labels, 0.01, "proportions", 0)]
    ).tolist() == [1, 1]


def test_the_seed_draws_and_a_larger_share_contains_a_smaller_one() -> None:
    labels, rows = np.arange(90) % 3, np.arange(90)
    few, more, others = (
        labelled_rows(rows, labels, share, "classes", seed)
        for share, seed in ((0.1, 0), (0.3, 0), (0.1, 1))
    )
    assert set(few) < set(more)
    assert set(few) != set(others)
    assert labelled_rows(rows[::-1], labels[::-1], 1.0, "classes", 0).tolist() == rows.tolist()


# --- Training ---


def test_the_rate_falls_by_steps_or_by_half_a_cosine() -> None:
    steps = fit(10, rate_steps=(6, 8))
    assert [round(steps.rate(epoch * 5), 9) for epoch in (0, 5, 6, 7, 8, 9)] == [
        1,
        1,
        0.1,
        0.1,
        0.01,
        0.01,
    ]
    assert steps.rate(29) == 1
    cosine = fit(10)
    assert (cosine.rate(0), round(cosine.rate(25), 9)) == (1, 0.5)
    assert [
        round(fit(10, warmup_epochs=1, rate_steps=(6,)).rate(step), 9) for step in (0, 4, 5)
    ] == [0.2, 1, 1]


def test_a_frozen_encoder_does_not_change_and_a_trained_one_does() -> None:
    for frozen in (True, False):
        model = Classifier(Encoder(), 3, 3, frozen, "as_is", 0.0)
        before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
        run(model, fit())
        same = [
            torch.equal(before[name], value) for name, value in model.encoder.state_dict().items()
        ]
        assert all(same) if frozen else not any(same)


def test_views_are_made_in_full_precision_whatever_the_network_computes_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        operations, "_crop_resize_clip_by_clip", operations.crop_resize_product
    )  # matrix products, as on a GPU
    seen: dict[str, list[torch.Tensor]] = {"fp32": [], "bf16": []}
    for precision, views in seen.items():
        model = Classifier(Encoder(), 3, 3, True, "l2", 0.0)
        model.encoder.register_forward_pre_hook(
            lambda _, given, views=views: views.append(given[0].clone())
        )
        run(model, fit(1, precision=precision))
    assert [view.dtype for view in seen["bf16"]] == [torch.float32] * 5
    assert all(torch.equal(*both) for both in zip(*seen.values(), strict=True))


def test_it_learns_what_can_be_learned() -> None:
    model = Classifier(Encoder(), 3, 3, True, "l2", 0.0)
    losses = [metrics["loss"] for metrics in run(model, fit(20), lr=5.0)]
    assert losses[-1] < 0.5 * losses[0]
    rows, scores = predict(
        model, iter([colours(np.arange(30), clips=2)]), 1, 8, "three", 0.75, 0, torch.device("cpu")
    )
    assert (true_class_ranks(scores, LABELS[rows]) == 0).all()


def test_going_on_after_an_epoch_ends_as_if_it_had_not_stopped() -> None:
    def make() -> Classifier:
        torch.manual_seed(0)
        return Classifier(Encoder(), 3, 3, False, "zscore", 0.5)

    whole, parts, how = make(), make(), fit(4)
    run(whole, how)
    kept: dict = {}
    optimiser = torch.optim.SGD(parts.parameters(), lr=0.5)

    def stop(metrics: dict) -> None:
        if metrics["epoch"] == 2:
            kept.update(parts.state_dict())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(
            parts,
            optimiser,
            (colours(np.arange(6) + 6 * (step % 5)) for step in range(20)),
            LABELS,
            how,
            0,
            LocalContext(),
            stop,
        )
    again = make()
    again.load_state_dict(kept)
    run(again, how, start=10)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


def test_features_have_unit_length_or_unit_variance() -> None:
    x = torch.tensor([[3.0, 4.0, 0.0], [0.0, 5.0, 12.0]])
    unit = Classifier(nn.Identity(), 3, 2, True, "l2", 0.0).head[0](x)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2))
    normal = (
        Classifier(nn.Identity(), 3, 2, True, "zscore", 0.0).train().head[0](x + torch.randn(2, 3))
    )
    torch.testing.assert_close(normal.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)


# --- Testing ---


def test_a_prediction_is_the_mean_of_softmax_over_clips_and_crops() -> None:
    class Left(nn.Module):
        """Logit 0 is the brightness of the view's left column: it differs between the three
        crops.
        """

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x[..., 0].mean(dim=(1, 2, 3)), torch.zeros(len(x))], dim=1)

    batch = colours(np.arange(1), clips=2)
    batch.clips[:] = np.linspace(0, 255, 16).astype(np.uint8)[:, None]
    batch.clips[:, 1] //= 2
    _, scores = predict(Left(), iter([batch]), 1, 12, "three", 0.75, 0, torch.device("cpu"))
    _, centre = predict(Left(), iter([batch]), 1, 12, "centre", 0.75, 0, torch.device("cpu"))
    expected = []
    for clip in (0, 1):
        for left in (0, 2, 4):
            pixel = batch.clips[0, clip, 0, 0, left].astype(np.float64) / 255
            logit = ((pixel - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).mean()
            expected.append([1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(logit))])
    np.testing.assert_allclose(scores[0], np.mean(expected, axis=0), rtol=1e-4)
    np.testing.assert_allclose(centre[0], np.mean([expected[1], expected[4]], axis=0), rtol=1e-4)


def test_ranks_of_the_true_class_and_ties() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [1 / 3, 1 / 3, 1 / 3]])
    assert true_class_ranks(scores, np.array([2, 0, 1, 2])).tolist() == [1, 0, 1, 2]


def test_accuracy_over_all_and_by_class() -> None:
    ranks, labels = np.array([0, 3, 0, 6]), np.array([0, 0, 1, 6])
    names = {i: f"c{i}" for i in range(7)}
    tops, each = accuracy(ranks, labels, names)
    assert tops == {"top1": 0.5, "top5": 0.75}
    assert each == {"c0": 0.5, "c1": 1.0, "c6": 0.0}
    assert "top5" not in accuracy(ranks % 2, labels % 2, {0: "a", 1: "b"})[0]
    del names[5]  # a class without videos
    assert accuracy(ranks, labels, names)[1].keys() == each.keys()
    assert (
        "top5" not in accuracy(ranks, labels, {label: names[label] for label in (0, 1, 2, 3, 6)})[0]
    ), "five have videos"


@pytest.mark.parametrize(("crops", "count"), [("three", 3), ("centre", 1), ("random", 1)])
def test_a_test_crop_has_the_size_that_is_asked_for(crops: str, count: int) -> None:
    seen: list[torch.Tensor] = []

    class Looks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return torch.zeros(len(x), 2)

    batch = colours(np.arange(2))  # frames of 12 x 16
    batch.clips[:] = np.arange(0, 240, 15, dtype=np.uint8)[:, None]
    predict(Looks(), iter([batch]), 1, 12, crops, 0.5, 0, torch.device("cpu"))  # type: ignore[arg-type]
    predict(Looks(), iter([batch]), 1, 24, crops, 0.5, 0, torch.device("cpu"))  # type: ignore[arg-type]
    small, large = seen[:count], seen[count:]
    assert {view.shape[-2:] for view in large} == {(24, 24)}
    # The same square of the frame, drawn larger: its middle column is as bright.
    for one, other in zip(small, large, strict=True):
        torch.testing.assert_close(
            one[..., 3:9].mean(dim=-1).mean(), other[..., 6:18].mean(), atol=0.02, rtol=0
        )
