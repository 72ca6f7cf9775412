"""Optimisers without torch's compiler, which nothing here uses.

torch marks some methods of every optimiser as not to be compiled, and at the first call of one
imports its whole compiler for that: 1.2 s of CPU in each process that makes an optimiser, and a
sweep has many.
"""

from __future__ import annotations

from torch.optim import Optimizer


def leave_compiler_out() -> None:
    """Say of these methods, as torch itself would after the import, that they run as they are.

    The mark is torch's own (``torch._compile``), not of its public interface. A torch without it
    imports its compiler as before.
    """
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        method = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if method is not None and not hasattr(method, "__dynamo_disable"):
            # As an attribute it would be mangled in a class alone.
            setattr(method, "__dynamo_disable", method)
