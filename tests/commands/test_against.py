"""Which arm a sweep's own table compares with."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from vididi.commands.running import baseline_of
from vididi.errors import ConfigError
from vididi.sweep import expand, load_sweep

TWO = "name: two\narms: {first: {label: First}, second: {label: Second}}\n"


def against(tmp_path: Path, text: str, asked: str | None) -> str | None:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    sweep = load_sweep(path)
    return baseline_of(Namespace(against=asked), sweep, expand(sweep))


def test_it_is_the_first_of_the_file_or_the_one_asked_for(tmp_path: Path) -> None:
    assert against(tmp_path, TWO, None) == "first"
    assert against(tmp_path, TWO, "second") == "second"
    assert against(tmp_path, "name: one\naxes: {training.epochs: [1, 2]}\n", None) == "one"


def test_an_arm_that_the_sweep_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--against: 'third' is not valid; .* first, second"):
        against(tmp_path, TWO, "third")
