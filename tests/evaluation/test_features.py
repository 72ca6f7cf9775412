"""features.spread: 0 for a collapsed encoder, 1 for features in all directions."""

from __future__ import annotations

import numpy as np
import pytest

from vididi.evaluation.features import spread


def test_equal_directions_have_no_spread_whatever_their_length() -> None:
    assert spread(np.outer([1.0, 2.0, 5.0], [3.0, -4.0, 1.0])) == pytest.approx(0, abs=1e-12)


def test_no_features_at_all_are_collapsed() -> None:
    assert spread(np.zeros((4, 3))) == 0


def test_opposite_features_have_all() -> None:
    assert spread(np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 3.0], [0.0, -4.0]])) == pytest.approx(1)


def test_two_orthogonal_directions() -> None:
    """The mean of (1, 0) and (0, 1) has squared length 1/2."""
    assert spread(np.eye(2)) == pytest.approx(0.5)
