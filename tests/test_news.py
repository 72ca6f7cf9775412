"""What a run tells is on standard error, and reaches those who listen."""

from __future__ import annotations

import pytest

from vididi.news import tell, telling


def test_what_is_told_is_heard_while_somebody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []
    with telling(heard.append):
        tell("one: set aside")
    tell("two: goes on")
    assert heard == ["one: set aside"]
    assert capsys.readouterr().err == "one: set aside\ntwo: goes on\n"
