"""What is printed: texts of users and of files as they are, but for characters that a terminal
would obey.
"""

from __future__ import annotations

import argparse
import re
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

# Control characters, marks that turn the direction of writing, and halves of characters, which
# names that are not UTF-8 have.
_OBEYED = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def visible(text: str) -> str:
    """A text with its control characters written out, as in ``\\x1b``; lines stay lines, and a tab
    is a space.
    """
    return _OBEYED.sub(
        lambda found: found[0].encode("unicode_escape").decode(),
        text.replace("\r\n", "\n").replace("\t", " "),
    )


def one_line(text: str) -> str:
    """``visible``, with a space for each line break: what a label is in a table."""
    return visible(_BREAKS.sub(" ", text))


def say(*texts: object, file: TextIO | None = None) -> None:
    """``print`` of what is ``visible``."""
    print(*(visible(str(text)) for text in texts), file=file)


class Parser(argparse.ArgumentParser):
    """A parser of arguments, and so those of its commands, whose errors show arguments and never
    obey them.
    """

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(visible(message), file)


class PlainConsole(Console):
    """A console that prints texts as they are: no markup (``[/x]`` in a path), no emoji (``:x:`` in
    a label), no control characters.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text comes by here, that of a table's cells and heads too."""
        return super().render_str(visible(text), **options)
