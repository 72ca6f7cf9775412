"""The site of docs/: every page is in it, links lead somewhere, and it is built without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPO = Path(__file__).resolve().parents[1]
DOCS = REPO / "docs"
SETTINGS = yaml.safe_load((REPO / "mkdocs.yml").read_text())
PAGES = sorted(path.relative_to(REPO).as_posix() for path in DOCS.rglob("*.md"))


def hooks() -> Any:
    """docs/site_pages.py, which mkdocs loads by its path."""
    spec = importlib.util.spec_from_file_location("site_pages", DOCS / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = hooks()


def in_navigation(part: Any = SETTINGS["nav"]) -> Iterator[str]:
    """The pages of the navigation, in its order."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, list):
        for item in part:
            yield from in_navigation(item)
    else:
        for item in part.values():
            yield from in_navigation(item)


def test_every_page_is_in_the_navigation_once_the_start_first_and_the_log_last() -> None:
    pages = list(in_navigation())
    assert sorted(pages) == sorted(
        [page.removeprefix("docs/") for page in PAGES] + list(HOOKS.OUTSIDE)
    )
    assert pages[0] == "index.md"
    assert pages[-2:] == ["fidelity.md", "log.md"]


def links(text: str) -> list[str]:
    """The targets of a page's links that are files, outside code."""
    prose = "".join(HOOKS.CODE.split(text)[::2])
    targets = [found["target"] for found in HOOKS.LINK.finditer(prose)]
    return [target for target in targets if not re.match(r"[a-z]+:|#", target)]


@pytest.mark.parametrize("page", [*PAGES, *HOOKS.OUTSIDE.values()])
def test_a_link_leads_to_a_file_of_the_repository_and_on_the_site_to_a_page(page: str) -> None:
    text = (REPO / page).read_text()
    for target in links(text):
        path = (REPO / page).parent / target.partition("#")[0]
        assert path.exists(), f"{page}: {target}"
    of_page = HOOKS.SITE.get(page, page.removeprefix("docs/"))
    for target in links(HOOKS.site_links(text, page)):
        place = os.path.normpath(Path(of_page).parent / target.partition("#")[0])
        assert place in HOOKS.OUTSIDE or (DOCS / place).is_file(), f"{page}: {target}"


def test_links_are_those_of_the_site() -> None:
    text = "[a](docs/data.md#x) [b](LICENSE) [c](examples/) `[d](docs/data.md)` [e](https://x.y)"
    assert HOOKS.site_links(text, "README.md") == (
        "[a](data.md#x) b [c](examples.md) `[d](docs/data.md)` [e](https://x.y)"
    )
    picture = "![A clip.](docs/results/table6.md)"
    assert HOOKS.site_links(picture, "README.md") == "![A clip.](results/table6.md)"
    assert HOOKS.site_links("[a](../README.md) [b](../data.md)", "docs/tutorials/faq.md") == (
        "a [b](../data.md)"
    )
    assert HOOKS.site_links("[a](../../README.md)", "docs/tutorials/faq.md") == "[a](../index.md)"


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs (make docs)"
)
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in ("index.html", "tutorials/faq/index.html", "reference/configuration/index.html"):
        assert (tmp_path / page).is_file()
    assert (tmp_path / "reference" / "sweep.schema.json").is_file()
