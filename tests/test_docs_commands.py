"""The commands that the pages show: each is one that the program knows, with files that are there,
and those of the first tutorial and of the page of errors are run.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from vididi import cli
from vididi.analysis import __name__ as ANALYSIS
from vididi.commands.program import main as run_sweep
from vididi.config import read_yaml
from vididi.terminal import Parser

REPO = Path(__file__).resolve().parents[1]
TUTORIALS = REPO / "docs" / "tutorials"
# Pages that tell what was, whose commands need not be of today.
HISTORY = {"docs/log.md", "CHANGELOG.md"}
PAGES = sorted(
    path
    for path in [
        *(REPO / "docs").rglob("*.md"),
        *(REPO / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
    ]
    if str(path.relative_to(REPO)) not in HISTORY
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOLLOWED = re.compile(r"^<!-- (run|file: \S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("", "sh", "console")
PROGRAMS = ("vididi ", "python ")

# Values that no file of the repository stands behind, and why nothing can: patterns of arguments.
PLACEHOLDERS = {
    "runs*": "run folders, which a sweep or vididi pretrain makes",
    "audit": "run folders, which the command makes",
    "shards/*": "prepared sets, which vididi prepare makes of the reader's videos",
    "UCF-101": "UCF101's videos, not ours to ship",
    "ucfTrainTestlist": "UCF101's lists",
    "films": "AVA's films",
    "ava_*": "AVA's lists, and boxes proposed for it",
    "boxes=ava_*": "boxes proposed for AVA",
    "clips*": "the reader's videos, their list, or the sweep file of the tutorial",
    "grid": "the GRID corpus",
    "data=*": "data of the reader's, or words of GRID that are cut already",
    "/mnt/shared/*": "the shared file system of a cluster",
    "strides.yaml": "written by the reader of the tutorial",
    "search_strides.yaml": "written by the reader of the tutorial",
    "clip.yaml": "a slip that the page is about",
    "tiny.yaml": "made by the test that runs that page",
    "config.yaml": "a configuration of the reader's",
    "random.yaml": "a configuration of the reader's",
    "predictions.csv": "a file of the reader's",
    "ava.json": "written by the command",
    "encoder/": "written by the command",
    "lab/encoder": "a repository of the reader's on the Hugging Face Hub",
    "test/orbit/*": "a video of the motion set, by its id",
    "*.png": "a picture, which the command writes",
    "*.pdf": "a picture, which the command writes",
    "*.html": "a page, which the command writes",
    "*.mp4": "a video of the reader's",
    "backbone.weights=runs/*": "weights that the commands above made",
    "tables": "a folder, which the command makes",
    "features.*": "written by the command",
    "step.json": "a measurement of the reader's GPU, which the command above makes",
    "[sg]*://my-bucket/*": "the reader's bucket",
}

# Commands of other programs on the page of a cluster, and why no test runs them here.
CLUSTER_PAGE = "docs/tutorials/cluster_ucf101.md"
NOT_RUN = {
    "ray get-auth-token": "writes into the home; tests/cluster/test_ray_up.py runs it on its hosts",
    "ray up": "takes hosts; tests/cluster/test_ray_up.py runs it on its own",
    "ray exec": "takes hosts; tests/cluster/test_ray_up.py",
    "ray rsync-down": "takes hosts; tests/cluster/test_ray_up.py",
    "ray rsync-up": "takes hosts; of the same code as rsync-down, which tests/cluster/test_ray_up.py runs",
    "ray dashboard": "takes hosts, and does not end",
    "ray down": "takes hosts; tests/cluster/test_ray_up.py",
    "export": "a variable",
    "tensorboard": "does not end; tests/cluster reads the files that it shows",
}


class ParsedError(BaseException):
    """Parsing ended well; the command itself is not wanted. No error that a program may catch."""


def commands_of(text: str) -> Iterator[str]:
    """The commands in a page's blocks of shell, without remarks at their ends."""
    for language, block in FENCE.findall(text):
        if language not in SHELL:
            continue
        for line in re.sub(r" *\\\n *", " ", block).splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith(PROGRAMS):
                yield re.split(r"\s{3,}|\s+#\s", line)[0]


# README's table writes what is the reader's in capitals: what stands there to be parsed.
CAPITALS = {
    "SWEEP.yaml": "sweeps/ablation.yaml",
    "CONFIG.yaml": "config.yaml",
    "PROTOCOL": "retrieval",
    "RUN...": "RUN",
    "FILE": "tsne.png",
    "GT.csv": "ava_val_v2.2.csv",
    "PRED.csv": "predictions.csv",
    "LIST.csv": "clips.csv",
    "LIST.pbtxt": "ava_action_list_v2.2_for_activitynet_2019.pbtxt",
}


def commands_in_line(text: str) -> Iterator[str]:
    """The commands in a page's prose and tables."""
    for command in re.findall(r"`((?:vididi|python) [^`]+)`", text):
        words = [CAPITALS.get(word, word) for word in command.split()]
        if len(words) > 2 and "..." not in words:  # fewer name a command only
            yield " ".join(words)


COMMANDS = sorted(
    {
        (str(path.relative_to(REPO)), command)
        for path in PAGES
        for command in [
            *commands_of(path.read_text()),
            *(commands_in_line(path.read_text()) if path.name == "README.md" else ()),
        ]
    }
)


def parse(command: str, patch: pytest.MonkeyPatch) -> None:
    """Have a command's arguments parsed by the program that they are for, and nothing run."""
    original = Parser.parse_args

    def parse_and_stop(self: Parser, *arguments: Any) -> Any:
        parsed = original(self, *arguments)
        if self.prog == "vididi plot":  # the picture's own arguments are still to come
            return parsed
        raise ParsedError

    patch.setattr(Parser, "parse_args", parse_and_stop)
    program, *arguments = shlex.split(command)
    if program == "vididi":
        cli.main(arguments)
        return
    script, *arguments = arguments
    if script == "run_sweep.py":
        run_sweep(arguments)
    elif script.startswith("analysis/"):
        import_module(f"{ANALYSIS}.{Path(script).stem}").main(arguments)


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_a_command_of_a_page_is_one_that_the_program_knows(
    page: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = set(re.findall(r"<!-- new file: (\S+) -->", (REPO / page).read_text()))
    if page == "docs/adding.md" and command.startswith("vididi pairs"):
        return  # the command that the page adds; tests/test_adding.py runs it
    parts = shlex.split(command)
    if parts[0] == "python" and parts[1] not in ("-m",):
        assert (REPO / parts[1]).is_file() or parts[1] in made, f"{page}: {parts[1]}"
    own = parts[0] == "vididi" or parts[1].startswith(("run_sweep.py", "analysis/"))
    if own:
        with pytest.raises((ParsedError, SystemExit)) as end:
            parse(command, monkeypatch)
        if isinstance(end.value, SystemExit):  # 0 of --help
            assert end.value.code == 0, f"{page}: {command}: {capsys.readouterr().err}"
    for part in parts[2:]:
        if "/" in part or re.search(r"\.\w{2,5}$", part.partition("=")[2] or part):
            path = part.partition("::")[0]
            known = (REPO / path).exists() or path in made
            excused = any(fnmatchcase(part, pattern) for pattern in PLACEHOLDERS)
            number_or_key = re.fullmatch(r"[\w./@-]+(=[\w.\[\],-]+)?", part) and "=" in part
            metric_or_address = re.fullmatch(r"\w+/[A-Z]@\d+|[\d.]+:\d+|\d+\.\d+", part)
            assert known or excused or number_or_key or metric_or_address, f"{page}: {part}"


def test_the_commands_were_found() -> None:
    pages = {page for page, _ in COMMANDS}
    assert len(COMMANDS) > 60
    assert {"README.md", "docs/sweeps.md", "docs/evaluation.md", "docs/tutorials/faq.md"} <= pages


def lines_of_the_cluster_page() -> list[str]:
    text = (REPO / CLUSTER_PAGE).read_text()
    blocks = [block for language, block in FENCE.findall(text) if language == "sh"]
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_each_command_of_the_cluster_page_is_parsed_or_on_the_list_of_those_not_run() -> None:
    others = [line for line in lines_of_the_cluster_page() if not line.startswith(PROGRAMS)]
    assert [line for line in others if not line.startswith(tuple(NOT_RUN))] == []
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in others)] == []


@pytest.mark.parametrize(
    "command", [line for line in lines_of_the_cluster_page() if line.startswith("ray ")]
)
def test_ray_knows_its_commands_of_the_cluster_page(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parsed by Ray's own program; and what runs on the head by ours."""
    from ray.scripts.scripts import cli as ray_program

    _, name, *arguments = shlex.split(command)
    context = ray_program.commands[name].make_context(name, list(arguments))
    if "cluster_config_file" in context.params:
        assert (REPO / context.params["cluster_config_file"]).is_file()
    for inner in re.findall(r"((?:vididi (?!&&)|python run_sweep\.py )[^'\"&]+)", command):
        with pytest.raises(ParsedError):
            parse(inner.strip(), monkeypatch)


def test_every_placeholder_is_of_some_command() -> None:
    parts = [part for _, command in COMMANDS for part in shlex.split(command)]
    unused = [
        pattern for pattern in PLACEHOLDERS if not any(fnmatchcase(part, pattern) for part in parts)
    ]
    assert unused == []


# --- Commands that are run ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workplace(
    tmp_path_factory: pytest.TempPathFactory, moving_bar: Callable, write_video: Callable
) -> Path:
    """A reader's folder with clips/, and the files that the tutorials tell to write."""
    root = tmp_path_factory.mktemp("reader")
    number = 0
    for split, count in (("train", 4), ("test", 2)):
        for name in ("jump", "wave"):
            for letter in "abcd"[:count]:
                number += 1
                frames = moving_bar(40, 48, 64, 20 * number)
                write_video(root / "clips" / split / name / f"{letter}.mp4", frames)
    for page in TUTORIALS.glob("*.md"):
        for what, block in FOLLOWED.findall(page.read_text()):
            if what.startswith("file: "):
                (root / what.removeprefix("file: ")).write_text(block)
    (root / "tiny.yaml").write_text(TINY)
    return root


TINY = """
data: {name: folder, videos: clips}
prepare: {short_side: 40}
clip: {frames: 4, stride: 2, size: 16}
objective: {name: vicreg, hidden: 32, out: 32}
backbone: {name: r3d_tiny, width: 4}
training: {epochs: 2, batch_size: 4}
evaluation: {clips: 2, frames: 4, stride: 2}
"""
RUNS = [
    (page.stem, command)
    for page in sorted(TUTORIALS.glob("*.md"))
    for what, block in FOLLOWED.findall(page.read_text())
    if what == "run"
    for command in block.splitlines()
]
# In the order of the first tutorial: each needs what the one before made.
RUNS.sort(key=lambda run: run[0] != "own_videos")


def run_vididi(command: str) -> int:
    program, *arguments = shlex.split(command)
    assert program == "vididi"
    return cli.main(arguments)


def test_the_tutorials_commands_work(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    assert len(RUNS) >= 6
    for _, command in RUNS:
        assert run_vididi(command) == 0, f"{command}: {capsys.readouterr().err}"
    printed = capsys.readouterr().out
    assert "6 cells" in printed
    assert "18 cells" in printed
    assert (workplace / "clip.png").is_file()


PRINTED = [
    (command, expected)
    for block in re.findall(
        r"^```console\n(.*?)^```$", (TUTORIALS / "faq.md").read_text(), re.MULTILINE | re.DOTALL
    )
    for command, _, expected in [block.removeprefix("$ ").partition("\n")]
]


@pytest.fixture(scope="module")
def finished(workplace: Path) -> Path:
    """The same with a prepared set and one finished run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        prepare = "vididi prepare folder --videos clips --out shards/clips --short-side 40"
        assert run_vididi(prepare) == 0
        assert run_vididi("vididi pretrain tiny.yaml --shards shards/clips --out runs/tiny") == 0
    return workplace


@pytest.mark.parametrize(("command", "expected"), PRINTED, ids=[line for line, _ in PRINTED])
def test_an_error_of_the_page_is_printed(
    command: str,
    expected: str,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(finished)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "100000")
        try:
            status = run_vididi(command)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    assert status in (1, 2)
    output = capsys.readouterr()
    printed = re.sub(r"\s+", " ", output.out + output.err)
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in expected.split("…"))
    pattern = pattern.replace(r"\ ", " ?").replace(".*", " ?.* ?")
    assert re.search(pattern, printed), output.err


def texts_of_the_program() -> Iterator[str]:
    """Every text in the program's source, what is filled in left out."""
    for path in (REPO / "vididi").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_an_error_of_the_page_that_is_not_run_has_the_program_s_words() -> None:
    blocks = re.findall(
        r"^```text\nerror: (.*?)\n```$", (TUTORIALS / "faq.md").read_text(), re.MULTILINE
    )
    assert len(blocks) == 4
    texts = "\n".join(texts_of_the_program())
    for block in blocks:
        pieces = [piece.strip() for piece in block.split("…") if len(piece.strip()) > 2]
        assert pieces
        assert [piece for piece in pieces if piece not in texts] == []


def test_a_sweep_that_a_tutorial_writes_is_one_that_editors_take(workplace: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from vididi.sweep_schema import sweep_schema

    sweeps = [path for path in workplace.glob("*.yaml") if path.name != "tiny.yaml"]
    assert len(sweeps) == 3
    for path in sweeps:
        jsonschema.validate(read_yaml(path), sweep_schema())
