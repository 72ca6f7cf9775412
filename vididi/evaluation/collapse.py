"""How many directions features use: published measures of collapse, which need no labels.

Both are the exponential of an entropy, so a number of directions: 1 where all features lie on a
line, at most min(N, D).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vididi.finite import check_finite

SPREAD, RANKME, LIDAR = "online/spread", "online/rankme", "online/lidar"
# A collapse, at so many looks in a row. Runs that learned had a spread of 0.012 and more, and a
# RankMe of 2.6 and more (docs/log.md, 2026-11-29); a constant has 0 and 1.
FLOORS = {SPREAD: 1e-3, RANKME: 1.1}
LOOKS = 3
EPSILON = 1e-7  # added to each share (RankMe, section 3.1)
DELTA = 1e-4  # added to the variances within (LiDAR, section 4)


class CollapseWatch:
    """Notices features that stay below a floor."""

    def __init__(self) -> None:
        self.low: dict[str, list[tuple[int, float]]] = {name: [] for name in FLOORS}

    def look(self, epoch: int, metrics: Mapping[str, float]) -> str:
        """What is to be said after this epoch: with numbers, once a measure has been below its
        floor LOOKS times in a row; else empty.
        """
        said = []
        for name, floor in FLOORS.items():
            if name not in metrics:
                continue
            low = self.low[name]
            if metrics[name] >= floor:
                low.clear()
                continue
            low.append((epoch, metrics[name]))
            if len(low) == LOOKS:
                values = ", ".join(f"{value:.2g} after epoch {at}" for at, value in low)
                said.append(f"{name} is below {floor:g}: {values}")
        return f"its features have collapsed: {'; '.join(said)}" if said else ""


def rankme(features: NDArray) -> float:
    """RankMe (Garrido et al., ICML 2023, equations 1 and 2): the effective rank of features
    ``[N, D]``, which are not centred; 0 where all are zero.

    Raises:
        NotFiniteError: a feature is not finite.
    """
    check_finite(RANKME, features=features)
    singular = np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)
    return _effective_number(singular)


def lidar(views: NDArray) -> float:
    """LiDAR (Thilak et al., ICLR 2024, section 4): the effective rank of the linear discriminant
    matrix that tells objects apart by their views.

    Its eigenvalues are those of Sw^-1 Sb, of the covariance of objects' means and the mean
    covariance of an object's views.

    Args:
        views: ``[N, Q, D]``, features of Q >= 2 views of each of N objects. Ours are the clips of a
            video, as evaluation takes them: other moments, each with a random crop. The paper's are
            pretraining's augmentations of an image, so numbers compare only with our own.

    Raises:
        NotFiniteError: a feature is not finite. ValueError: there is one view of each.
    """
    from scipy.linalg import solve_triangular  # 0.1 s of CPU, which few processes need

    check_finite(LIDAR, features=views)
    count, each, width = views.shape
    if each < 2:
        raise ValueError("views: LiDAR needs two or more of each object")
    x = np.asarray(views, np.float64)
    means = x.mean(axis=1)
    inner = (x - means[:, None]).reshape(-1, width)
    within = inner.T @ inner / (count * each) + DELTA * np.eye(width)
    between = (means - means.mean(axis=0)) / np.sqrt(count)
    white = solve_triangular(np.linalg.cholesky(within), between.T, lower=True)
    eigenvalues = np.linalg.svd(white, compute_uv=False) ** 2
    return _effective_number(np.pad(eigenvalues, (0, max(width - len(eigenvalues), 0))))


def _effective_number(values: NDArray[np.float64]) -> float:
    """exp of the entropy of values' shares."""
    total = values.sum()
    if total <= 0:
        return 0.0
    shares = values / total + EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))
