"""``vididi config``."""

from __future__ import annotations

import pytest
import yaml

from vididi.cli import main
from vididi.commands.keys import find_keys
from vididi.components import COMPONENTS, options_model, resolve
from vididi.config import build_config
from vididi.sweep_keys import configuration_keys


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["config", *arguments]) == 0
    return capsys.readouterr().out


def test_a_key_is_said_with_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "prepare.short_side") == (
        "prepare.short_side\n"
        "  type     whole number of at least 8 and at most 16384\n"
        "  default  150\n"
        "  meaning  shorter side\n"
        "  unit     pixels\n"
        "  source   ViDiDi E.1\n"
    )


def test_short_names_sections_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "order").startswith("schedule.order\n  type     whole number")
    section = printed(capsys, "training")
    assert "training.epochs\n" in section
    assert "training.checkpoint_steps\n" in section
    assert "backbone.width (of r3d_tiny)\n" in printed(capsys, "backbone.width")
    share = printed(capsys, "data.test_share")
    assert share.startswith("data.test_share (of folder, csv)\n  type     number or null\n")
    assert "meaning  of each class's videos, held out in whole groups" in share
    assert "type     one of simclr, byol, vicreg, " in printed(capsys, "framework")


def test_a_key_that_must_be_given_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "default  (must be given)" in printed(capsys, "data.list")


def test_an_unknown_key_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "clip.strides"]) == 2
    assert "clip.strides: unknown key (did you mean 'clip.stride'?)" in capsys.readouterr().err


def test_every_key_and_option_is_found() -> None:
    keys = [key for key in configuration_keys() if not key.endswith(".*")]
    keys += [
        f"{section}.{option}"
        for section, entries in COMPONENTS.items()
        for entry in entries.values()
        for option in options_model(entry).model_fields
    ]
    for key in keys:
        assert {about.name for about in find_keys(key)} == {key}


def test_the_defaults_are_those_that_a_run_would_have(capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load(printed(capsys, "--defaults"))
    assert values == resolve(build_config({})).to_dict()
    assert resolve(build_config(values)) == resolve(build_config({}))
