"""The dependencies can be installed where the README says: resolved, not installed, for a platform
that is not this one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

# pip takes wheels for another platform, but evaluates markers such as sys_platform == "linux" for
# its own.
PIP_ELSEWHERE = """
import sys
from pip._vendor.packaging import markers

here = markers.default_environment()
markers.default_environment = lambda: {**here, "sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"}
from pip._internal.cli.main import main

sys.exit(main(sys.argv[1:]))
"""
NO_INDEX = (
    "from versions: none",
    "Network is unreachable",
    "Temporary failure in name resolution",
    "Connection refused",
    "Max retries",
)


def pip_elsewhere(requirements: list[str], report: Path) -> subprocess.CompletedProcess[str]:
    options = (
        "install --dry-run --quiet --ignore-installed --only-binary=:all: --platform"
        " macosx_14_0_arm64 --python-version 3.11"
    )
    command = [
        sys.executable,
        "-c",
        PIP_ELSEWHERE,
        *options.split(),
        "--target",
        str(report.parent),
        "--report",
        str(report),
    ]
    return subprocess.run([*command, *requirements], capture_output=True, text=True, timeout=300)


def test_dependencies_resolve_for_macos_on_apple_silicon(repo_root: Path, tmp_path: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"]
    done = pip_elsewhere(requirements, tmp_path / "report.json")
    if done.returncode:
        probe = pip_elsewhere(["numpy"], tmp_path / "probe.json")
        if probe.returncode and any(sign in probe.stderr for sign in NO_INDEX):
            pytest.skip("no package index can be reached from here")
    assert done.returncode == 0, done.stderr
    found = {
        item["metadata"]["name"].lower(): item["download_info"]["url"]
        for item in json.loads((tmp_path / "report.json").read_text())["install"]
    }
    assert "decord" not in found, "it has no wheel for that platform"
    assert {"av", "torch", "ray", "pyarrow", "simplejpeg"} <= set(found)
    assert not [
        url
        for url in found.values()
        if "linux" in url or "win" in url.rsplit("/", 1)[1].replace("darwin", "")
    ]
