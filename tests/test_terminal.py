"""Texts of users and files on a terminal: shown as they are, and never obeyed."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import run_sweep
from vididi.analysis import compare, paper_table
from vididi.cell_status import CellState, states_table
from vididi.cli import main
from vididi.screen import EvaluationScreen, PrepareBar, SweepScreen
from vididi.terminal import PlainConsole, one_line, say, visible

ANY = st.text(st.characters(), max_size=20) | st.text(
    st.sampled_from("a[]/:x\\\x1b\x9b\t\r\n\u202e\ud800"), max_size=12
)
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NASTY = [
    "[/x]",
    "[bold]a",
    ":boom:",
    "\x1b]0;owned\x07",
    "a\rb",
    "\udcff",
    "a\\[b]",
    "[link=file:///x]y[/link]",
]


def printed(label: str, terminal: bool = False) -> str:
    """What all that prints labels says of one."""
    console = PlainConsole(
        file=io.StringIO(), width=400, force_terminal=terminal, color_system=None
    )
    console.print(f"{label}: finished")
    screen = SweepScreen(console)
    screen.add(label, "finished", 3, {"seconds": 1.0})
    with screen:
        screen.start(label)
        screen.report(label, {"epoch": 1})
        screen.end(label, "failed", None, f": {label}")
    console.print(screen.table())
    console.print(states_table([CellState(label, 3, "failed", 1, {}, label)]))
    PrepareBar(console, label)(1, 1, 0)
    with EvaluationScreen(console) as bar:
        bar.begin(label, 3)
        bar.report({"epoch": 1, "loss": 0.5})
        bar.end({"metrics": {"a": 0.5}, "untrained": None, "notes": [label]})
    say(label, file=console.file)
    return console.file.getvalue()  # type: ignore[attr-defined]


def with_examples(test: Any) -> Any:
    for label in NASTY:
        test = example(label)(test)
    return test


@with_examples
@given(ANY)
@settings(max_examples=40, deadline=None)
def test_any_label_is_printed_and_none_is_obeyed(label: str) -> None:
    text = printed(label)
    assert not OBEYED.search(text)
    assert visible(label).rstrip() in text


@pytest.mark.parametrize("label", NASTY)
def test_a_label_in_a_live_table_or_a_bar_is_no_markup(label: str) -> None:
    text = re.sub(
        r"\x1b\[[?0-9;]*[a-zA-Z]|\r", "", printed(label, terminal=True)
    )  # what rich itself writes
    assert not OBEYED.search(text)
    assert one_line(label) in text


def test_an_error_names_a_path_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "[bold]x[" / "x]:boom:\x1b[2J"
    assert main(["pretrain", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert r"[bold]x[/x]:boom:\x1b[2J: No such file or directory" in said
    assert not OBEYED.search(said)


@pytest.mark.parametrize(
    "program",
    [main, run_sweep.main, compare.main, paper_table.main],
    ids=lambda program: program.__module__,
)
def test_an_option_that_is_none_is_shown_and_not_obeyed(
    program: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        program(["evaluate", "retrieval", "\x1b[2J", "--\x1b]0;owned\x07\u202e"])
    said = capsys.readouterr().err
    assert r"--\x1b]0;owned\x07\u202e" in said or r"'\x1b[2J'" in said
    assert not OBEYED.search(said)
