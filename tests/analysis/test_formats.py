"""Labels come from users and files: whatever is in one, a table shows it and nothing else
happens.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from vididi.analysis.formats import Sheet, escape, write_csv, write_latex, write_markdown
from vididi.analysis.plots import legend_text, pyplot, save, style

MARKDOWN = MarkdownIt("commonmark").enable("table").enable("strikethrough")
ANY = st.text(st.characters(), max_size=20) | st.text(
    st.sampled_from("a1 |\\`*_~<>&;[]()!#=+-@\t\r\n\x1b\u2028é"), max_size=12
)
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NASTY = [
    "a|b",
    "a\\|b",
    "a\\",
    "<script>x</script>",
    "&lt;",
    "a\nb",
    "`a",
    "*a*",
    "_a_",
    "[a](b)",
    "[a]: b",
    "~~a~~",
    "# a",
    "1. a",
    "- a",
    "\x1b[2Ja",
]


def sheet_of(label: str) -> Sheet:
    sheet = Sheet(["Arm", "Point"], notes=[label])
    for text in (label, "other"):
        sheet.start([text, "lr=0.1"])
        sheet.put("R@1", "R@1", "-1.5 ± 0.5")
    return sheet


def shown(label: str) -> str:
    """What a reader of a rendered page sees of a label: white space is one space, a control
    character is written out.
    """
    spaced = re.sub(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+", " ", label)
    written = re.sub(
        "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]",
        _escaped,
        spaced,
    )
    return " ".join(written.split(" ")).strip()


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def text_of(token: object) -> str:
    """The text of an inline token that has nothing but text in it."""
    children = token.children or []  # type: ignore[attr-defined]
    assert {child.type for child in children} <= {"text", "text_special"}, children
    return "".join(child.content for child in children)


def with_examples(test: object) -> object:
    for label in NASTY:
        test = example(label)(test)  # type: ignore[arg-type]
    return test


@with_examples
@given(ANY)
@settings(max_examples=150, deadline=None)
def test_markdown_shows_any_label_in_its_cell(label: str) -> None:
    text = write_markdown([], [(label, sheet_of(label))], "")
    assert not OBEYED.search(text)
    tokens = MARKDOWN.parse(text)
    assert {token.type.removesuffix("_open") for token in tokens if token.nesting == 1} <= {
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "paragraph",
    }
    assert not [
        token for token in tokens if token.type in ("html_block", "fence", "code_block", "hr")
    ]
    rows = "".join(
        {"tr_open": "\n", "td_open": "|", "th_open": "|"}.get(token.type, "") for token in tokens
    ).split()
    assert rows == ["|||"] * 3
    inline = [text_of(token) for token in tokens if token.type == "inline"]
    noted, label = (" ".join(shown(text).split()) for text in (f"{label}.", label))
    assert [" ".join(text.split()) for text in inline] == [
        *([label] if label else []),
        *("Arm", "Point", "R@1"),
        *(label, "lr=0.1", "-1.5 ± 0.5", "other", "lr=0.1", "-1.5 ± 0.5"),
        noted,
    ]


@with_examples
@given(ANY)
@settings(max_examples=150, deadline=None)
def test_csv_holds_any_label_and_no_formula(label: str) -> None:
    text = write_csv([(label, sheet_of(label))])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [len(row) for row in rows] == [len(rows[0])] * 3
    arm = rows[1][rows[0].index("Arm")]
    written = label.encode(errors="backslashreplace").decode()
    assert arm in (written, f"'{written}")
    if arm[:1] in tuple("=+-@\t\r"):
        float(arm)
    text.encode()


@pytest.mark.parametrize(
    ("label", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+ ViDiDi", "'+ ViDiDi"),
        ("-x", "'-x"),
        ("\t=1", "'\t=1"),
        ("-0.5", "-0.5"),
        ("a=1", "a=1"),
    ],
)
def test_what_a_spreadsheet_would_run_is_text_and_a_number_stays_one(label: str, cell: str) -> None:
    header, row, _ = csv.reader(io.StringIO(write_csv([("", sheet_of(label))]), newline=""))
    assert dict(zip(header, row, strict=True)) == {
        "Arm": cell,
        "Point": "lr=0.1",
        "R@1": "-1.5 ± 0.5",
    }


@given(ANY)
@settings(max_examples=100, deadline=None)
def test_latex_commands_are_those_that_escaping_makes(label: str) -> None:
    text = escape(label)
    assert not OBEYED.search(text)
    assert "\n" not in text
    bare = re.sub(r"\\(?:[&%$#_{}]|text\w+\{\}|S\{\})|\$\\\w+\$", "", text)
    assert not set(bare) & set("\\&%$#_{}~^<>|")
    assert write_latex("x", label, [(label, sheet_of(label))]).count(r"\\") == 3


def test_a_label_in_a_picture_is_no_formula_and_is_in_the_legend(tmp_path: Path) -> None:
    with style():
        figure, axis = pyplot().subplots()
        axis.plot([0, 1], label=legend_text("_$x_{\x1b\nb"))
        (text,) = axis.legend().get_texts()
        save(figure, tmp_path / "a.svg")
    assert text.get_text() == " _$x_{\\x1b b"
