"""How workers that train together end at the same step when one of them was asked to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

import torch
import torch.distributed as dist

from vididi.heartbeat import rest
from vididi.interrupts import AskedToStop, asked, request_stop
from vididi.training.context import Context, barrier

EVERY_S = 1.0  # between looks at what other workers were asked
MOST_STEPS = 1000


class StopRequest:
    """What a signal, or a sweep's driver, asked of any of the workers.

    Every worker looks after every step. Alone that is a look at a variable. Together they exchange
    two numbers about once in EVERY_S: the signal that each heard of, and after how many steps each
    would look again, of which all take the fewest. So the looks come at the same steps, and cost
    steps of any length little.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.every = self.left = 1  # steps between looks; steps until the next one
        self.looked = time.monotonic()

    def heard(self) -> bool:
        """Whether any worker was asked to end; the same on every worker."""
        if self.context.world_size == 1:
            return asked() is not None
        self.left -= 1
        if self.left:
            return False
        now = time.monotonic()
        per_step = max(now - self.looked, 1e-6) / self.every
        wanted = min(max(int(EVERY_S / per_step), 1), MOST_STEPS)
        # The largest of both: any signal, and minus the fewest steps.
        numbers = torch.tensor([asked() or 0, -wanted], device=self.context.device)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        number, fewest = numbers.tolist()
        self.every = self.left = -fewest
        self.looked = now
        if number:
            request_stop(number)
        return bool(number)

    def end_if_heard(self, save: Callable[[], None] | None) -> None:
        """Call it after every step, on every worker.

        Args:
            save: writes what is gone on from, on rank 0; every worker calls it. None: it is written
                already.

        Raises:
            AskedToStop: a worker was asked to end; rank 0 has written by then.
        """
        if self.heard():
            self.end(save)

    def end(self, save: Callable[[], None] | None) -> NoReturn:
        """What follows where it was heard: it is saved, and every worker raises AskedToStop."""
        rest()
        if save is not None:
            save()
        barrier(self.context)  # a worker that ends has others ended, too
        raise AskedToStop(asked())
