"""The wheel: built, installed beside the dependencies where the checkout is not seen, and used from
another folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that holds the wheel, and sees this one's libraries but not what is
    installed here by links.
    """
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # Of a copy: setuptools builds in the folder that it is given, and takes what it finds there
    # from before.
    source = shutil.copytree(
        REPO, place / "source", ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests")
    )
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(place), str(source)], check=True)
    (wheel,) = place.glob("*.whl")
    venv.create(place / "venv", symlinks=True)
    (site,) = (place / "venv" / "lib").glob("python*/site-packages")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    (site / "libraries.pth").write_text(
        sysconfig.get_paths()["purelib"]
    )  # .pth files in there are not followed
    return place / "venv" / "bin" / "python"


def vididi(python: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "VIDIDI_CACHE": str(place / "cache")
    }
    return subprocess.run(
        [python, "-m", "vididi.cli", *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_code_is_the_wheel_s(python: Path, tmp_path: Path) -> None:
    code = "import vididi, vididi.shipped as s; print(vididi.__file__, s.SWEEPS, s.PAPERS)"
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert [Path(path).is_relative_to(python.parents[1]) for path in done.stdout.split()] == [
        True
    ] * 3


def test_a_shipped_sweep_is_planned_from_another_folder(python: Path, tmp_path: Path) -> None:
    done = vididi(python, tmp_path, "sweep", "smoke", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "3 cells" in done.stdout


def test_a_table_is_printed_from_another_folder(python: Path, tmp_path: Path) -> None:
    done = vididi(
        python,
        tmp_path,
        "table",
        "vididi_table_6",
        str(REPO / "tests" / "analysis" / "frozen_sweep" / "every"),
        "--out",
        "out",
    )
    assert done.returncode == 0, done.stderr
    assert "ViDiDi Table 6" in done.stdout
    assert (tmp_path / "out" / "vididi_table_6.md").is_file()
