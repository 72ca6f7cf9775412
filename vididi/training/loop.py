"""The training loop: it sees batches, an objective, an optimiser and a context, never where they
came from.

Shapes: B videos of this worker, K clips per video, N source frames, C = 3, T frames of a view.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from vididi.data.stream import Batch
from vididi.draws import Use, key
from vididi.errors import TrainingError
from vididi.finite import check_weights
from vididi.objectives import Objective
from vididi.optim import cosine_with_warmup, scale_rates
from vididi.pairing import Schedule
from vididi.training.context import Context
from vididi.training.distributed import data_parallel, gather
from vididi.views.compose import Augment, make_view


@dataclass(frozen=True)
class PretrainFit:
    """How long and with what to train; plain values and pure functions."""

    schedule: Schedule
    augment: Augment
    frames: int
    seed: int
    epochs: int
    steps_per_epoch: int
    warmup_epochs: int
    cosine: Literal["remaining", "whole"]
    precision: str
    view_length: Literal["constant", "shrinking"]

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


@dataclass
class EpochLog:
    """Sums over one epoch, for its metrics; plain values, so that a checkpoint in the middle of an
    epoch can hold them.
    """

    seconds: float = 0.0
    waited: float = 0.0
    clips: int = 0
    steps: int = 0
    terms: dict[str, float] = field(default_factory=dict)
    pairs: list[str] = field(default_factory=list)

    def add(
        self,
        terms: dict[str, float],
        pair: tuple[int, int],
        clips: int,
        waited: float,
        seconds: float,
    ) -> None:
        self.steps += 1
        self.clips += clips
        self.waited += waited
        self.seconds += seconds
        self.pairs = sorted({*self.pairs, "{}{}".format(*pair)})
        for name, value in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value

    def metrics(
        self, epoch: int, step: int, lr: float, world_size: int
    ) -> dict[str, float | int | str]:
        means = {f"train/{name}": total / self.steps for name, total in self.terms.items()}
        return {
            "epoch": epoch,
            "step": step,
            **means,
            "train/lr": lr,
            "train/pairs": " ".join(self.pairs),
            "time/seconds_per_step": self.seconds / self.steps,
            "time/data_share": self.waited / self.seconds,
            "time/clips_per_second": self.clips * world_size / self.seconds,
        }


@dataclass
class State:
    """What changes while training: the weights, the optimiser's state, how many steps were taken,
    and the epoch's sums so far.
    """

    objective: Objective
    optimiser: Optimizer
    step: int = 0
    log: EpochLog = field(default_factory=EpochLog)


def train(
    state: State,
    batches: Iterator[Batch],
    job: PretrainFit,
    context: Context,
    on_epoch: Callable[[dict, int], None],
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Train from ``state.step`` to the last step, on ``batches`` that begin at that step.

    Args:
        on_epoch: called on every worker after each whole epoch with its metrics and the number of
            epochs done.
        on_step: called on every worker after every other step.

    Raises:
        TrainingError: a term of the loss or its gradient is not finite, and nothing was updated by
            that step; or after the last step a weight or a statistic is not.
    """
    objective, model = distribute(state.objective, context)
    objective.train()
    began = time.perf_counter()
    while state.step < job.steps:
        factor = cosine_with_warmup(
            state.step, job.steps, job.warmup_epochs * job.steps_per_epoch, job.cosine
        )
        rate = scale_rates(state.optimiser, factor)
        asked = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - asked
        epoch = state.step // job.steps_per_epoch
        pair = job.schedule.pair(epoch, state.step, job.seed)
        terms = train_step(model, state.optimiser, batch, pair, epoch, job, context)
        check_finite(terms, objective, state.step, pair)
        state.optimiser.step()
        objective.after_step(state.step, job.steps)
        state.step += 1
        state.log.add(terms, pair, batch.starts.size, waited, time.perf_counter() - began)
        if state.step % job.steps_per_epoch == 0:
            log, state.log = state.log, EpochLog()
            on_epoch(log.metrics(epoch + 1, state.step, rate, context.world_size), epoch + 1)
        else:
            on_step()
        began = time.perf_counter()  # writing checkpoints is not part of a step
    check_weights("the network after its last step", objective)


def distribute(objective: Objective, context: Context) -> tuple[Objective, nn.Module]:
    """The objective as ``context`` needs it, and the module whose call averages gradients over the
    workers.
    """
    if context.world_size == 1:
        return objective, objective
    objective.gather = gather
    return objective, data_parallel(objective)


def train_step(
    model: nn.Module,
    optimiser: Optimizer,
    batch: Batch,
    pair: tuple[int, int],
    epoch: int,
    job: PretrainFit,
    context: Context,
) -> dict[str, float]:
    """Forward and backward of one step: the terms of the loss and the gradient's norm. The
    gradients are left in the parameters.
    """
    views = [
        view_of(batch, which, order, epoch, job, context.device) for which, order in enumerate(pair)
    ]
    with torch.autocast(context.device.type, dtype=torch.bfloat16, enabled=job.precision == "bf16"):
        terms = model(*views, torch.from_numpy(batch.starts))
    optimiser.zero_grad(set_to_none=True)
    terms["loss"].backward()
    terms["gradient_norm"] = get_total_norm(
        [p.grad for p in model.parameters() if p.grad is not None]
    )
    # One transfer for all terms: reading them one by one would make a GPU wait as often.
    values = torch.stack([term.detach().float() for term in terms.values()]).tolist()
    return dict(zip(terms, values, strict=True))


def view_of(
    batch: Batch, which: int, order: int, epoch: int, job: PretrainFit, device: torch.device
) -> Tensor:
    """View ``which`` (0 or 1) of a batch, float32 ``[B * K / 2, C, T, S, S]`` on ``device``: clips
    0, 2, ... or 1, 3, ...

    The clips of a video come in random order in time, so which of them are differentiated says
    nothing about that order.
    """
    clips = np.arange(which, batch.starts.shape[1], 2)
    frames = torch.from_numpy(batch.clips[:, which::2, : job.frames + order]).to(
        device, non_blocking=True
    )
    pixels = frames.flatten(0, 1).permute(0, 4, 1, 2, 3)
    keys = key(Use.AUGMENT, job.seed, epoch, batch.rows[:, None], clips).reshape(-1)
    return make_view(
        pixels,
        np.repeat(batch.sizes, len(clips), axis=0),
        keys,
        order,
        job.frames,
        job.augment,
        which,
        job.view_length,
    )


def check_finite(
    terms: dict[str, float], objective: nn.Module, step: int, pair: tuple[int, int]
) -> None:
    """Raise TrainingError, naming the step, the pair and the largest gradient, unless all terms and
    the gradient are finite.
    """
    bad = [name for name, value in terms.items() if not np.isfinite(value)]
    if not bad:
        return
    which = "loss" if "loss" in bad else "gradient" if "gradient_norm" in bad else bad[0]
    # A gradient that is not a number counts as larger than any that is.
    largest = {
        n: float(p.grad.abs().max().nan_to_num(nan=torch.inf, posinf=torch.inf))
        for n, p in objective.named_parameters()
        if p.grad is not None
    }
    name = max(largest, key=largest.__getitem__)
    values = ", ".join(f"{term} {value:g}" for term, value in terms.items())
    raise TrainingError(
        f"the {which} is not finite at step {step} with orders {pair}: {values}; the largest"
        f" gradient is {largest[name]:g}, of {name}; nothing was updated by this step"
    )
