"""docs/results.md and README's blocks: from made-up runs to records to pages, and the committed
pages from the committed records.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_runs import hits_of, made_up_evaluation, made_up_run, recalls

from vididi.analysis.records import SectionRecord, read_record
from vididi.analysis.results_files import main, render_files
from vididi.analysis.section_runs import seeds_text
from vididi.analysis.sections import load_definition, sweep_of
from vididi.errors import ConfigError, DamagedError

REPO = Path(__file__).resolve().parents[2]
ARMS: dict[str, dict[str, Any]] = {
    "base": {"schedule.order": 0},
    "random_1": {"schedule.order": 1, "schedule.selection": "random"},
    "schedule_1": {"schedule.order": 1, "schedule.selection": "scheduled", "schedule.mix": "same"},
    "vididi": {
        "schedule.order": 2,
        "schedule.selection": "scheduled",
        "schedule.mix": "both_ways",
    },
}
SWEEP = {"name": "made_up", "arms": {name: {"label": f"The {name}"} for name in ARMS}}
SECTION: dict[str, Any] = {
    "name": "first",
    "title": "A title",
    "sweep": "made_up.yaml",
    "commands": ["python run_sweep.py made_up.yaml"],
    "data": "Made-up videos.",
    "says": "What it says.",
    "says_not": "What it does not say.",
    "seeds": [0, 1, 2],
    "planned": "vididi",
    "table": "vididi_table_6",
    "columns": {"retrieval/R@1": "R@1", "silhouette/all": "silhouette"},
    "settings": [
        {"name": "recomputed", "title": "recomputed", "settings": {"batch_norm": "recomputed"}},
        {"name": "running", "title": "as training left them"},
    ],
}
MACHINE = {"processor": "A Processor", "cores": 2, "memory_gb": 8.0, "system": "Linux x86_64"}
ORIGIN = {"commit": "c" * 40, "machine": MACHINE, "versions": {"torch": "2.0"}}


def write_run(
    root: Path, arm: str, seed: int, rate: float, recomputed: float | None = None, **values: Any
) -> Path:
    """A finished run of the made-up sweep, which finds so many of 200 queries."""
    hits = hits_of(rate)
    metrics = {**recalls(hits), "silhouette/all": rate / 2}
    settings = {**ARMS[arm], **{key.replace("__", "."): v for key, v in values.items()}}
    folder = made_up_run(root, settings, metrics, seed, f"The {arm}", first_hits=hits)
    amend(folder / "cell.json", sweep="made_up", arm=arm)
    amend(folder / "result.json", seconds=3600.0, **ORIGIN)
    if recomputed is not None:
        correct = [True] * round(200 * recomputed) + [False] * (200 - round(200 * recomputed))
        evaluation = made_up_evaluation(
            folder,
            "retrieval",
            data_of(folder),
            {"retrieval/R@1": recomputed},
            checksum="videos",
            settings={"batch_norm": "recomputed"},
            correct=correct,
        )
        amend(evaluation / "result.json", **ORIGIN)
    return folder


def data_of(folder: Path) -> str:
    return str(yaml.safe_load((folder / "config.yaml").read_text())["data"]["name"])


def amend(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sweep file, a definition, a README, and runs of three seeds of four arms."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made_up.yaml").write_text(yaml.safe_dump(SWEEP))
    (tmp_path / "README.md").write_text(
        "Before\n<!-- results:first -->\n<!-- /results -->\nAfter\n"
    )
    define(tmp_path, SECTION)
    rates = {"base": 0.2, "random_1": 0.6, "schedule_1": 0.4, "vididi": 0.5}
    for arm, rate in rates.items():
        for seed in (0, 1, 2):
            write_run(tmp_path / "runs", arm, seed, rate + 0.01 * seed, rate - 0.1 + 0.01 * seed)
    return tmp_path


def define(place: Path, *sections: dict[str, Any]) -> None:
    (place / "docs" / "results").mkdir(parents=True, exist_ok=True)
    definition = {"title": "Results", "head": "The head.", "sections": list(sections)}
    (place / "docs/results/results.yaml").write_text(yaml.safe_dump(definition))


def record(place: Path, name: str = "first") -> SectionRecord:
    found = read_record(place / "docs" / "results" / f"{name}.json")
    assert found is not None
    return found


def tables(text: str) -> list[list[dict[str, str]]]:
    """The tables of a page, each a list of rows by column."""
    found: list[list[dict[str, str]]] = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [
            [cell.strip() for cell in line.strip().strip("|").split(" | ")]
            for line in block.splitlines()
        ]
        header, _, *rows = lines
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def rows_without_seeds(text: str) -> list[dict[str, str]]:
    return [
        row
        for table in tables(text)
        for row in table
        if not row.get("seeds", "").isdigit() or int(row["seeds"]) < 1
    ]


# --- From runs to pages ---------------------------------------------------------------------------


def test_numbers_have_spread_seeds_interval_commit_and_machine(place: Path) -> None:
    assert main(["--runs", "runs"]) == 0
    page = (place / "docs/results.md").read_text()
    primary = {row["Arm"]: row for row in tables(page)[0]}
    assert primary["The vididi"]["R@1"] == "41.0 ± 1.0"
    assert primary["The vididi"]["seeds"] == "3"
    assert primary["The vididi"]["R@1 paper"] == "47.6"
    assert primary["The vididi"]["R@1 gain paper"] == "+16.5"
    assert primary["The vididi"]["R@1 gain"] == "+30.0"
    assert re.fullmatch(r"\+2\d\.\d to \+3\d\.\d", primary["The vididi"]["R@1 gain 95%"])
    assert primary["The base"]["R@1 gain"] == ""
    assert "commit `cccccccccccc` on A Processor, 2 cores, 8 GB, Linux x86\\_64" in page or (
        "commit `cccccccccccc` on A Processor, 2 cores, 8 GB, Linux x86_64" in page
    )
    assert "12 runs of sweep `made_up`, 12.0 hours" in page
    assert "Another machine, or other versions, gives other digits" in page
    assert rows_without_seeds(page) == []
    assert rows_without_seeds((place / "README.md").read_text()) == []


def test_the_primary_setting_is_the_one_that_was_declared(place: Path) -> None:
    main(["--runs", "runs"])
    first, second = record(place).settings
    assert (first.name, second.name) == ("recomputed", "running")
    means = [{row.arm: row.values["retrieval/R@1"].mean for row in s.rows} for s in (first, second)]
    assert means[0]["vididi"] == pytest.approx(0.41)
    assert means[1]["vididi"] == pytest.approx(0.51)


def test_a_negative_result_is_said_first_and_in_the_readme_too(place: Path) -> None:
    main(["--runs", "runs"])
    said = (
        "The vididi is **not** the best arm: it is number 2. The highest mean of 4 arms: The"
        " random_1, R@1 51.0 ± 1.0 (3 seeds)."
    )
    for file in ("docs/results.md", "README.md"):
        text = (place / file).read_text().replace("\\_", "_")
        assert said in text
        assert "The vididi is above The base, The schedule_1; below The random_1" in text
    # The paper has base, random, same, ViDiDi; here random is the highest.
    assert "Spearman's rho with the order of" in (place / "README.md").read_text()
    assert record(place).settings[0].order.rho == pytest.approx(0.4)


def test_an_undecided_gain_and_a_missing_primary_setting_are_said(place: Path) -> None:
    for arm in ARMS:
        for seed in (0, 1, 2):
            shutil.rmtree(find(place, arm, seed))
    for seed, (base, vididi) in enumerate(((0.4, 0.42), (0.5, 0.45), (0.45, 0.5))):
        write_run(place / "runs", "base", seed, base)
        write_run(place / "runs", "vididi", seed, vididi)
    main(["--runs", "runs"])
    text = (place / "README.md").read_text()
    assert "The primary setting, recomputed, has **not** been measured." in text
    assert re.search(r"The vididi less The base: \+0\.7, 95% .* \*\*not resolved\*\* from 0", text)
    assert "The vididi is not resolved from The base." in text


def test_an_outcome_that_is_best_is_said_in_the_same_place(place: Path) -> None:
    for seed in (0, 1, 2):
        shutil.rmtree(find(place, "random_1", seed))
    main(["--runs", "runs"])
    assert "The highest mean of 3 arms: The vididi, R@1 41.0" in (place / "README.md").read_text()


def test_pages_are_made_again_from_records_alone(place: Path) -> None:
    main(["--runs", "runs"])
    files = [place / "docs/results.md", place / "README.md"]
    written = [file.read_text() for file in files]
    shutil.rmtree(place / "runs")
    assert main(["--from-records", "--check"]) == 0
    files[0].unlink()
    files[1].write_text("Before\n<!-- results:first -->\nold\n<!-- /results -->\nAfter\n")
    assert main(["--from-records", "--check"]) == 1
    assert main(["--from-records"]) == 0
    assert [file.read_text() for file in files] == written
    assert written[1].startswith("Before\n")
    assert written[1].endswith("-->\nAfter\n")


def test_a_record_is_a_few_kilobytes_and_reads_back(place: Path) -> None:
    main(["--runs", "runs"])
    path = place / "docs/results/first.json"
    assert path.stat().st_size < 20_000
    assert record(place).text() == path.read_text()


# --- What counts ----------------------------------------------------------------------------------


def find(place: Path, arm: str, seed: int) -> Path:
    return next(
        path.parent
        for path in (place / "runs").glob("*/cell.json")
        if (cell := json.loads(path.read_text()))["arm"] == arm and cell["seed"] == seed
    )


def test_what_is_left_out_is_named_with_the_reason(place: Path) -> None:
    write_run(place / "runs", "base", 9, 0.9)
    write_run(place / "runs", "vididi", 1, 0.9, optimiser__lr=9.0)
    (find(place, "schedule_1", 2) / "result.json").unlink()
    (find(place, "random_1", 0) / "result.json").write_text("{")
    (find(place, "random_1", 1) / "result.json").unlink()
    (find(place, "random_1", 1) / "error.txt").write_text("Traceback")
    main(["--runs", "runs"])
    left_out = "\n".join(record(place).left_out)
    assert "base seed 9: a seed that this section is not of" in left_out
    assert re.search(r"vididi seed 1: optimiser.lr 9.0.*unlike most of the arm", left_out)
    assert "schedule_1, seed 2: half-done" in left_out
    assert "random_1, seed 0: damaged" in left_out
    assert "random_1, seed 1: failed" in left_out
    assert re.search(r"^run-\d+/result.json: is not JSON", left_out, re.MULTILINE)
    assert str(place) not in left_out
    page = (place / "docs/results.md").read_text()
    assert page.count("- Left out: ") == len(record(place).left_out)
    assert record(place).settings[0].rows[-1].values["retrieval/R@1"].mean == pytest.approx(0.41)


def test_runs_that_were_not_measured_so_do_not_count_there_and_are_named(place: Path) -> None:
    shutil.rmtree(find(place, "vididi", 2) / "evaluations")
    main(["--runs", "runs"])
    first, second = record(place).settings
    seeds = {row.arm: row.values["retrieval/R@1"].seeds for row in first.rows}
    assert seeds["vididi"] == [0, 1]
    assert "The vididi: not measured so of seeds 2" in first.notes
    assert first.family is not None
    assert first.family.seeds == [0, 1]
    assert second.rows[-1].values["retrieval/R@1"].seeds == [0, 1, 2]
    row = tables((place / "docs/results.md").read_text())[0][-1]
    assert (row["seeds"], row["R@1 gain"]) == ("2", "+30.0")


def test_further_ways_of_measuring_are_counted(place: Path) -> None:
    made_up_evaluation(
        find(place, "base", 0),
        "retrieval",
        data_of(find(place, "base", 0)),
        {"retrieval/R@1": 0.5},
        checksum="videos",
        settings={"distance": "euclidean"},
    )
    main(["--runs", "runs"])
    assert record(place).further_settings == ["distance euclidean (1 run)"]
    page = (place / "docs/results.md").read_text()
    assert "- Measured too, and not shown: distance euclidean (1 run)." in page
    assert "- Not measured" not in page
    for arm in ARMS:
        for seed in (0, 1, 2):
            shutil.rmtree(find(place, arm, seed) / "evaluations")
    main(["--runs", "runs"])
    assert "- Not measured: recomputed." in (place / "docs/results.md").read_text()


def test_further_seeds_and_matching_values_are_asked_for(place: Path) -> None:
    for arm in ARMS:
        write_run(place / "runs", arm, 7, 0.3, 0.3)
        write_run(place / "long", arm, 0, 0.9, 0.9, training__epochs=240)
    define(
        place,
        {**SECTION, "further_seeds": True, "match": {"training.epochs": 400}},
        {**SECTION, "name": "long", "seeds": [0], "match": {"training": {"epochs": 240}}},
    )
    main(["--runs", "runs", "long"])
    by_arm = {row.arm: row.values["retrieval/R@1"] for row in record(place).settings[0].rows}
    assert by_arm["base"].seeds == [0, 1, 2, 7]
    (long, *_) = record(place, "long").settings[0].rows
    assert (long.values["retrieval/R@1"].mean, long.values["retrieval/R@1"].spread) == (0.9, None)
    assert "training.epochs is 240, not 400" in "\n".join(record(place).left_out)


def test_each_arm_may_have_a_base_of_its_own(place: Path) -> None:
    define(place, {**SECTION, "base": None, "bases": {"vididi": "schedule_1"}, "planned": None})
    main(["--runs", "runs"])
    gains = {row.arm: row.gain for row in record(place).settings[0].rows}
    assert gains["vididi"] is not None
    assert gains["vididi"].value == pytest.approx(0.1)
    assert gains["random_1"] is None
    assert "The vididi less The schedule" in (place / "README.md").read_text()


def test_gains_by_group_stand_beside_the_others_where_they_are_asked_for(place: Path) -> None:
    main(["--runs", "runs"])
    plain = (place / "docs/results/first.json").read_text()
    assert "by_group" not in plain
    define(place, {**SECTION, "by_group": r"v\d{4}(\d)"})  # the last digit of a video's id
    main(["--runs", "runs"])
    gains = [row.gain for row in record(place).settings[0].rows if row.gain]
    assert len(gains) == 3
    for gain in gains:
        assert gain.by_group is not None
        assert 0 <= gain.by_group.positive <= gain.by_group.groups == 10
        low, high = gain.by_group.interval
        assert low <= gain.value <= high
    row = tables((place / "docs/results.md").read_text())[0][1]
    assert row["groups above 0"].endswith(" of 10")
    assert " to " in row["R@1 gain 95%, by group"]


def test_a_setting_of_which_no_video_has_a_score_has_no_gains_by_group(place: Path) -> None:
    """As of velocity among velocity."""
    whole = {"name": "whole", "title": "of whole runs", "metric": "silhouette/all"}
    settings = [{"name": "plain", "title": "as it is"}, whole]
    define(place, {**SECTION, "by_group": r"v\d{4}(\d)", "settings": settings})
    for path in (place / "runs").rglob("result.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "silhouette/all": 0.25}))
    main(["--runs", "runs"])
    plain, other = (setting.rows for setting in record(place).settings)
    assert all(row.gain.by_group for row in plain if row.gain)
    assert [row.gain.value for row in other if row.gain] == [0.0] * 3
    assert not any(row.gain.by_group for row in other if row.gain)
    page = (place / "docs/results.md").read_text()
    assert page.count("groups above 0") == 1


def test_groups_that_are_too_few_are_an_error(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    define(place, {**SECTION, "by_group": r"v(\d)"})
    assert main(["--runs", "runs"]) == 2
    assert "there is 1 group" in capsys.readouterr().err


def test_runs_that_do_not_say_where_they_are_from_need_it_stated(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = find(place, "base", 0) / "result.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in content.items() if k not in ORIGIN}))
    assert main(["--runs", "runs"]) == 2
    assert "does not record by which commit and machine" in capsys.readouterr().err
    define(place, {**SECTION, "unrecorded": {"commit": "abc", "machine": "My machine"}})
    assert main(["--runs", "runs"]) == 0
    page = (place / "docs/results.md").read_text()
    assert "- 1 run: commit `abc` on My machine (stated; these results do not record it)" in page


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"says": "It gains 12.5 points."}, "'12.5' is a measured number"),
        ({"settings": []}, "settings"),
        ({"seeds": [1, 1]}, "seeds: 1 is there twice"),
        ({"name": "../x"}, "name"),
        ({"colums": {}}, "unknown key (did you mean 'columns'?)"),
        ({"planned": "other"}, "'other' is no arm of made_up.yaml"),
        ({"columns": {"R@1": "R@1"}}, "'R@1' is not valid"),
        ({"sweep": "none.yaml"}, "none.yaml"),
    ],
)
def test_a_definition_that_is_wrong_is_refused(
    place: Path, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    define(place, {**SECTION, **change})
    assert main(["--runs", "runs"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_record_of_another_definition_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--runs", "runs"])
    define(place, {**SECTION, "says": "Other words."})
    assert main(["--from-records"]) == 0
    define(place, {**SECTION, "seeds": [0, 1]})
    assert main(["--from-records"]) == 2
    assert "was made when the section had another seeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("readme", "message"),
    [
        ("<!-- results:none -->\n<!-- /results -->\n", "results:none is no section"),
        ("<!-- results:first -->\nno end\n", "has no <!-- /results --> after it"),
        ("<!-- results:first -->\n<!-- results:first -->\n<!-- /results -->", "has no <!-- /res"),
    ],
)
def test_a_readme_whose_marks_do_not_fit_is_left_alone(
    place: Path, readme: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "README.md").write_text(readme)
    assert main(["--runs", "runs"]) == 2
    assert message in capsys.readouterr().err
    assert (place / "README.md").read_text() == readme


def test_without_a_run_a_record_stays_and_this_is_said(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--runs", "runs"])
    before = record(place)
    (place / "empty").mkdir()
    assert main(["--runs", "empty"]) == 0
    assert "first: no finished run of made_up.yaml with seeds 0 to 2" in capsys.readouterr().err
    assert record(place) == before
    assert main(["--runs", "nowhere"]) == 2
    assert main(["--runs", "runs", "--only", "second"]) == 2


def test_a_damaged_record_is_named(place: Path) -> None:
    main(["--runs", "runs"])
    path = place / "docs/results/first.json"
    amend(path, runs="many")
    with pytest.raises(DamagedError, match="runs"):
        read_record(path)


def test_seeds_in_words() -> None:
    assert seeds_text([5, 0, 1, 50, 51, 52, 53]) == "0, 1, 5, 50 to 53"


# --- The committed ones ---------------------------------------------------------------------------


def test_the_committed_pages_are_what_the_committed_records_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPO)
    assert main(["--from-records", "--check"]) == 0, capsys.readouterr().err


def test_every_row_of_the_committed_pages_has_its_seeds() -> None:
    readme = (REPO / "README.md").read_text()
    blocks = re.findall(r"<!-- results:\S+ -->(.*?)<!-- /results -->", readme, re.DOTALL)
    for text in ((REPO / "docs/results.md").read_text(), *blocks):
        assert rows_without_seeds(text) == []


def test_the_readme_has_no_measured_number_outside_of_its_blocks() -> None:
    text = re.sub(
        r"<!-- results:\S+ -->.*?<!-- /results -->",
        "",
        (REPO / "README.md").read_text(),
        flags=re.DOTALL,
    )
    assert re.findall(r".*(?:±|R@1 [-+]?\d|95% [-+]?\d).*", text) == []


def test_every_committed_record_is_of_a_section() -> None:
    folder = REPO / "docs" / "results"
    definition = load_definition(folder / "results.yaml")
    names = {section.name for section in definition.sections}
    assert {path.stem for path in folder.glob("*.json")} <= names
    for section in definition.sections:
        sweep_of(section, REPO)
    rendered = render_files(definition, folder, REPO / "docs/results.md", REPO / "README.md")
    assert len(rendered) == 2


def test_a_section_names_arms_of_its_sweep() -> None:
    section = load_definition(REPO / "docs/results/results.yaml").sections[0]
    with pytest.raises(ConfigError, match="no arm of sweeps"):
        sweep_of(section.model_copy(update={"planned": "none"}), REPO)
