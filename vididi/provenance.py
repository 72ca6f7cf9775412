"""Which code and which machine measure: what a result.json says beside its numbers.

No part of any name or identity. Another machine gives other digits: sums are taken in another order
where the processor has other instructions.
"""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from vididi import __version__

_PACKAGE = Path(__file__).resolve().parent
GIT_TIMEOUT_S = 20.0


def measured_by() -> dict[str, Any]:
    """Versions, commit and machine of this process."""
    import torch

    return {
        "versions": {
            "vididi": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "commit": code_commit(),
        "machine": machine(),
    }


@lru_cache
def code_commit() -> str | None:
    """The commit of the checkout that the package lies in, with ``-dirty`` after it where tracked
    files have changed since; None for an installed package.

    A package that is installed somewhere inside another project's checkout has no commit either.
    """
    if not (_PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command,
            cwd=_PACKAGE.parent,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@lru_cache
def machine() -> dict[str, Any]:
    """What of this machine numbers and times depend on; nothing that names it."""
    import torch

    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    """The processor's model, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError):
        return None
