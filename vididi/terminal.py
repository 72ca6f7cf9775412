"""What is printed: texts of users and of files as they are, but for characters that a terminal
would obey.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import textwrap
import traceback
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

DEBUG_VARIABLE = "VIDIDI_DEBUG"  # of the environment: where it is set, errors have tracebacks
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


def terminal_width(file: TextIO | None = None) -> int | None:
    """The columns of the terminal that a stream (stdout) is; None where it is none."""
    stream = sys.stdout if file is None else file
    return shutil.get_terminal_size().columns if stream.isatty() else None


def filled(text: str, width: int | None) -> str:
    """A text whose sentences are broken between words to fit a terminal of ``width`` columns.

    What is no sentence stays whole: a word, such as a path; lines with blanks beside each other,
    which are of tables, or name a command to be copied.
    """
    if width is None:
        return text
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        if len(line) > width and "  " not in line.lstrip()
        else line
        for line in text.split("\n")
    )


def say(*texts: object, file: TextIO | None = None) -> None:
    """``print`` of what is ``visible``, ``filled`` on a terminal."""
    line = " ".join(visible(str(text)) for text in texts)
    print(filled(line, terminal_width(file)), file=file)


def say_error(error: Exception, text: str = "") -> None:
    """Say on stderr what is wrong, by ``text`` or the error itself; before it the traceback, where
    ``--debug`` asked for it.
    """
    if os.environ.get(DEBUG_VARIABLE):
        say("".join(traceback.format_exception(error)).rstrip(), file=sys.stderr)
    say(f"error: {text or error}", file=sys.stderr)


class HelpText(argparse.HelpFormatter):
    """Help whose paragraphs are filled to the terminal's width, but for those with indented lines
    or an example, which stay as they are written.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = [
            block
            if re.search(r"(?m)^( |example)", block)
            else super(HelpText, self)._fill_text(block, width, indent)
            for block in text.split("\n\n")
        ]
        return "\n\n".join(blocks)


def _whole_number(text: str) -> int:
    """``int``, whose error is a sentence of a user's words."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


class Parser(argparse.ArgumentParser):
    """A parser of arguments, and so those of its commands, whose errors show arguments and never
    obey them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("formatter_class", HelpText)
        super().__init__(*arguments, **options)
        self.register("type", int, _whole_number)
        self.register("type", float, _number)

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(visible(message), file)


class PlainConsole(Console):
    """A console that prints texts as they are: no markup (``[/x]`` in a path), no emoji (``:x:`` in
    a label), no control characters.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, with each text ``filled`` on a terminal."""
        width = self.width if self.is_terminal else None
        super().print(
            *(filled(thing, width) if isinstance(thing, str) else thing for thing in objects),
            **options,
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text comes by here, that of a table's cells and heads too."""
        return super().render_str(visible(text), **options)
