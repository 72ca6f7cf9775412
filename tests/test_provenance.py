"""Which code and which machine a result was measured by."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vididi import __version__, provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, whose folder ``vididi`` stands for the package."""
    package = tmp_path / "repository" / "vididi"
    package.mkdir(parents=True)
    (package / "code.py").write_text("x = 1\n")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "one"],
    ):
        subprocess.run(["git", "-C", package.parent, *command], check=True)
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    provenance.code_commit.cache_clear()
    yield package
    provenance.code_commit.cache_clear()


def test_the_commit_is_the_checkout_s(checkout: Path) -> None:
    head = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert provenance.code_commit() == head


def test_changes_since_the_commit_are_said(checkout: Path) -> None:
    (checkout / "code.py").write_text("x = 2\n")
    assert str(provenance.code_commit()).endswith("-dirty")


def test_an_installed_package_has_no_commit_even_inside_another_repository(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout.parent / "lib" / "site-packages" / "vididi"
    installed.mkdir(parents=True)
    monkeypatch.setattr(provenance, "_PACKAGE", installed)
    assert provenance.code_commit() is None


def test_the_machine_is_what_numbers_depend_on_and_nothing_that_names_it() -> None:
    machine = provenance.machine()
    assert set(machine) == {"processor", "instructions", "cores", "memory_gb", "system", "gpu"}
    assert machine["processor"]
    assert machine["cores"] >= 1
    import platform

    assert platform.node() not in str(machine)


def test_what_a_result_says_of_both() -> None:
    said = provenance.measured_by()
    assert set(said) == {"versions", "commit", "machine"}
    assert said["versions"]["vididi"] == __version__
