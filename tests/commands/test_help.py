"""``--help`` of every command: it fits a terminal of 80 columns, and has an example that is right."""

from __future__ import annotations

import re

import pytest
from test_docs_commands import ParsedError, parse

import run_sweep
from vididi import cli
from vididi.commands.arguments import COMMANDS as OVER_A_SWEEP
from vididi.commands.results import PICTURES
from vididi.protocols import EVALUATIONS
from vididi.terminal import filled

COMMANDS = [
    [],
    *([name] for texts in cli.HELP.values() for name in texts),
    *(["evaluate", name] for name in (*EVALUATIONS, "ava-map")),
    *(["plot", name] for name in PICTURES),
]


def help_of(
    command: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    program: str = "vididi",
) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    main = cli.main if program == "vididi" else run_sweep.main
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def examples(text: str) -> list[str]:
    """The commands of a help's example, each on one line, without remarks beside them."""
    block = text[re.search(r"(?m)^(example|to begin):", text).start() :]  # type: ignore[union-attr]
    lines = re.sub(r" \\\n *", " ", block.partition("\n\n")[0]).splitlines()
    found = [
        re.search(r"(?:^|: | {2})((?:vididi|python) \S.*?)(?: {3}.*)?$", line) for line in lines
    ]
    return [match[1].partition(" > ")[0] for match in found if match]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_80_columns_and_its_examples_are_right(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(command, capsys, monkeypatch)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "%(" not in text
    assert "%%" not in text
    found = examples(text)
    assert found, "no example"
    assert found[0].startswith(" ".join(["vididi", *command]))
    for example in found:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", "80")
            with pytest.raises(ParsedError):
                parse(example, patch)


@pytest.mark.parametrize("command", OVER_A_SWEEP)
def test_the_help_of_run_sweep_has_examples_of_its_own(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [] if command == "run" else [command]
    text = help_of(words, capsys, monkeypatch, "run_sweep.py")
    assert [line for line in text.splitlines() if len(line) > 80] == []
    for example in examples(text):
        assert example.startswith(" ".join(["python run_sweep.py", *words]))
        with pytest.raises(ParsedError):
            parse(example, monkeypatch)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_argument_of_a_command_is_explained(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option alone on its line is followed by a line that says what it is."""
    lines = help_of(command, capsys, monkeypatch).splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if re.match(r"  (-|[A-Z{])", line) and not re.search(r"\S {2,}\S", line.strip()):
            # Its words; of a command of several, these.
            deep = 4 if line.strip() in ("COMMAND", "PROTOCOL") else 10
            assert following.startswith(" " * deep), line


def test_vididi_alone_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    for words in ("to begin:", "vididi doctor", "vididi sweep smoke", "--help", "--debug"):
        assert words in text


def test_sentences_are_broken_between_words_and_nothing_else_is() -> None:
    path = "/a/long/path/" + "x" * 80
    for whole in (path, "again:  vididi sweep " + "x" * 80, "a" * 20):
        assert filled(whole, 40) == whole
    assert filled("one two three four", 10) == "one two\nthree four"
    assert filled(f"it lies in {path}", 40) == f"it lies in\n{path}"
    assert filled("one two three four", None) == "one two three four"
