"""A disk of a few megabytes, which is soon full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[Path]:
    """``place``, a new folder, with so much room; a test that may not mount is skipped."""
    place.mkdir()
    options = f"size={size_bytes}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here: that takes a superuser")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def enlarge(place: Path, size_bytes: int) -> None:
    """Give the disk more room."""
    command = ["mount", "-o", f"remount,size={size_bytes}", str(place)]
    subprocess.run(command, check=True, capture_output=True)
