"""Whether arms come in the order in which a paper has them: Spearman's rank correlation, and how
sure it is over seeds and videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vididi.analysis.bootstrap import (
    LEVEL,
    REPLICATES,
    Floats,
    Groups,
    Interval,
    checked_scores,
    replicates_of_all,
)


@dataclass(frozen=True)
class RankAgreement:
    """``rho`` of the arms' means and the paper's values, its interval, and over how many arms and
    seeds.
    """

    rho: float
    interval: Interval
    arms: int
    seeds: int


def rank_agreement(
    arms: Sequence[Sequence[ArrayLike]],
    paper: Sequence[float],
    *,
    groups: Groups = None,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> RankAgreement:
    """Spearman's rho of the arms' means with ``paper``, and its percentile interval.

    A replicate draws seeds and queries, the same in all arms (vididi/analysis/bootstrap.py). Noise
    in means makes ranks agree less than the true ones do, so the interval lies rather low.

    Args:
        arms: for each arm one ``[S, Q]`` array for each split, of the same seeds and queries.
        paper: one value for each arm. groups: of queries, for each split.

    Raises:
        ValueError: the arrays do not fit each other or are empty, there are fewer than three arms,
            or not as many as the paper has values.
    """
    scores = [checked_scores(arm) for arm in arms]
    if len(scores) < 3 or len(scores) != len(paper):
        raise ValueError(
            f"arms: {len(scores)} and {len(paper)} of the paper; a rank correlation needs three or"
            " more, and as many of both"
        )
    drawn = replicates_of_all(scores, replicates, seed, groups)
    means = np.array([[np.mean([part.mean() for part in arm])] for arm in scores])
    low, high = np.quantile(spearman(drawn, paper), [(1 - level) / 2, (1 + level) / 2])
    rho = float(spearman(means, paper)[0])
    return RankAgreement(rho, (float(low), float(high)), len(scores), len(scores[0][0]))


def spearman(values: Floats, reference: Sequence[float]) -> Floats:
    """Of each column of ``[arms, n]`` with ``[arms]``: ``[n]``. Ties have the mean of their ranks;
    where all values are the same it is 0.
    """
    ranks = _centred(values)
    other = _centred(np.asarray(reference, dtype=np.float64)[:, None])
    scale = np.sqrt((ranks**2).sum(axis=0) * (other**2).sum())
    return np.divide(
        (ranks * other).sum(axis=0), scale, out=np.zeros(ranks.shape[1]), where=scale > 0
    )


def _centred(values: Floats) -> NDArray[np.float64]:
    """Ranks in each column, with mean 0. Values that differ by rounding alone are ties."""
    from scipy.stats import rankdata

    ranks = rankdata(np.round(values, 12), axis=0)
    return ranks - ranks.mean(axis=0)
