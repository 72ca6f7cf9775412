"""No measure has a value for NaN or infinity: each refuses it, by its own name and the number of
rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from vididi.errors import NotFiniteError
from vididi.evaluation import ava_map, retrieval_recall, silhouette, silhouette_table
from vididi.evaluation.classification import accuracy, true_class_ranks
from vididi.evaluation.dynamics import CHANGES, dynamics
from vididi.evaluation.features import spread
from vididi.evaluation.online import knn_accuracy, probe_accuracy
from vididi.finite import check_finite, check_weights

LABELS = np.arange(8) % 2
GALLERY = np.random.default_rng(0).normal(size=(8, 3))
TEST = np.arange(16) < 8


def changes(x: NDArray) -> dict[str, NDArray]:
    return {
        name: (
            np.concatenate([GALLERY, GALLERY]) if name != "frozen" else np.concatenate([x, GALLERY])
        )
        for name in CHANGES
    }


MEASURES: dict[str, Callable[[NDArray], Any]] = {
    "retrieval": lambda x: retrieval_recall(x, LABELS, GALLERY, LABELS),
    "retrieval gallery": lambda x: retrieval_recall(GALLERY, LABELS, x, LABELS),
    "online/knn": lambda x: knn_accuracy(x, LABELS, GALLERY, LABELS),
    "online/knn gallery": lambda x: knn_accuracy(GALLERY, LABELS, x, LABELS),
    "online/probe": lambda x: probe_accuracy(x, LABELS, GALLERY, LABELS),
    "online/probe gallery": lambda x: probe_accuracy(GALLERY, LABELS, x, LABELS),
    "silhouette": lambda x: silhouette(x, LABELS),
    "silhouette table": lambda x: silhouette_table(x, LABELS, np.zeros(8, int)),
    "features/spread": spread,
    "dynamics": lambda x: dynamics(
        changes(x), np.concatenate([LABELS, LABELS]), np.full(16, ""), TEST
    ),
    "accuracy": lambda x: accuracy(true_class_ranks(x, LABELS), LABELS, dict(enumerate("abc"))),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_refuses_what_is_not_finite_by_its_name(
    name: str, rows: int, bad: float
) -> None:
    x = GALLERY.copy()
    x[:rows, 1] = bad
    MEASURES[name](GALLERY)
    with pytest.raises(
        NotFiniteError,
        match=rf"^{name.split(' ', maxsplit=1)[0]}: {rows} of (8|16) rows of \w+ are not finite",
    ):
        MEASURES[name](x)


@pytest.mark.parametrize("huge", [1e200, -1e300])
@pytest.mark.parametrize(
    "name", [name for name in MEASURES if name not in ("accuracy", "online/probe")]
)  # which these are fit for
def test_features_whose_squares_are_infinite_are_refused(name: str, huge: float) -> None:
    """Else they turn into 0 on the way."""
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(NotFiniteError):
        MEASURES[name](GALLERY * huge)


def test_the_spread_of_large_single_precision_features_is_theirs() -> None:
    x = GALLERY.astype(np.float32)
    assert spread(x * np.float32(1e25)) == pytest.approx(spread(x), abs=1e-6)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match=rf"labels: {label} is not one of the 3 classes"):
        true_class_ranks(GALLERY, np.array([0] * 7 + [label]))


def test_predictions_of_boxes_are_refused_by_name() -> None:
    from vididi.evaluation.ava_map import AvaRows

    truth = AvaRows.of([("film", 902, 0.0, 0.0, 1.0, 1.0, 12, 1.0)])
    assert ava_map(truth, truth, {12: "stand"}).mean == 1
    with pytest.raises(ValueError, match="nan in the last column is not a finite number"):
        AvaRows.of([("film", 902, 0.0, 0.0, 1.0, 1.0, 12, float("nan"))])


def test_arrays_that_are_finite_pass_and_rows_of_any_shape_count() -> None:
    check_finite("m", a=[[1, 2]], b=np.ones((2, 3, 4), np.float32), c=[])
    with pytest.raises(NotFiniteError, match=r"^m: 1 of 2 rows of b are not finite"):
        check_finite("m", a=[1.0], b=np.array([np.ones((3, 4)), np.full((3, 4), np.nan)]))
    with pytest.raises(NotFiniteError, match=r"^m: 2 of 3 rows of a are not finite"):
        check_finite("m", a=[1.0, np.inf, np.nan])


def test_weights_and_buffers_are_checked() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    check_weights("encoder", model)
    model[1].running_var[1] = torch.inf
    with pytest.raises(
        NotFiniteError,
        match=r"^encoder: 1 of 7 weights and statistics are not finite: 1\.running_var",
    ):
        check_weights("encoder", model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(
        NotFiniteError, match=r"5 of 7 .*: 0\.weight, 0\.bias, 1\.weight and 2 more"
    ):
        check_weights("encoder", model)
