"""RankMe and LiDAR against the papers' formulas computed another way, and at known ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg

from vididi.errors import NotFiniteError
from vididi.evaluation.collapse import FLOORS, RANKME, SPREAD, CollapseWatch, lidar, rankme
from vididi.evaluation.features import spread


def entropy_by_hand(values: list[float]) -> float:
    shares = [value / sum(values) + 1e-7 for value in values]
    return math.exp(-sum(p * math.log(p) for p in shares))


def test_rankme_is_the_exponential_of_the_entropy_of_singular_values() -> None:
    x = np.random.default_rng(0).normal(size=(40, 12)) * np.arange(1, 13)
    # the singular values as roots of the eigenvalues of x^T x
    singular = np.sqrt(np.linalg.eigvalsh(x.T @ x))
    assert rankme(x) == pytest.approx(entropy_by_hand(list(singular)), rel=1e-9)


def test_rankme_of_known_ranks() -> None:
    assert rankme(np.eye(8)[[0, 1, 2, 3] * 5]) == pytest.approx(4, rel=1e-4)
    assert rankme(np.ones((30, 16))) == pytest.approx(1, rel=1e-4)
    assert rankme(np.zeros((30, 16))) == 0


def lidar_by_hand(views: np.ndarray) -> float:
    """As the paper writes it: loops, and the root of the inverse."""
    n, q, d = views.shape
    mean = views.reshape(-1, d).mean(axis=0)
    between, within = np.zeros((d, d)), np.zeros((d, d))
    for x in views:
        m = sum(x) / q
        between += np.outer(m - mean, m - mean) / n
        for e in x:
            within += np.outer(e - m, e - m) / (n * q)
    root = np.linalg.inv(scipy.linalg.sqrtm(within + 1e-4 * np.eye(d)))
    return entropy_by_hand(list(np.linalg.eigvalsh(root @ between @ root)))


@pytest.mark.parametrize("shape", [(20, 5, 6), (30, 2, 10)])
def test_lidar_is_the_paper_s_formula(shape: tuple[int, int, int]) -> None:
    draw = np.random.default_rng(1)
    objects = draw.normal(size=(shape[0], 1, shape[2])) * np.linspace(0.2, 3, shape[2])
    views = objects + 0.3 * draw.normal(size=shape)
    assert lidar(views) == pytest.approx(lidar_by_hand(views), rel=1e-6)


def test_lidar_counts_the_directions_that_tell_objects_apart() -> None:
    """What only views differ in is none, however large it is; RankMe counts it."""
    draw = np.random.default_rng(2)
    views = np.zeros((400, 4, 12))
    views[..., :3] = draw.normal(size=(400, 1, 3))
    views += draw.normal(size=views.shape) * np.where(np.arange(12) < 3, 0.01, 1.0)
    assert lidar(views) == pytest.approx(3, rel=0.05)
    assert rankme(views.reshape(-1, 12)) > 9
    assert lidar(np.ones((10, 2, 4))) == 0


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        lidar(np.ones((10, 1, 4)))
    with pytest.raises(NotFiniteError, match="online/rankme"):
        rankme(np.array([[1.0, np.nan]]))
    with pytest.raises(NotFiniteError, match="online/lidar"):
        lidar(np.full((2, 2, 2), np.inf))


def test_a_collapse_is_said_once_with_its_numbers() -> None:
    watch = CollapseWatch()
    whole, flat = {SPREAD: 0.2, RANKME: 9.0}, {SPREAD: 2e-4, RANKME: 3.0}
    said = [watch.look(epoch, m) for epoch, m in enumerate([flat, flat, whole, flat, {}, flat], 1)]
    assert said == [""] * 6  # never three looks in a row
    assert watch.look(7, flat) == (
        "its features have collapsed: online/spread is below 0.001: 0.0002 after epoch 4, 0.0002"
        " after epoch 6, 0.0002 after epoch 7"
    )
    assert watch.look(8, flat) == ""
    assert watch.look(9, whole) == ""


def test_a_constant_encoder_is_below_both_floors() -> None:
    features = np.ones((50, 8), np.float32)
    assert spread(features) < FLOORS[SPREAD]
    assert rankme(features) < FLOORS[RANKME]
    varied = np.random.default_rng(0).standard_normal((50, 8))
    assert rankme(varied) > FLOORS[RANKME]
