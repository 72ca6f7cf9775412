"""What mkdocs needs beside mkdocs.yml: pages of the site that lie outside docs/, and their links.

Files link to each other by their paths in the repository, so that they can be read there; on the
site README.md is the first page. A link to what is no part of the site becomes its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
# Pages of the site, and the files that they are of.
OUTSIDE = {
    "index.md": "README.md",
    "examples.md": "examples/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
SITE = {source: page for page, source in OUTSIDE.items()}
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]\n]+)\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`(?!\]))", re.MULTILINE | re.DOTALL)


def site_links(text: str, source: str) -> str:
    """The Markdown of a file of the repository, its links as the site has them.

    Args:
        source: the file's path in the repository.
    """
    page = SITE.get(source, source.removeprefix("docs/"))
    parts = CODE.split(text)  # code and inline code are every second part
    parts[::2] = [
        LINK.sub(lambda link: _site_link(link, source, page), part) for part in parts[::2]
    ]
    return "".join(parts)


def _site_link(link: re.Match[str], source: str, page: str) -> str:
    target, mark, anchor = link["target"].partition("#")
    if not target or re.match(r"[a-z]+:", target):
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    of_site = SITE.get(path) or (
        path.removeprefix("docs/")
        if path.startswith("docs/") and (REPO / path).is_file()
        else SITE.get(f"{path}/README.md")
    )
    if of_site is None:
        return link["text"]
    place = posixpath.relpath(of_site, posixpath.dirname(page) or ".")
    return f"{link['image']}[{link['text']}]({place}{mark}{anchor})"


def on_files(files: Any, config: Any) -> Any:
    """mkdocs asks which files there are."""
    from mkdocs.structure.files import File

    for page, source in OUTSIDE.items():
        text = (REPO / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=site_links(text, source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """mkdocs asks what a page says."""
    if page.file.src_uri in OUTSIDE:
        return markdown
    return site_links(markdown, f"docs/{page.file.src_uri}")
