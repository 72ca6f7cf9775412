"""Batch statistics of an encoder, recomputed on one order of derivative.

A batch normalisation keeps a running mean and variance of what it saw last: with momentum 0.1 there
is hardly 4% left of what is older than 32 steps. Where training changes what a batch is from epoch
to epoch, as schedules of pairs do, that is the last epoch's pair, not the frames that an evaluation
feeds. Here the statistics are the mean over whole batches of clips of one order, with the weights
as they are ("precise batch normalisation", Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vididi.backbones.norm_by_order import one_set_of_statistics
from vididi.data.stream import Batch
from vididi.evaluation.features import EncoderByOrder, FeatureView
from vididi.heartbeat import beat, rest


def recomputed(
    encoder: nn.Module, batches: Iterator[Batch], count: int, view: FeatureView
) -> EncoderByOrder:
    """Copies of ``encoder`` with statistics of the next ``count`` batches, for each of the view's
    orders; the encoder itself stays as it is.

    Without any batch normalisation the copies are the encoder.
    """
    copies = {order: _averaging(encoder) for order in view.orders}
    for _ in range(count):
        batch = next(batches)
        for order, copy in copies.items():
            with torch.inference_mode():
                copy(view.clips(batch, batch.clips, order, next(copy.parameters()).device))
        beat()
    rest()
    for copy, original in ((copy, encoder) for copy in copies.values()):
        momenta = [module.momentum for module in _normalisations(original)]
        for module, momentum in zip(_normalisations(copy), momenta, strict=True):
            module.momentum = momentum
        copy.eval()
    return EncoderByOrder(copies)


def _averaging(encoder: nn.Module) -> nn.Module:
    """A copy whose normalisations average over all batches to come, and all else is as when it is
    evaluated; of one set of statistics, as it is fed one order alone.
    """
    copy = deepcopy(encoder).eval()
    one_set_of_statistics(copy)
    for module in _normalisations(copy):
        module.reset_running_stats()
        module.momentum = None  # the mean over batches, each with the same weight
        module.train()
    return copy


def _normalisations(encoder: nn.Module) -> list[_BatchNorm]:
    """Those that have statistics, in order."""
    return [
        module
        for module in encoder.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
