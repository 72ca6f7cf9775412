"""Every objective learns one batch of videos by heart: the loss falls to a stated share, the tasks
are solved, nothing collapses.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from small_objectives import small_cases

from vididi.backbones.r3d_tiny import r3d_tiny
from vididi.data.motion import LAWS, SCENES, render_video
from vididi.data.stream import Batch
from vididi.objectives import OBJECTIVES
from vididi.optim import OPTIMISERS
from vididi.pairing import SCHEDULES
from vididi.training.context import LocalContext
from vididi.training.loop import PretrainFit, State, train
from vididi.views import AUGMENTATIONS

VIDEOS, FRAMES, SIZE, STEPS = 8, 4, 16, 60
CASES = small_cases(hidden=32, out=16, symmetric=16, antisymmetric=16, group=4)
SHALLOW = {name: {"hidden_layers": 1} for name in ("corp_f", "corp_m")}

# The share of its first loss that the last one stays below, and where its other terms end. With
# more dimensions than videos VICReg's covariance cannot go to 0. An objective without a line here,
# one that is new, must halve its loss.
Bounds = tuple[float, dict[str, tuple[float, float]]]
HALF: Bounds = (0.5, {})
BOUNDS: dict[str, Bounds] = {
    "simclr": (0.01, {"accuracy": (1, 1)}),
    "byol": (0.2, {"target_std": (0.5, 1.1)}),
    "vicreg": (0.3, {"invariance": (0, 0.01), "variance": (0, 0.05)}),
    "cvrl": (0.01, {"accuracy": (1, 1)}),
    "corp_f": (0.02, {"order_accuracy": (1, 1)}),
    "corp_m": (0.02, {"pair_accuracy": (1, 1), "total_accuracy": (1, 1)}),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def motion_batch(clips: int) -> Batch:
    """Videos of different laws of motion, clips at different times in an order that differs from
    video to video.
    """
    length, laws, scenes = 24, list(LAWS), list(SCENES)
    videos = [
        render_video(laws[i % len(laws)], scenes[i % len(scenes)], SIZE, length, seed=i)
        for i in range(VIDEOS)
    ]
    rng = np.random.default_rng(0)
    starts = np.stack([rng.permutation(clips) for _ in videos]) * ((length - FRAMES) // (clips - 1))
    pixels = np.stack(
        [[video[s : s + FRAMES] for s in row] for video, row in zip(videos, starts, strict=True)]
    )
    return Batch(np.arange(VIDEOS), np.full((VIDEOS, 2), SIZE), starts, pixels)


@pytest.mark.parametrize("case", CASES)
def test_one_batch_is_learned_by_heart(case: str) -> None:
    name, clips, options = CASES[case]
    share, ends = BOUNDS.get(name, HALF)
    torch.manual_seed(0)
    objective = OBJECTIVES[name](*r3d_tiny(width=4), **options, **SHALLOW.get(name, {}))  # type: ignore[call-arg]
    optimiser = OPTIMISERS["adamw"](
        [p for p in objective.parameters() if p.requires_grad], lr=0.005
    )
    # An epoch per step, so that there are metrics of every step.
    job = PretrainFit(
        schedule=SCHEDULES["base"],
        augment=AUGMENTATIONS["plain"](SIZE),
        frames=FRAMES,
        seed=0,
        epochs=STEPS,
        steps_per_epoch=1,
        warmup_epochs=5,
        cosine="remaining",
        precision="fp32",
        view_length="constant",
    )
    history: list[dict[str, float]] = []
    batches = itertools.repeat(motion_batch(clips))
    train(
        State(objective, optimiser),
        batches,
        job,
        LocalContext(),
        lambda metrics, epoch: history.append(metrics),
    )
    assert len(history) == STEPS
    first, last = history[0], history[-1]
    assert last["train/loss"] < share * first["train/loss"], (
        f"{name}: if its loss cannot fall so far, say in BOUNDS how far and why"
    )
    for term, (low, high) in ends.items():
        assert low <= last[f"train/{term}"] <= high, term
