"""Batch normalisation with running statistics of its own for each order of derivative.

In training every view is normalised by its own batch, so orders share nothing there but the running
statistics, which follow whatever was fed last: with momentum 0.1 there is hardly 4% left of what is
older than 32 steps. With one set of statistics for all orders, an encoder that last saw derivatives
normalises frames by what derivatives have. Here weights, and the scale and shift of normalisation,
are shared by all orders, and statistics are not (as domains have their own in Li et al., Revisiting
Batch Normalization For Practical Domain Adaptation, 2017).

A normalisation keeps the statistics of frames where torch keeps them, so that a network is one of
frames for whoever reads its weights, and those of the other orders in three more buffers. Whoever
feeds a network says of which order a view is:

    with known_orders((view, 1)):
        features = encoder(view)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Literal, get_type_hints

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

MOST_ORDER = 9  # a configuration allows no more
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
SUFFIX = "_by_order"  # of the buffers with the statistics of orders 1 to MOST_ORDER
Norm = Literal["shared", "per_order"]
MakeNetwork = Callable[..., tuple[Any, int]]

_known: ContextVar[tuple[tuple[Tensor, int], ...]] = ContextVar("known orders", default=())


@contextmanager
def known_orders(*views: tuple[Tensor, int]) -> Iterator[None]:
    """Within it, networks know of which order each of these views ``[B, 3, T, H, W]`` is.

    Views are told apart by identity: a copy is another view. Outside, every view is of order 0.
    """
    token = _known.set(views)
    try:
        yield
    finally:
        _known.reset(token)


@contextmanager
def also_known(batch: Tensor) -> Iterator[None]:
    """Within it, a batch of several views is one of frames: who takes it apart knows their orders.

    Where nothing is said of orders, nothing is.
    """
    with known_orders(*_known.get(), (batch, 0)):
        yield


def order_of(view: Tensor) -> int:
    """The order of a view; 0, which is frames, where nothing is said of orders.

    Raises:
        ValueError: orders are said of other views, and not all are the same.
    """
    known = _known.get()
    orders = {order for _, order in known}
    of_view = {order for other, order in known if other is view} or orders or {0}
    if len(of_view) > 1:
        raise ValueError(
            "norm: 'per_order' is not valid with a network that is fed something else than a view"
            f" as it was given, of orders {sorted(orders)}: nothing says of which order it is; it"
            " is 'shared'"
        )
    (order,) = of_view
    return order


@contextmanager
def statistics_of_order(network: nn.Module, view: Tensor) -> Iterator[None]:
    """Within it, the normalisations of a network use and update the statistics of a view's order.

    In evaluation an order of which training showed no view has the statistics of the nearest one
    that it showed, of two the lower.

    Raises:
        ValueError: the order is not known, or above MOST_ORDER.
    """
    norms = [module for module in network.modules() if f"running_mean{SUFFIX}" in module._buffers]
    order = _order_to_use(norms[0], order_of(view)) if norms else 0
    if not order:
        yield
        return
    frames = [{name: norm._buffers[name] for name in STATISTICS} for norm in norms]
    for norm in norms:
        for name in STATISTICS:
            rows = norm._buffers[f"{name}{SUFFIX}"]
            assert rows is not None
            norm._buffers[name] = rows[order - 1]  # a view of the row: updates go there
    try:
        yield
    finally:
        for norm, kept in zip(norms, frames, strict=True):
            norm._buffers.update(kept)


def _order_to_use(norm: nn.Module, order: int) -> int:
    if not 0 <= order <= MOST_ORDER:
        raise ValueError(f"order: {order} is not valid; it is 0 to {MOST_ORDER}")
    if norm.training:
        return order
    frames, others = (norm._buffers[name] for name in (STATISTICS[2], f"{STATISTICS[2]}{SUFFIX}"))
    assert frames is not None
    assert others is not None
    shown = [k for k, count in enumerate([int(frames), *others.tolist()]) if count]
    if order in shown or not shown:
        return order
    return min(shown, key=lambda k: (abs(k - order), k))


def separate_statistics(network: nn.Module) -> None:
    """Give each normalisation that has running statistics a set for each order; all begin alike."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            for name in STATISTICS:
                value = module._buffers[name]
                assert value is not None
                rows = value.expand(MOST_ORDER, *value.shape).clone()
                module.register_buffer(f"{name}{SUFFIX}", rows)


def one_set_of_statistics(network: nn.Module) -> None:
    """Take the statistics of all orders but frames away."""
    for module in network.modules():
        for name in STATISTICS:
            module._buffers.pop(f"{name}{SUFFIX}", None)


def keep_frames_statistics(network: nn.Module) -> None:
    """Leave one set of statistics, those that frames have in evaluation: what is fed frames alone
    gives the same features, and needs no more.
    """
    for norm in network.modules():
        if f"{STATISTICS[0]}{SUFFIX}" in norm._buffers and (order := _order_to_use(norm, 0)):
            for name in STATISTICS:
                rows, own = norm._buffers[f"{name}{SUFFIX}"], norm._buffers[name]
                assert rows is not None
                assert own is not None
                own.copy_(rows[order - 1])
    one_set_of_statistics(network)


def with_norm(entry: MakeNetwork) -> MakeNetwork:
    """A backbone's entry with one more option in its signature.

    norm: ``shared`` has one set of running statistics for all orders of derivative, ``per_order``
        one for each.

    The entry raises ValueError if it is neither.
    """

    @wraps(entry)
    def make(*, norm: Norm = "shared", **options: Any) -> tuple[Any, int]:
        if norm not in ("shared", "per_order"):
            raise ValueError(f"norm: {norm!r} is not valid; it is 'shared' or 'per_order'")
        network, width = entry(**options)
        if norm == "per_order":
            separate_statistics(network)
        return network, width

    signature = inspect.signature(entry)
    added = inspect.Parameter(
        "norm", inspect.Parameter.KEYWORD_ONLY, default="shared", annotation=Norm
    )
    make.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])  # type: ignore[attr-defined]
    make.__annotations__ = get_type_hints(entry) | {"norm": Norm}
    return make
