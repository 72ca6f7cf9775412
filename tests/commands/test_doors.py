"""``vididi`` and run_sweep.py: two doors to the same commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_sweep import BASE

import run_sweep
from vididi import __version__, cli
from vididi.cell_status import INTERRUPTED
from vididi.commands import arguments as sweep_arguments
from vididi.commands import program
from vididi.commands.sweep_files import sweep_file

ROOT = Path(__file__).resolve().parents[2]
SWEEP = (
    "name: few"
    + BASE
    + "  training: {epochs: 4, batch_size: 8}\narms: {base: {order: 0}, vididi: {order: 2}}\n"
)
# Command lines of run_sweep.py. SPEC is a sweep file, RUNS a folder without runs.
LINES = [
    "SPEC --dry-run",
    "SPEC --dry",  # an abbreviation
    "SPEC --dry-run --set training.epochs=2 --set seed=3 --only base --only vididi --seeds 0,1",
    "SPEC --dry-run --no-stopping --address auto --runs RUNS --shards s3://bucket/set",
    "SPEC --dry-run --reading default",
    "SPEC --dry-run --reading paper",
    "SPEC --dry-run --audit",
    "SPEC --dry-run --audit-stopping asha",
    "--dry-run SPEC",
    "status SPEC --runs RUNS",
    "extend SPEC --seeds 3 --dry-run",
    "rerun SPEC --failed --dry-run",
    "rerun SPEC --fail --dry --only base",
    # What is refused, by argparse or later.
    "",
    "SPEC --no-such-option",
    "SPEC --seeds 0,0 --dry-run",
    "SPEC --set training.epochs --dry-run",
    "SPEC --set training.epoch=3 --dry-run",
    "SPEC --only nobody --dry-run",
    "SPEC --audit-stopping never",
    "nowhere.yaml --dry-run",
    "status",
    "status SPEC --address auto",
    "status SPEC --dry-run",
    "extend SPEC --dry-run",
    "extend SPEC --seeds 0 --dry-run",
    "rerun SPEC",
    "SPEC --help",
    "status --help",
    "compare a b --runs RUNS",
    "compare a",
    "compare --help",
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "few.yaml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(line: str) -> list[str]:
    return line.replace("SPEC", "few.yaml").replace("RUNS", "none").split()


def vididi_words(line: str) -> list[str]:
    """The same command line for ``vididi``."""
    given = words(line)
    return (
        given if given and given[0] in (*sweep_arguments.COMMANDS, "compare") else ["sweep", *given]
    )


def outcome(main: Any, argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status and what was printed, with one name for both programs and without the usage,
    whose lines break elsewhere.

    What a command does not know is an error of all of ``vididi``, by argparse's custom.
    """
    try:
        status = main(argv)
    except SystemExit as ended:
        status = ended.code or 0
    said = [
        re.sub(
            r"(?:python )?run_sweep\.py( status(?=: error: unrec))?|vididi( sweep)?(?= |:)",
            "PROGRAM",
            text,
        )
        for text in capsys.readouterr()
    ]
    return status, *(re.sub(r"(?s)usage: .*?\n(?=\S|\n)|\nAlso: .*", "", text) for text in said)  # type: ignore[return-value]


@pytest.mark.parametrize("line", LINES)
def test_both_doors_do_the_same(line: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (
        outcome(main, argv, capsys)
        for main, argv in ((run_sweep.main, words(line)), (cli.main, vididi_words(line)))
    )
    assert new == old


@pytest.mark.parametrize("line", LINES[:11])
def test_both_doors_parse_the_same(line: str) -> None:
    old = vars(sweep_arguments.parse_arguments(words(line)))
    new = vars(cli.make_parser().parse_args(vididi_words(line)))
    assert new.pop("run") is cli.sweep_command
    assert new == old


@pytest.mark.parametrize(
    ("main", "argv", "again"),
    [
        (
            run_sweep.main,
            ["few.yaml", "--set", "training.epochs=2"],
            "python run_sweep.py few.yaml --set training.epochs=2",
        ),
        (
            run_sweep.main,
            ["rerun", "few.yaml", "--failed"],
            "python run_sweep.py rerun few.yaml --failed",
        ),
        (cli.main, ["sweep", "few.yaml", "--runs", "a b"], "vididi sweep few.yaml --runs 'a b'"),
        (cli.main, ["extend", "few.yaml", "--seeds", "4"], "vididi extend few.yaml --seeds 4"),
    ],
)
def test_an_interrupted_sweep_names_the_command_that_was_used(
    main: Any,
    argv: list[str],
    again: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(program, "run", lambda *_: INTERRUPTED)
    assert main(argv) == 130
    assert capsys.readouterr().out == f"interrupted; nothing finished is lost. To go on:  {again}\n"


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    said = capsys.readouterr().out
    (choices,) = (action.choices for action in cli.make_parser()._actions if action.choices)
    listed = [name for texts in cli.HELP.values() for name in texts]
    assert sorted(listed) == sorted(choices)  # type: ignore[type-var]
    assert all(f"\n  {name} " in said for name in listed)


SWEEP_GROUPS = [
    *("which cells", "data and run folders", "how they run"),
    *("the tables at its end", "instead of running"),
]


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        (["sweep"], SWEEP_GROUPS),
        (["status"], ["which cells", "data and run folders"]),
        (["prepare"], ["the source", "the prepared set", "how it is made"]),
        (["evaluate", "linear"], ["what is measured", "on this machine", "on a cluster"]),
    ],
)
def test_the_options_of_a_command_are_listed_in_groups(
    command: list[str], groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    headings = re.findall(r"(?m)^(\w[^:\n]*):$", capsys.readouterr().out)
    assert headings == ["positional arguments", "options", *groups]


def test_a_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"vididi {__version__}\n"


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("vididi sw", {"sweep "}),
        ("vididi sweep --", {"--set", "--runs", "--dry-run", "--audit-stopping"}),
        ("vididi evaluate ", {"retrieval", "detection", "ava-map"}),
        ("vididi prepare motion --decoder ", {"pyav", "decord"}),
        ("vididi plot ", {"bars", "saliency"}),
    ],
)
def test_a_shell_s_command_line_is_completed(
    line: str, completions: set[str], tmp_path: Path
) -> None:
    """As the shell function of register-python-argcomplete asks: the answer goes to descriptor
    8.
    """
    pytest.importorskip("argcomplete")
    asking = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    answer = tmp_path / "answer"
    script = f'exec "{sys.executable}" -m vididi.cli 8>"{answer}" 9>/dev/null'
    environment = {**os.environ, **asking}
    subprocess.run(["bash", "-c", script], env=environment, cwd=ROOT, timeout=60, check=True)
    assert completions <= set(answer.read_text().split("\n"))


def test_a_shell_that_asks_is_answered_by_argcomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no dependency, so it is made up here: what it is given is the parser of all
    commands.
    """
    asked: list[Any] = []
    monkeypatch.setitem(sys.modules, "argcomplete", SimpleNamespace(autocomplete=asked.append))
    assert cli.main([]) == 0
    assert asked == []
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    assert cli.main([]) == 0
    assert [parser.prog for parser in asked] == ["vididi"]


# --- Shipped files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["smoke", "smoke.yaml", "sweeps/smoke.yaml", "paper/vididi_table_2"]
)
def test_a_shipped_sweep_is_found_by_name_from_anywhere(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sweep", name, "--dry-run"]) == 0
    file = ROOT / "sweeps" / f"{name.removeprefix('sweeps/').removesuffix('.yaml')}.yaml"
    assert capsys.readouterr().out.startswith(
        f"sweep file: {file}, as shipped; there is no {name} here\n"
    )


def test_what_is_there_comes_before_what_is_shipped(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "smoke.yaml").write_text(SWEEP)
    assert cli.main(["sweep", "smoke.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"sweep file: smoke.yaml; {ROOT / 'sweeps' / 'smoke.yaml'} has this name too\n"
    )
    assert "\n2 cells\n" in said


def test_a_shipped_file_by_its_path_is_nothing_to_remark_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert sweep_file(Path("sweeps/smoke.yaml")) == (Path("sweeps/smoke.yaml"), "")


@pytest.mark.parametrize("name", ["../smoke.yaml", "/smoke.yaml", "paper", "", "x" * 300, "a\0b"])
def test_nothing_else_is_a_shipped_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "sweeps"
    (shipped / "paper").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (shipped.parent / "smoke.yaml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path / "here")
    assert sweep_file(Path(name), shipped) == (Path(name), "")


# --- Where analysis is ----------------------------------------------------------------------------


def test_the_installed_command_finds_analysis_in_its_clone(place: Path) -> None:
    """As the command of an editable installation, whose path has neither the clone nor the folder
    that it is started in.
    """
    code = (
        "import importlib.machinery, importlib.util, sys\nsys.path.remove('')\nspec ="
        f" importlib.util.spec_from_file_location('vididi', {str(ROOT / 'vididi/__init__.py')!r},"
        f" submodule_search_locations=[{str(ROOT / 'vididi')!r}])\nsys.modules['vididi'] = module ="
        " importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\nfrom vididi.cli"
        " import main\nsys.exit(main(['compare', 'a', 'b', '--runs', 'none']))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr.partition(";")[0]) == (
        2,
        "error: a: is neither an arm that has finished runs nor a folder of some",
    )


def test_tables_and_pictures_are_commands_under_their_own_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = str(Path(__file__).resolve().parents[1] / "analysis" / "frozen_sweep" / "every")
    assert cli.main(["table", "vididi_table_6", runs, "--out", str(tmp_path)]) == 0
    assert "ViDiDi Table 6" in capsys.readouterr().out
    assert cli.main(["plot", "curves", runs, "--out", str(tmp_path / "curves.png")]) == 0
    assert (tmp_path / "curves.png").is_file()
    wrong = {
        "plot curves": "usage: vididi plot curves ",
        "plot none": "usage: vididi plot ",
        "table": "usage: vididi table ",
    }
    for command, usage in wrong.items():
        with pytest.raises(SystemExit) as raised:
            cli.main(command.split())
        assert raised.value.code == 2
        assert capsys.readouterr().err.startswith(usage)
