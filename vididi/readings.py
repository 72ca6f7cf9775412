"""How else a paper's experiments can be read than the sweep files read them: as the paper prints
them, and as its authors' code has them. Each reading is a list of changes; docs/fidelity.md says
why the default is another. Imports neither torch nor Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]  # by dotted key


def anywhere(values: Values) -> bool:
    """A condition that all cells meet."""
    return True


def one_of(key: str, *allowed: Any) -> Callable[[Values], bool]:
    """The condition that ``key`` has one of these values."""
    return lambda values: values.get(key) in allowed


def above_0(key: str) -> Callable[[Values], bool]:
    """The condition that the number of ``key`` is not 0."""
    return lambda values: values[key] > 0


@dataclass(frozen=True)
class Change:
    """What a reading has instead of the default.

    Args:
        key: of the configuration, dotted; where ``protocols`` are named, of their settings.
        value: what it is in the reading.
        source: where that is printed, or in the code.
        where: which cells it is of, by their resolved configuration, or which evaluations, by their
            settings. ``training.cosine`` is of all, also without warm-up, where it changes nothing:
            else rows of one table would differ in it.
        protocols: the evaluations that it is of.
    """

    key: str
    value: Any
    source: str
    where: Callable[[Values], bool] = anywhere
    protocols: tuple[str, ...] = ()


VIDIDI_PAPER = (
    Change(
        "objective.invariance_reduction",
        "sum",
        "eq. 3: a sum over dimensions",
        one_of("objective.name", "vicreg"),
    ),
    Change("training.cosine", "whole", "E.3: k/K over all iterations"),
)

CVRL_PAPER = (
    Change(
        "test_size",
        256,
        "4.1: a 3-crop evaluation following [16], whose crops are 256 x 256",
        protocols=("linear", "semi", "finetune"),
    ),
)

CORP_PAPER = (
    Change(
        "sampling.name",
        "distinct",
        "3.3: two clips from each video; eq. 3 is of CORP_m",
        one_of("objective.name", "corp_f"),
    ),
    Change(
        "objective.reduction",
        "sum",
        "3.2: the summation over all clip-level pairs",
        one_of("objective.name", "corp_m"),
    ),
)

_SSL, _VISION = "official/projects/video_ssl", "official/vision"
_SCHEDULE = (
    "official/modeling/optimization/lr_schedule.py: LinearWarmup meets a cosine of all steps"
)
_IS_CVRL = one_of("objective.name", "cvrl")

# github.com/tensorflow/models. It has pretraining and linear evaluation, so other evaluations keep
# their settings.
CVRL_CODE = (
    Change("training.cosine", "whole", _SCHEDULE),
    Change(
        "objective.sum_over_views",
        True,
        f"{_SSL}/losses/losses.py: loss_a + loss_b",
        _IS_CVRL,
    ),
    Change(
        "objective.sum_over_workers",
        True,
        f"{_SSL}/tasks/pretrain.py: not divided by num_replicas",
        _IS_CVRL,
    ),
    Change(
        "objective.views_together",
        True,
        f"{_SSL}/dataloaders/video_ssl_input.py: _postprocess_image",
        _IS_CVRL,
    ),
    Change(
        "objective.norm_momentum",
        0.003,
        f"{_SSL}/configs/video_ssl.py: hidden_norm_activation, momentum 0.997",
        _IS_CVRL,
    ),
    Change(
        "augment.asymmetric",
        True,
        f"{_SSL}/dataloaders/video_ssl_input.py: _process_image",
        one_of("augment.name", "cvrl"),
    ),
    Change(
        "sampling.short_videos",
        "any_frame",
        f"{_SSL}/ops/video_ssl_preprocess_ops.py: sample_ssl_sequence",
        one_of("sampling.name", "interval", "same", "uniform"),
    ),
    Change("cosine", "whole", _SCHEDULE, above_0("warmup_epochs"), protocols=("linear",)),
    Change(
        "test_size",
        256,
        f"{_SSL}/configs/video_ssl.py: feature_shape of validation_data",
        protocols=("linear",),
    ),
    Change(
        "short_videos",
        "any_frame",
        f"{_VISION}/ops/preprocess_ops_3d.py: sample_sequence",
        protocols=("linear",),
    ),
)

DEFAULT_READING, CHOICES = "default", ("default", "paper", "authors_code")

# By paper, as its tables are named, and by reading; the default changes nothing.
READINGS: dict[str, dict[str, tuple[Change, ...]]] = {
    "vididi": {DEFAULT_READING: (), "paper": VIDIDI_PAPER},
    "cvrl": {DEFAULT_READING: (), "paper": CVRL_PAPER, "authors_code": CVRL_CODE},
    "corp": {DEFAULT_READING: (), "paper": CORP_PAPER},
}
