"""docs/results.md and the blocks of README.md, from run folders or from records: ``vididi results
--runs RUNS`` or ``vididi results --from-records``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from vididi.analysis.reading import print_to_stderr
from vididi.analysis.recording import record_section
from vididi.analysis.records import RECORD_KEY, SectionRecord, read_record, record_path
from vididi.analysis.results_page import (
    MeasuredSection,
    relative_to_page,
    render_block,
    render_page,
)
from vididi.analysis.section_runs import read_everything, seeds_text
from vididi.analysis.sections import (
    ResultsDefinition,
    ResultsSection,
    load_definition,
    sweep_of,
)
from vididi.errors import ConfigError, DataError, VididiError
from vididi.runs.mirror import pulled
from vididi.terminal import Parser, say, say_error
from vididi.words import counted

DEFINITION, PAGE, README = (
    Path("docs/results/results.yaml"),
    Path("docs/results.md"),
    Path("README.md"),
)
_BLOCK = re.compile(r"<!-- results:(\S+) -->\n(.*?)<!-- (/?)results(:\S+)? -->", re.DOTALL)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 written, 1 --check found a file that would change, 2 nothing can be said."""
    arguments = _parser().parse_args(argv)
    try:
        definition = load_definition(arguments.definition)
        only = _sections_named(definition, arguments.only)
        folder = arguments.definition.parent
        if arguments.runs:
            _measure(only, folder, [pulled(root) for root in arguments.runs])
        texts = render_files(definition, folder, arguments.out, arguments.readme)
    except (VididiError, ValueError) as error:
        say_error(error)
        return 2
    changed = [path for path, text in texts.items() if _read(path) != text]
    stale = stale_pictures(definition, folder)
    print_to_stderr(stale)
    if arguments.check:
        print_to_stderr(f"{path}: is not what the records give" for path in changed)
        return 1 if changed or stale else 0
    for path in changed:
        path.write_text(texts[path], encoding="utf-8")
        say(f"wrote {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        description="Write docs/results.md, and the blocks of README.md between"
        " <!-- results:NAME --> and <!-- /results -->, by the sections that a definition has.",
        epilog=(
            "example: vididi results --runs runs\n         vididi results --from-records --check"
        ),
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--runs",
        nargs="+",
        metavar="DIR",
        help="measure sections anew: folders (s3://...) that hold runs/<sweep>/<cell>; sections"
        " without a run in them keep their records",
    )
    source.add_argument(
        "--from-records",
        action="store_true",
        help="only write the pages again, from the records beside the definition",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="SECTION",
        help="of --runs: measure only this section; may be given again",
    )
    _add_files(parser.add_argument_group("files"))
    parser.add_argument(
        "--check",
        action="store_true",
        help="write no page; exit status 1 where one would change, or a picture would",
    )
    return parser


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--definition",
        type=Path,
        default=DEFINITION,
        metavar="FILE.yaml",
        help=f"of the sections (default: {DEFINITION})",
    )
    group.add_argument(
        "--out", type=Path, default=PAGE, metavar="FILE.md", help=f"the page (default: {PAGE})"
    )
    group.add_argument(
        "--readme",
        type=Path,
        default=README,
        metavar="FILE.md",
        help=f"the file with blocks (default: {README})",
    )


def _sections_named(definition: ResultsDefinition, names: Sequence[str]) -> list[ResultsSection]:
    by_name = {section.name: section for section in definition.sections}
    for name in names:
        if name not in by_name:
            raise ConfigError(f"--only: {name!r} is not valid; it is one of {', '.join(by_name)}")
    return [by_name[name] for name in names or by_name]


def _measure(sections: Sequence[ResultsSection], folder: Path, roots: Sequence[Path]) -> None:
    """Write the record of each section that has a run below ``roots``, and say what is left out."""
    found = read_everything(roots)
    for section in sections:
        record = record_section(section, sweep_of(section, Path()), found)
        if record is None:
            print_to_stderr(
                [
                    f"{section.name}: no finished run of {section.sweep} with seeds"
                    f" {seeds_text(section.seeds)}; its record stays as it is"
                ]
            )
            continue
        path = record_path(folder, section.name)
        path.write_text(record.text(), encoding="utf-8")
        say(f"wrote {path}: {counted(record.runs, 'run')}")
        print_to_stderr(f"  left out: {line}" for line in record.left_out)


# --- Pages ----------------------------------------------------------------------------------------


def render_files(
    definition: ResultsDefinition, folder: Path, page: Path, readme: Path
) -> dict[Path, str]:
    """What the page and the README should hold, by the records in ``folder``.

    Raises:
        DataError: a record is of another definition of its section, or was written by a newer
            program; DamagedError: one is damaged. ConfigError: the README names an unknown block.
    """
    measured = [
        MeasuredSection(section, record)
        for section in definition.sections
        if (record := _current_record(section, folder)) is not None
    ]

    def pictures(beside: Path) -> dict[str, str]:
        return {
            one.section.name: relative_to_page(file, beside)
            for one in measured
            if one.section.picture and (file := folder / one.section.picture.file).is_file()
        }

    blocks = {section.name: "" for section in definition.sections}
    link, shown = relative_to_page(page, readme), pictures(readme)
    for one in measured:
        name = one.section.name
        blocks[name] = render_block(one, shown.get(name), link)
    text = _read(readme)
    if text is None:
        raise ConfigError(f"--readme: {readme}: there is no such file")
    return {
        page: render_page(definition, measured, pictures(page)),
        readme: fill_blocks(text, blocks, readme),
    }


def _current_record(section: ResultsSection, folder: Path) -> SectionRecord | None:
    path = record_path(folder, section.name)
    record = read_record(path)
    if record is not None and record.measured_by != section.measured_by():
        ours = section.measured_by()
        keys = [key for key in ours if ours[key] != record.measured_by.get(key)]
        raise DataError(
            f"{path}: was made when the section had another {' and '.join(keys) or 'form'}; make it"
            f" again from the runs: vididi results --only {section.name} --runs DIR"
        )
    return record


def fill_blocks(text: str, blocks: dict[str, str], path: Path) -> str:
    """A text with each block that it has between its marks; an empty one where there is none yet.

    Raises:
        ConfigError: a block has an unknown name, or no end.
    """
    for name in re.findall(r"<!-- results:(\S+) -->", text):
        if name not in blocks:
            raise ConfigError(
                f"{path}: results:{name} is no section; there are {', '.join(blocks)}"
            )

    def filled(match: re.Match[str]) -> str:
        name, _, end, other = match.groups()
        if not end or other:
            raise ConfigError(f"{path}: results:{name} has no <!-- /results --> after it")
        content = f"{blocks[name]}\n" if blocks[name] else ""
        return f"<!-- results:{name} -->\n{content}<!-- /results -->"

    result = _BLOCK.sub(filled, text)
    if result.count("<!-- results:") != result.count("<!-- /results -->"):
        raise ConfigError(f"{path}: a results: block has no <!-- /results --> after it")
    return result


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


# --- Pictures -------------------------------------------------------------------------------------


def stale_pictures(definition: ResultsDefinition, folder: Path) -> list[str]:
    """A line for each picture that was made of another record than its section has now."""
    lines = []
    for section in definition.sections:
        record = _current_record(section, folder)
        picture = section.picture
        if record is None or picture is None or not (folder / picture.file).is_file():
            continue
        if record_of_picture(folder / picture.file) != record.digest:
            lines.append(
                f"{folder / picture.file}: was made of other numbers; again:  {picture.command}"
            )
    return lines


def record_of_picture(path: Path) -> str | None:
    """The digest of the record that a PNG was made of; None where it does not say."""
    from PIL import Image

    with Image.open(path) as picture:
        return picture.info.get(RECORD_KEY)
