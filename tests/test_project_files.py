"""Files about the project itself: the workflow, the commit hooks, and the pages for
contributors.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from vididi import __version__

REPO = Path(__file__).resolve().parents[1]
PAGES = ["CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md", "docs/adding.md"]


def test_the_workflow_runs_the_gate_and_nothing_else() -> None:
    workflow = yaml.safe_load((REPO / ".github" / "workflows" / "ci.yml").read_text())
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key on as a boolean
    (job,) = workflow["jobs"].values()
    *actions, gate = job["steps"]
    assert [step["uses"].partition("@")[0] for step in actions] == [
        "actions/checkout",
        "actions/setup-python",
    ]
    assert actions[1]["with"]["python-version"] == "3.11"
    assert gate == {"run": ".ci/run"}
    assert os.access(REPO / gate["run"], os.X_OK)


def test_the_hooks_are_local_and_run_the_environment_s_programs() -> None:
    (repository,) = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    commands = [hook["entry"].split() for hook in repository["hooks"]]
    assert [command[0] for command in commands] == [
        ".venv/bin/ruff",
        ".venv/bin/ruff",
        ".venv/bin/mypy",
    ]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    make = (REPO / "Makefile").read_text()
    assert "VENV ?= .venv\n" in make
    for program, *arguments in commands:
        assert " ".join([program.replace(".venv", "$(VENV)"), *arguments[:1]]) in make


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page: str) -> None:
    path = REPO / page
    text = path.read_text()
    prose = re.sub(r"^```\w+\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
        assert (path.parent / link).exists(), link
    for name in re.findall(r"`((?:tests|docs|vididi|analysis|benchmarks|sweeps)/[\w/.]+)`", text):
        assert (REPO / name).exists() or name in created(text), name
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", (REPO / "Makefile").read_text(), re.MULTILINE), target


def created(text: str) -> set[str]:
    """The files that a page tells to make."""
    return set(re.findall(r"<!-- new file: (\S+) -->", text))


def test_the_changelog_has_its_form_and_ends_with_this_version() -> None:
    headings = re.findall(r"^(#{1,3}) (.+)$", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    versions = [text for level, text in headings if level == "##"]
    assert versions[0] == "[Unreleased]"
    assert [re.sub(r" - \d{4}-\d\d-\d\d$", "", version) for version in versions[1:2]] == [
        f"[{__version__}]"
    ]
    assert {text for level, text in headings if level == "###"} <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }
