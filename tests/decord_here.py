"""Where decord is tested: on Linux on x86-64, which alone it has wheels for. There it must be
installed, so that its tests cannot be skipped unseen.
"""

from __future__ import annotations

import platform
import sys

import pytest

HAS_WHEEL = sys.platform == "linux" and platform.machine() == "x86_64"
needs_decord = pytest.mark.skipif(not HAS_WHEEL, reason="decord has no wheel for this platform")
