"""The wheel: built, installed beside the dependencies where the checkout is not seen, and used from
another folder.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from installed import REPO, install_wheel, outside_environment


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the environment that holds the wheel."""
    return install_wheel(tmp_path_factory.mktemp("wheel")) / "python"


def vididi(python: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python.with_name("vididi"), *arguments],
        cwd=place,
        env=outside_environment(place),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_code_is_the_wheel_s(python: Path, tmp_path: Path) -> None:
    code = "import vididi, vididi.shipped as s; print(vididi.__file__, s.SWEEPS, s.PAPERS)"
    done = subprocess.run(
        [python, "-c", code],
        cwd=tmp_path,
        env=outside_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
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
