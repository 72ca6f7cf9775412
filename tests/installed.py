"""The checkout's wheel, installed beside the dependencies where the checkout is not seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def install_wheel(place: Path) -> Path:
    """Build the wheel under ``place`` and install it there, in an environment that sees this one's
    libraries but not what is installed here by links.

    Returns:
        the environment's folder of programs, with ``python`` and ``vididi``.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # Of a copy: setuptools builds in the folder that it is given, and takes what it finds there
    # from before.
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "tests")
    source = shutil.copytree(REPO, place / "source", ignore=ignored)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(place), str(source)], check=True)
    (wheel,) = place.glob("*.whl")
    venv.create(place / "venv", symlinks=True)
    programs = place / "venv" / "bin"
    at = ["--python", str(programs / "python")]  # so that ``vididi`` is started by that one
    subprocess.run([*pip, *at, "install", "--no-deps", str(wheel)], check=True)
    (site,) = (place / "venv" / "lib").glob("python*/site-packages")
    libraries = sysconfig.get_paths()["purelib"]
    (site / "libraries.pth").write_text(libraries)  # .pth files in there are not followed
    return programs


def outside_environment(place: Path) -> dict[str, str]:
    """The environment variables of a user who has no checkout, and a cache under ``place``."""
    left_out = ("PYTHONPATH", "COLUMNS", "LINES", "RAY_ADDRESS")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "VIDIDI_CACHE": str(place / "cache"), "TERM": "xterm-256color"}
