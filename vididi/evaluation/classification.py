"""A linear classifier on an encoder: linear evaluation, semi-supervised learning and fine-tuning
are one loop with other settings.

Shapes: B videos, T frames, S pixels, D features, K classes, V videos in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from vididi.data.stream import Batch
from vididi.draws import Use, key, permutation
from vididi.evaluation.features import clips_in_a_row
from vididi.evaluation.training_step import check_loss, training_step
from vididi.finite import check_finite, check_weights
from vididi.heartbeat import beat, rest
from vididi.interrupts import check
from vididi.optim import cosine_with_warmup, steps_with_warmup
from vididi.training.context import Context
from vididi.training.distributed import data_parallel, mean_over_workers
from vididi.views import evaluation_view, square_view
from vididi.views.compose import Augment, make_view

Crops = Literal["random", "centre", "three"]
CROP_POSITIONS = {"centre": (0.5,), "three": (0.0, 0.5, 1.0)}  # shares of the longer side


class UnitLength(nn.Module):
    """Features ``[B, D]`` as unit vectors."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale each feature to length 1; one of length 0 stays."""
        return F.normalize(x, dim=-1)


class Classifier(nn.Module):
    """``[B, 3, T, S, S]`` -> logits ``[B, K]``.

    Args:
        frozen: the encoder is not trained, and its batch normalisation keeps its statistics.
        features: ``l2`` gives each feature unit length (CVRL 4.1); ``zscore`` each of the D numbers
            mean 0 and deviation 1 over the batch while training, and by the running averages
            afterwards (CORP 4.1).
    """

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        classes: int,
        frozen: bool,
        features: Literal["as_is", "l2", "zscore"],
        dropout: float,
    ) -> None:
        super().__init__()
        self.encoder, self.frozen = encoder.requires_grad_(not frozen), frozen
        kinds: dict[str, Callable[[], nn.Module]] = {
            "as_is": nn.Identity,
            "l2": UnitLength,
            "zscore": lambda: nn.BatchNorm1d(width, affine=False),
        }
        linear = nn.Linear(width, classes)
        nn.init.normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        self.head = nn.Sequential(kinds[features](), nn.Dropout(dropout), linear)

    @property
    def trained(self) -> nn.Module:
        """The part that changes while training."""
        return self.head if self.frozen else self

    def train(self, mode: bool = True) -> Classifier:
        """As of any module, but a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, clips: Tensor) -> Tensor:
        """Clips ``[B, 3, T, S, S]`` -> logits ``[B, K]``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.encoder(clips)
        return self.head(features.float())


# --- Which videos have labels ---------------------------------------------------------------------


def labelled_rows(
    rows: NDArray[np.int64],
    labels: NDArray,
    share: float,
    balance: Literal["classes", "proportions"],
    seed: int,
) -> NDArray[np.int64]:
    """A share of ``rows``, drawn from the seed, at least one of each class.

    A larger share of the same seed contains a smaller one.

    Args:
        rows: ``[V]`` index rows; labels: ``[V]``.
        balance: ``classes`` takes equally many of each class, or all where a class has fewer (CVRL
            4.1); ``proportions`` takes the share of each class (CORP 4.1).

    Returns:
        the chosen index rows in rising order.
    """
    if share == 1:
        return np.sort(rows)

    classes, counts = np.unique(labels, return_counts=True)
    chosen = []
    for label, count in zip(classes, counts, strict=True):
        target = share * (len(rows) / len(classes) if balance == "classes" else count)
        order = permutation(int(count), Use.LABELS, seed, int(label))
        chosen.append(rows[labels == label][order[: max(1, round(target))]])
    return np.sort(np.concatenate(chosen))


# --- Training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassifierFit:
    """How a classifier is trained; plain values and pure functions."""

    epochs: int
    steps_per_epoch: int
    warmup_epochs: int
    # Epochs after which the rate falls to a tenth; None: half a cosine.
    rate_steps: tuple[int, ...] | None
    frames: int
    augment: Augment
    seed: int
    precision: str
    cosine: Literal["remaining", "whole"] = "remaining"

    @property
    def steps(self) -> int:
        """Of all epochs."""
        return self.epochs * self.steps_per_epoch

    def rate(self, step: int) -> float:
        """The factor on the base learning rate at ``step``, from 0."""
        warmup = self.warmup_epochs * self.steps_per_epoch
        if self.rate_steps is None:
            return cosine_with_warmup(step, self.steps, warmup, self.cosine)
        return steps_with_warmup(
            step, [epoch * self.steps_per_epoch for epoch in self.rate_steps], warmup=warmup
        )


# (steps done, what gives the metrics of the epoch's steps so far; all workers call that alike)
OnStep = Callable[[int, Callable[[], Tensor]], None]


def train_classifier(
    model: Classifier,
    optimiser: Optimizer,
    batches: Iterator[Batch],
    labels: NDArray[np.int64],
    fit: ClassifierFit,
    start: int,
    context: Context,
    on_epoch: Callable[[dict[str, float | int]], None],
    on_step: OnStep = lambda step, so_far: None,
    so_far: Tensor | None = None,
) -> None:
    """Train from step ``start`` to the last one.

    ``batches`` begin at that step, and are this worker's equal part of each.

    Args:
        labels: of every index row.
        on_epoch: called on every worker after each epoch with its metrics; ``train_top1`` is of the
            augmented clips, as they came.
        on_step: called on every worker after every other step, with the steps done and what makes
            ``so_far``, loss and top-1 accuracy of each step of the epoch: ``[steps, 2]``.

    Raises:
        TrainingError: the loss is not finite, or after the last step a weight or a statistic of the
            whole model.
    """
    parallel = model if context.world_size == 1 else data_parallel(model)
    model.train()
    step_metrics = [] if so_far is None else list(so_far.to(context.device))

    for step in range(start, fit.steps):
        epoch = step // fit.steps_per_epoch
        rate, measured = _step(parallel, optimiser, next(batches), labels, fit, step, context)
        step_metrics.append(measured)
        beat()

        if (step + 1) % fit.steps_per_epoch:
            on_step(step + 1, partial(_steps_over_workers, step_metrics, context))
            continue
        rest()
        mean, top1 = _over_workers(torch.stack(step_metrics).mean(dim=0), context).tolist()
        check_loss(mean, epoch + 1)
        step_metrics = []
        on_epoch(
            {"epoch": epoch + 1, "step": step + 1, "loss": mean, "train_top1": top1, "lr": rate}
        )
        model.train()  # on_epoch may have tested it
    check_weights("the classifier after its last step", model)


def _step(
    model: nn.Module,
    optimiser: Optimizer,
    batch: Batch,
    labels: NDArray[np.int64],
    fit: ClassifierFit,
    step: int,
    context: Context,
) -> tuple[float, Tensor]:
    """The learning rate; and loss and top-1 accuracy ``[2]``."""
    target = torch.from_numpy(labels[batch.rows]).to(context.device)
    view = _view(batch, step // fit.steps_per_epoch, fit, context.device)
    seed = int(key(Use.CLASSIFIER, fit.seed, step, context.rank)) >> 1
    loss = partial(F.cross_entropy, target=target)
    rate, logits, value = training_step(
        model, optimiser, (view,), loss, fit.rate(step), seed, fit.precision
    )
    return rate, torch.stack([value, (logits.argmax(dim=1) == target).float().mean()])


def _steps_over_workers(step_metrics: list[Tensor], context: Context) -> Tensor:
    return _over_workers(torch.stack(step_metrics), context)


def _over_workers(x: Tensor, context: Context) -> Tensor:
    return x if context.world_size == 1 else mean_over_workers(x)


def _view(batch: Batch, epoch: int, fit: ClassifierFit, device: torch.device) -> Tensor:
    """One augmented clip of frames of each video."""
    pixels = (
        torch.from_numpy(batch.clips[:, 0]).to(device, non_blocking=True).permute(0, 4, 1, 2, 3)
    )
    keys = key(Use.AUGMENT, fit.seed, epoch, batch.rows)
    return make_view(pixels, batch.sizes, keys, 0, fit.frames, fit.augment, 0)


# --- Testing --------------------------------------------------------------------------------------


@torch.inference_mode()
def predict(
    model: nn.Module,
    batches: Iterator[Batch],
    count: int,
    size: int,
    crops: Crops,
    crop: float,
    seed: int,
    device: torch.device,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Class probabilities of the next ``count`` batches' videos, averaged over clips and crops.

    Args:
        crop, seed: of random crops, see evaluation_view.

    Returns:
        index rows ``[V]`` and probabilities ``[V, K]``, in the batches' order; NaN where a logit
        was not finite.
    """
    model.eval()
    rows, scores = [], []
    for _ in range(count):
        check()
        batch = next(batches)
        pixels, sizes, keys = clips_in_a_row(batch, batch.clips, seed, device)
        views = (
            [evaluation_view(pixels, sizes, keys, size, crop)]
            if crops == "random"
            else (square_view(pixels, sizes, size, position) for position in CROP_POSITIONS[crops])
        )
        probabilities = torch.stack([_probabilities(model(view).float()) for view in views]).mean(
            dim=0
        )

        scores.append(probabilities.view(*batch.clips.shape[:2], -1).mean(dim=1).cpu().numpy())
        rows.append(batch.rows)
        beat()
    rest()
    return np.concatenate(rows), np.concatenate(scores)


def _probabilities(logits: Tensor) -> Tensor:
    """Softmax ``[B, K]``; NaN for all classes where a logit is not finite.

    softmax alone would make 0 or 1 of it where it can.
    """
    return logits.softmax(dim=1).where(logits.isfinite().all(dim=1, keepdim=True), torch.nan)


def true_class_ranks(scores: NDArray, labels: NDArray) -> NDArray[np.int64]:
    """How many classes score higher than the true one, ``[V]``.

    Of equal scores the lower class number counts as higher.

    Args:
        scores: ``[V, K]``; labels: ``[V]`` class numbers.

    Raises:
        NotFiniteError: a score is not finite.
        ValueError: a label is not a class number.
    """
    check_finite("accuracy", scores=scores)
    if (invalid := labels[(labels < 0) | (labels >= scores.shape[1])]).size:
        raise ValueError(
            f"labels: {invalid[0]} is not one of the {scores.shape[1]} classes, which are numbered"
            " from 0"
        )
    true_scores = scores[np.arange(len(labels)), labels][:, None]
    ties_before = (scores == true_scores) & (np.arange(scores.shape[1]) < labels[:, None])
    return ((scores > true_scores) | ties_before).sum(axis=1)


def accuracy(
    ranks: NDArray[np.int64], labels: NDArray, classes: dict[int, str]
) -> tuple[dict[str, float], dict[str, float]]:
    """``top1``, and ``top5`` of more than 5 classes; and top-1 accuracy of each tested class.

    Args:
        classes: names by label of the classes that have videos.
    """
    tops = {f"top{k}": float((ranks < k).mean()) for k in (1, 5) if k == 1 or len(classes) > 5}
    each = {
        name: float((ranks[labels == label] < 1).mean())
        for label, name in classes.items()
        if (labels == label).any()
    }
    return tops, each
