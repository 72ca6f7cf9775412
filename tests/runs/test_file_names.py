"""The names of the files of a run folder: spelled in one place, and read by one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from vididi.runs import file_names

REPO = Path(__file__).resolve().parents[2]
NAMES = {key: value for key, value in vars(file_names).items() if key.isupper()}
SOURCES = [
    *(REPO / "vididi").rglob("*.py"),
    *(REPO / "analysis").glob("*.py"),
    REPO / "run_sweep.py",
]
READING = {
    "json.loads",
    "json.load",
    "yaml.safe_load",
    "yaml.load",
    "read_yaml",
    "read_text",
    "read_bytes",
    "pq.read_table",
    "pq.ParquetFile",
}


def spelled(source: str) -> set[str]:
    """The strings of a program, docstrings aside, that are a file's name, or a path or a pattern
    that ends in one.
    """
    texts = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in texts if text.rpartition("/")[2] in NAMES.values()}


def used(source: str) -> set[str]:
    """The constants of file_names that a program uses."""
    nodes = list(ast.walk(ast.parse(source)))
    imports = [
        node
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "vididi.runs.file_names"
    ]
    names = {alias.name for node in imports for alias in node.names}
    return names | {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "file_names"
    }


def calls(source: str) -> set[str]:
    """The calls of a program that could read a file."""
    made = {
        ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
    }
    return {call for call in made if call in READING or call.rpartition(".")[2] in READING}


def test_what_is_searched_for_is_found() -> None:
    assert spelled(
        "open(f'{run}/result.json', run / 'cell.json', 'result.json is gone', 'a.config.yaml')"
    ) == {"/result.json", "cell.json"}
    assert used("from vididi.runs.file_names import RESULT\nrun / file_names.CELL") == {
        "RESULT",
        "CELL",
    }
    assert calls("(run / RESULT).read_text(); pq.ParquetFile(x); written(y)") == {
        "(run / RESULT).read_text",
        "pq.ParquetFile",
    }
    assert sorted(NAMES) == sorted(used("from vididi.runs.file_names import " + ", ".join(NAMES)))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_nobody_else_spells_the_name_of_a_file_of_a_run_folder(path: Path) -> None:
    if path != Path(file_names.__file__):
        assert not spelled(path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_nobody_else_reads_the_files_of_a_run_folder(path: Path) -> None:
    """No program but readers uses one of the names and has a call that could read it."""
    source = path.read_text()
    allowed = path.name in (
        "readers.py",
        "mirror.py",
    )  # a mirror reads the file that says which store it is of
    assert allowed or not (used(source) and calls(source))


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_used_for_one_file(name: str) -> None:
    assert list(NAMES.values()).count(NAMES[name]) == 1
    assert any(name in used(path.read_text()) for path in SOURCES), "nobody uses it"
