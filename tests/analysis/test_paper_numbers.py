"""Every number of analysis/papers against the papers' own text, to the digit, wherever that text is
at hand.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from vididi.analysis.paper import load_paper_table
from vididi.shipped import PAPERS

TEXTS = Path(
    os.environ.get("VIDIDI_PAPERS", Path(__file__).resolve().parents[3] / "shared" / "papers")
)
NUMBER = re.compile(r"-?\d+\.\d+")
Printed = tuple[str, list[str], list[float | None]]


@dataclass(frozen=True)
class Print:
    """Where a table stands in a paper's text, and which of its cells are what.

    Args:
        caption: how the line of the caption begins; the table stands above it, or below
            (``below``).
        head: lines of header.
        label: the column of the rows' names; about: columns of further text; values: columns of
            numbers. A pair is the second, third, ... number of a cell.
        filled: a blank text cell means what the cell above it says.
    """

    caption: str
    head: int
    label: int
    about: tuple[int, ...]
    values: tuple[int | tuple[int, int], ...]
    below: bool = False
    filled: bool = False


VIDIDI = {
    1: Print("Table 1:", 2, 0, (1,), (2, 3, 4, 5, 6, 7), below=True),
    2: Print("Table 2:", 2, 1, (0,), (2, 3, 4, 5, 6, 7), below=True, filled=True),
    4: Print("Table 4:", 1, 0, (1, 2, 3), (4, 5), below=True),
    5: Print("Table 5:", 2, 0, (1, 2), (3, 4, 5, 6, 7, 8), below=True),
    6: Print("Table 6:", 2, 0, (), (1, 2, 3), below=True),
    7: Print("Table 7:", 2, 0, (), (1, 2, 3, 4, 5, 6), below=True),
}
CVRL = {
    3: Print("Table 3.", 4, 0, (1,), (2, (2, 1), 3, (3, 1))),
    4: Print("Table 4.", 2, 0, (1, 2), (3, 4)),
    6: Print("Table 6.", 2, 1, (0,), (2, 3), filled=True),
    7: Print("Table 7.", 2, 1, (0,), (2, 3), filled=True),
    8: Print("Table 8.", 2, 1, (0,), (2, 3), filled=True),
    10: Print("Table 10.", 2, 0, (1, 2), (3, 4)),
    11: Print("Table 11.", 4, 0, (1,), (2, (2, 1), 3, (3, 1))),
    12: Print("Table 12.", 2, 0, (), (1, 2)),
}
CORP = {
    1: Print("Table 1.", 1, 0, (1,), (2,)),
    3: Print("Table 3.", 1, 0, (), (1, 2)),
    4: Print("Table 4.", 2, 0, (), (1, 2, 3, 4)),
    5: Print("Table 5.", 1, 0, (1,), (2, 3)),
}
ROWS = {
    f"{paper}_table_{n}": p
    for paper, prints in (("vididi", VIDIDI), ("cvrl", CVRL), ("corp", CORP))
    for n, p in prints.items()
}

# CORP's Table 6 is five tables side by side, whose cells run into each other in the text: each row,
# and the line that has it.
CORP_6 = [
    ("Order", "(a) task", 42.4, "Order\t42.4%\t2\t45.4%"),
    ("Contrast", "(a) task", 29.7, "Contrast\t29.7%\t3\t47.0%"),
    ("CORP_m", "(a) task", 48.8, "$\\mathrm{CORP}_m$\t48.8%\t4 48.8%\t"),
    ("2", "(b) # clips", 45.4, "Order\t42.4%\t2\t45.4%"),
    ("3", "(b) # clips", 47.0, "Contrast\t29.7%\t3\t47.0%"),
    ("4", "(b) # clips", 48.8, "$\\mathrm{CORP}_m$\t48.8%\t4 48.8%\t"),
    ("Mixed", "(c) attention", 48.0, "Mixed\t48.0%\t1\t48.4%"),
    ("Decoupling", "(c) attention", 48.8, "Decoupling\t48.8%\t2 48.8%\t"),
    ("1", "(d) # layers", 48.4, "Mixed\t48.0%\t1\t48.4%"),
    ("2", "(d) # layers", 48.8, "Decoupling\t48.8%\t2 48.8%\t"),
    ("SimCLR-based", "(e) epoch 100", 31.1, "100\t31.1%\t38.8%\t46.3%"),
    ("CORP_f", "(e) epoch 100", 38.8, "100\t31.1%\t38.8%\t46.3%"),
    ("CORP_m", "(e) epoch 100", 46.3, "100\t31.1%\t38.8%\t46.3%"),
    ("SimCLR-based", "(e) epoch 200", 33.9, "200\t33.9%\t41.7%\t48.8%"),
    ("CORP_f", "(e) epoch 200", 41.7, "200\t33.9%\t41.7%\t48.8%"),
    ("CORP_m", "(e) epoch 200", 48.8, "200\t33.9%\t41.7%\t48.8%"),
]


def lines_of(paper: str) -> list[str]:
    path = TEXTS / f"{paper}.md"
    if not path.is_file():
        pytest.skip(f"the text of the paper is not at hand: {path}")
    return path.read_text().split("\n")


def clean(cell: str) -> str:
    """A cell's text without its typesetting: ``$\\text{CORP}_{f}$`` is CORP_f, ``1 <sup>st</sup>``
    1st.
    """
    cell = re.sub(r"\s*<sup>(st|nd)</sup>", r"\1", cell)
    cell = re.sub(r"\s*<sub>(.)</sub>", r"_\1", cell)
    cell = re.sub(r"</?\w+>|\$", "", cell)
    cell = re.sub(r"\\(?:text|mathrm|operatorname)\{(.*?)\}", r"\1", cell)
    return " ".join(re.sub(r"_\{(.)\}", r"_\1", cell).split())


def table_lines(lines: list[str], caption: str, below: bool = False) -> list[list[str]]:
    """The cells of the lines with tabs next to the caption."""
    (at,) = (i for i, line in enumerate(lines) if line.startswith(caption))
    step, i, found = (1, at + 1, []) if below else (-1, at - 1, [])
    while "\t" in lines[i] or not found:
        if "\t" in lines[i]:
            found.append(lines[i].split("\t"))
        i += step
    return found if below else found[::-1]


def number(cell: str, which: int = 0) -> float | None:
    found = NUMBER.findall(cell)
    return float(found[which]) if len(found) > which else None


def printed_rows(name: str) -> list[Printed]:
    """Label, further text and numbers of each row as the paper prints them."""
    spec = ROWS[name]
    rows: list[Printed] = []
    above: list[str] = []
    for cells in table_lines(lines_of(name.partition("_")[0]), spec.caption, spec.below)[
        spec.head :
    ]:
        texts = [clean(cells[i]) for i in (spec.label, *spec.about)]
        if spec.filled and above:
            texts = [text or before for text, before in zip(texts, above, strict=True)]
        above = texts
        values = [
            number(cells[v]) if isinstance(v, int) else number(cells[v[0]], v[1])
            for v in spec.values
        ]
        rows.append((texts[0], texts[1:], values))
    return rows


def stored_rows(name: str) -> list[Printed]:
    """The lines of the printed table, without those of the paper's text."""
    return [
        (row.label, row.about, row.values) for row in load_paper_table(name).rows if not row.text
    ]


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_the_paper_s(name: str) -> None:
    assert stored_rows(name) == printed_rows(name)


@pytest.mark.parametrize(
    ("name", "caption", "below"),
    [("vididi_table_3", "Table 3:", True), ("cvrl_table_5", "Table 5.", False)],
)
def test_tables_that_are_printed_on_their_side(name: str, caption: str, below: bool) -> None:
    head, values = table_lines(lines_of(name.partition("_")[0]), caption, below)
    assert stored_rows(name) == [
        (clean(label), [], [number(value)])
        for label, value in zip(head[1:], values[1:], strict=True)
    ]


def test_cvrl_table_2_has_its_numbers_under_the_data_set_of_the_row() -> None:
    expected = []
    for cells in table_lines(lines_of("cvrl"), "Table 2.")[1:]:
        label, *about, value = [clean(cell) for cell in cells]
        k400 = "K400" in (about[-1] if about[-1] != "N/A" else label)
        expected.append((label, about, [float(value), None] if k400 else [None, float(value)]))
    assert stored_rows("cvrl_table_2") == expected


def test_cvrl_table_9_is_told_by_its_ticks() -> None:
    printed = [
        ([clean(cell) for cell in cells[:3]], [number(cell) for cell in cells[3:]])
        for cells in table_lines(lines_of("cvrl"), "Table 9.")[2:]
    ]
    assert [(about, values) for _, about, values in stored_rows("cvrl_table_9")] == printed
    assert printed[-1][0] == [
        "✓",
        "",
        "✓",
    ], "the tick for spatial augmentation is missing in the paper's text"


def test_corp_table_2_has_a_row_for_each_cell() -> None:
    head, *lines = table_lines(lines_of("corp"), "Table 2.")
    expected = [
        (clean(line[0]), [clean(head[i])], [number(line[i])]) for line in lines for i in (1, 2)
    ]
    assert stored_rows("corp_table_2") == expected


def test_corp_table_6_is_told_line_by_line() -> None:
    lines = lines_of("corp")
    assert stored_rows("corp_table_6") == [
        (label, [part], [value]) for label, part, value, _ in CORP_6
    ]
    for label, part, value, line in CORP_6:
        assert f"{value:.1f}%" in line
        assert line in lines, (label, part)


def test_corp_table_7_has_a_row_for_each_model() -> None:
    head, *lines = table_lines(lines_of("corp"), "Table 7.")
    assert [column.name for column in load_paper_table("corp_table_7").columns] == [
        clean(line[0]) for line in lines
    ]
    assert stored_rows("corp_table_7") == [
        (clean(head[i]), [], [number(line[i]) for line in lines]) for i in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("name", "section", "label", "said"),
    [
        (
            "corp_table_1",
            "### 4.2.",
            "CORP_f, batch 1024",
            "setting of 1024 batch size, our CORP_f model achieves 66.6%",
        ),
        (
            "corp_table_5",
            "### 4.3.",
            "CORP_m, fine-tuned",
            "The CORP_m model achieves 61% fine-tuning accuracy on Sth-SthV2 validation.",
        ),
    ],
)
def test_rows_of_the_text_are_said_in_their_section(
    name: str, section: str, label: str, said: str
) -> None:
    (row,) = (row for row in load_paper_table(name).rows if row.text)
    assert (row.label, f"### {row.text}.") == (label, section)
    (value,) = (value for value in row.values if value is not None)
    assert f"{value:g}%" in said
    text = "\n".join(lines_of("corp")).partition(section)[2].partition("\n### ")[0]
    assert said in clean(text).replace("**", "")


def test_numbers_of_figures_are_those_of_tables_or_blank() -> None:
    """The pictures' own numbers are not in the papers' texts."""
    figures = {
        path.stem: yaml.safe_load(path.read_text()) for path in PAPERS.glob("*_figure_*.yaml")
    }
    assert len(figures) == 3
    for name, figure in figures.items():
        for written, row in zip(figure["rows"], load_paper_table(name).rows, strict=True):
            if isinstance(written["values"], list):
                assert set(written["values"]) == {None}
            else:
                other = load_paper_table(written["values"]["table"])
                source = other.rows[other.row(written["values"]["row"])]
                assert None not in row.values
                assert set(row.values) <= set(source.values)
                assert source.match is not None
                # The same runs: no key with another value in one than in the other.
                ours = {**load_paper_table(name).configuration, **(row.match or {})}
                theirs = {**other.configuration, **source.match}
                assert {key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]} == (
                    set()
                )


def test_every_stored_table_is_checked() -> None:
    others = {
        "vididi_table_3",
        "cvrl_table_2",
        "cvrl_table_5",
        "cvrl_table_9",
        "corp_table_2",
        "corp_table_6",
        "corp_table_7",
        "vididi_figure_1",
        "cvrl_figure_3",
        "cvrl_figure_4",
    }
    assert {path.stem for path in PAPERS.glob("*.yaml")} == {*ROWS, *others}


@pytest.mark.parametrize("name", ["cvrl_table_3", "cvrl_table_11"])
def test_what_cvrl_prints_as_the_difference_to_supervised_is_it(name: str) -> None:
    supervised, *others = load_paper_table(name).rows
    for row in others:
        for i in (0, 2):
            assert row.values[i + 1] == pytest.approx(row.values[i] - supervised.values[i])
