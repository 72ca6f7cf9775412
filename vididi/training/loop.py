"""The training loop, and in ``train_step`` all of one step.

It sees batches, an objective, an optimiser and a context, never where they came from. What a view
is stands in views/compose.py, what the loss is in the objective's file.

Shapes: B videos of this worker, K clips per video, N source frames, C = 3, T frames of a view.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from vididi.backbones import known_orders
from vididi.data.stream import Batch
from vididi.draws import Use, key
from vididi.errors import TrainingError
from vididi.finite import check_weights
from vididi.heartbeat import beat, rest
from vididi.objectives import Objective
from vididi.optim import cosine_with_warmup, decay_penalty, scale_rates
from vididi.pairing import Schedule
from vididi.training.context import Context
from vididi.training.distributed import data_parallel, gather
from vididi.views.compose import Augment, make_view


@dataclass(frozen=True)
class PretrainFit:
    """How long and with what to train; plain values and pure functions.

    Attributes:
        schedule: which pair of orders a step gets.
        augment: an entry of views/augment.py's AUGMENTATIONS; it crops, augments and normalises.
        frames: T of a view of order 0.
        warmup_epochs: over which the learning rate rises linearly.
        cosine: what the cosine of the rate spans, see ``cosine_with_warmup``.
        precision: ``fp32``, or ``bf16`` for autocast of the forward pass.
        view_length: whether views of higher orders have fewer frames, see ``make_view``.
        memory_format: of the views, which is that of the weights.
    """

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
    memory_format: torch.memory_format = torch.channels_last_3d

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.epochs * self.steps_per_epoch


@dataclass
class EpochLog:
    """Sums over one epoch, for its metrics; plain values, which a checkpoint can hold.

    Attributes:
        seconds: of all steps.
        waited: seconds of these in which the next batch was not there yet.
        clips: of this worker.
        terms: each term of the loss, summed over steps.
        pairs: the pairs of orders that came up, such as "10".
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
        """Record one step."""
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
        """The line of metrics.jsonl, with means over the epoch's steps."""
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
    """What changes while training.

    Attributes:
        objective: holds the weights.
        step: how many steps were taken.
        log: the sums of the epoch so far.
    """

    objective: Objective
    optimiser: Optimizer
    step: int = 0
    log: EpochLog = field(default_factory=EpochLog)


def train(
    state: State,
    batches: Iterator[Batch],
    fit: PretrainFit,
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
    model = distribute(state.objective, context)
    state.objective.train()
    began = time.perf_counter()
    while state.step < fit.steps:
        requested = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - requested

        terms, pair, rate = train_step(state, model, batch, fit, context)
        state.log.add(terms, pair, batch.starts.size, waited, time.perf_counter() - began)

        beat()
        if state.step % fit.steps_per_epoch == 0:
            rest()
            epochs_done = state.step // fit.steps_per_epoch
            log, state.log = state.log, EpochLog()
            metrics = log.metrics(epochs_done, state.step, rate, context.world_size)
            # Once an epoch, as it is a pass over all weights; weights that are not finite are
            # check_weights's to name.
            if math.isfinite(penalty := decay_penalty(state.optimiser)):
                metrics["train/regularisation"] = penalty
            on_epoch(metrics, epochs_done)
        else:
            on_step()
        began = time.perf_counter()  # writing checkpoints is not part of a step
    check_weights("the network after its last step", state.objective)


def distribute(objective: Objective, context: Context) -> nn.Module:
    """What to call instead of ``objective``, so that all workers train one model.

    Alone, it is the objective. Else the objective's ``gather`` collects the rows of all workers,
    batch statistics are those of all workers, and gradients are averaged over them.
    """
    if context.world_size == 1:
        return objective
    objective.gather = gather
    return data_parallel(objective)


def train_step(
    state: State, model: nn.Module, batch: Batch, fit: PretrainFit, context: Context
) -> tuple[dict[str, float], tuple[int, int], float]:
    """One step of the optimiser on one batch.

    Args:
        model: of ``state.objective``, see ``distribute``.

    Returns:
        the terms of the loss with the gradient's norm, the pair of orders, the learning rate.

    Raises:
        TrainingError: a term or the gradient is not finite; nothing was updated.
    """
    # What this step is: a function of its number alone, the same on every worker.
    epoch = state.step // fit.steps_per_epoch
    warmup_steps = fit.warmup_epochs * fit.steps_per_epoch
    factor = cosine_with_warmup(state.step, fit.steps, warmup_steps, fit.cosine)
    rate = scale_rates(state.optimiser, factor)
    pair = fit.schedule.pair(epoch, state.step, fit.seed)

    # Batch -> two views -> terms of the loss: the objective's forward.
    view_a = view_of(batch, 0, pair[0], epoch, fit, context.device)
    view_b = view_of(batch, 1, pair[1], epoch, fit, context.device)
    half = torch.autocast(
        context.device.type, dtype=torch.bfloat16, enabled=fit.precision == "bf16"
    )
    with half, known_orders((view_a, pair[0]), (view_b, pair[1])):
        terms = model(view_a, view_b, torch.from_numpy(batch.starts))

    # Loss -> gradient, of which only the norm is taken: nothing is clipped.
    state.optimiser.zero_grad(set_to_none=True)
    terms["loss"].backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    terms["gradient_norm"] = get_total_norm(gradients)
    # One transfer for all terms: reading them one by one would make a GPU wait as often.
    values = torch.stack([term.detach().float() for term in terms.values()]).tolist()
    recorded = dict(zip(terms, values, strict=True))
    check_loss_and_gradient(recorded, state.objective, state.step, pair)

    # Gradient -> weights, and what follows them (BYOL's target network).
    state.optimiser.step()
    state.objective.after_step(state.step, fit.steps)
    state.step += 1
    return recorded, pair, rate


def view_of(
    batch: Batch, view: int, order: int, epoch: int, fit: PretrainFit, device: torch.device
) -> Tensor:
    """View ``view`` (0 or 1) of a batch, float32 ``[B * K / 2, C, T, S, S]`` on ``device``.

    It holds clips 0, 2, ... or 1, 3, ... of each video. They come in random order in time, so which
    of them are differentiated says nothing about that order.
    """
    clip_numbers = np.arange(view, batch.starts.shape[1], 2)
    frames = torch.from_numpy(batch.clips[:, view::2, : fit.frames + order])
    # [B, K / 2, N, H, W, C] -> [B * K / 2, C, N, H, W]
    clips = frames.to(device, non_blocking=True).flatten(0, 1).permute(0, 4, 1, 2, 3)
    sizes = np.repeat(batch.sizes, len(clip_numbers), axis=0)
    keys = key(Use.AUGMENT, fit.seed, epoch, batch.rows[:, None], clip_numbers).reshape(-1)
    made = make_view(clips, sizes, keys, order, fit.frames, fit.augment, view, fit.view_length)
    return made.contiguous(memory_format=fit.memory_format)


def check_loss_and_gradient(
    terms: dict[str, float], objective: nn.Module, step: int, pair: tuple[int, int]
) -> None:
    """Raise TrainingError unless all terms and the gradient's norm are finite.

    It names the step, the pair and the parameter with the largest gradient.
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
