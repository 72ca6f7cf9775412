"""The page of ``vididi report``: what is in it, and what a browser makes of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_runs import made_up_evaluation, made_up_run

from vididi.analysis.reading import read_run
from vididi.analysis.report import main
from vididi.analysis.report_classes import by_class
from vididi.analysis.report_facts import commands, differing_keys, parallel_coordinates
from vididi.evaluation.retrieval import first_hits, recall_at

BROWSER = Path(__file__).resolve().parents[1] / "browser"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
EVIL = "<script>alert(1)</script>"
CLASSES = ["jump", "wave", EVIL]
EACH = 4  # test videos of a class, and as many training videos
Fixture = pytest.CaptureFixture[str]


def finished_run(root: Path, label: str, seed: int, values: dict | None = None) -> Path:
    """A run that kept queries and features at its end, and wrote its epochs."""
    rng = np.random.default_rng([seed, len(label)])
    labels = np.repeat(np.arange(len(CLASSES)), 2 * EACH)
    x = (np.eye(6)[labels] + 0.5 * rng.normal(size=(len(labels), 6))).astype(np.float32)
    test = np.tile(np.repeat([True, False], EACH), len(CLASSES))
    hits = first_hits(x[test], labels[test], x[~test], labels[~test])
    metrics = {f"retrieval/R@{k}": value for k, value in recall_at(hits, (1, 5)).items()}
    run = made_up_run(root, values or {}, metrics, seed, label)
    ids = np.array([f"v{i}" for i in range(len(labels))])
    queries = {"video_id": ids[test], "label": labels[test], "first_hit": hits}
    pq.write_table(pa.table(queries), run / "queries.parquet")
    columns = {
        "video_id": ids,
        "label": labels,
        "class": [CLASSES[label] for label in labels],
        "split": np.where(test, "test", "train"),
        "features": pa.FixedSizeListArray.from_arrays(x.ravel(), 6),
    }
    pq.write_table(pa.table(columns), run / "features.parquet")
    lines = [
        json.dumps({"epoch": epoch, "step": epoch, "train/loss": 1 / epoch}) for epoch in (1, 2)
    ]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms of two seeds, one of them with a hostile name, and a run that failed."""
    root = tmp_path_factory.mktemp("report") / "sweep"
    for seed in (0, 1):
        finished_run(root, "Base", seed)
        finished_run(root, EVIL, seed, {"training.epochs": 7})
    failed = finished_run(root, "Broken", 5)
    (failed / "result.json").unlink()
    (failed / "error.txt").write_text(f"run: something\nLossError: {EVIL} is NaN\n")
    return root


def page_of(runs: Path, out: Path, *more: str) -> str:
    assert main([str(runs), "--out", str(out), *more]) == 0
    return out.read_text()


@pytest.fixture(scope="module")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDIDI_CACHE", str(out.parent / "cache"))
        page_of(runs, out)
    return out


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and the text of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_names_from_files_are_shown_and_not_executed(page: Path) -> None:
    text = page.read_text()
    tags = Tags(text)
    assert [tag for tag, _ in tags.tags].count("script") == 2  # the data and the page's own
    assert EVIL not in text
    assert EVIL in tags.texts  # a class or an arm, as text


def test_the_page_asks_for_nothing(page: Path) -> None:
    addresses = [
        value or ""
        for _, attributes in Tags(page.read_text()).tags
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "srcset")
    ]
    assert addresses
    assert [a for a in addresses if not a.startswith(("#", "data:"))] == []
    style = page.read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_same_runs_give_the_same_page(runs: Path, page: Path, tmp_path: Path) -> None:
    one = page_of(runs, tmp_path / "report.html", "--no-pictures")
    assert page_of(runs, tmp_path / "report.html", "--no-pictures") == one
    assert "Left out, as --no-pictures asks." in one
    assert "Left out" not in page.read_text()


def test_what_did_not_end_well_is_there_by_name(page: Path) -> None:
    text = unescape(page.read_text())
    cells = text.partition('<section id="cells">')[2].partition("</section>")[0]
    assert "run-4" in cells
    assert f"LossError: {EVIL} is NaN" in cells
    assert "failed" in cells
    assert "run-0" not in cells


def test_what_is_missing_is_said_in_a_sentence(page: Path) -> None:
    text = page.read_text()
    pictures = text.partition('<section id="pictures">')[2].partition("</section>")[0]
    assert "Saliency: not drawn; the prepared videos are not on this machine" in pictures
    assert "Sheet: not drawn; the prepared videos are not on this machine" in pictures
    assert "t-SNE of test features" in pictures  # which the runs' own features are enough for
    assert "Nothing more: the prepared videos are not on this machine" in text


def test_recall_by_class_is_of_the_stored_queries(runs: Path) -> None:
    folders = [runs / "run-0", runs / "run-2"]
    (measured,) = by_class({"Base": [read_run(folder) for folder in folders]}, [])
    right = [
        np.bincount(table["label"].to_numpy()[table["first_hit"].to_numpy() == 0], minlength=3)
        for table in (pq.read_table(folder / "queries.parquet") for folder in folders)
    ]
    expected = np.mean(right, axis=0) / EACH
    assert measured.videos == dict.fromkeys(CLASSES, EACH)
    assert [measured.recall[name] for name in CLASSES] == [[value] for value in expected]


def test_a_confusion_s_diagonal_is_what_was_right(runs: Path) -> None:
    (measured,) = by_class({"Base": [read_run(runs / "run-0")]}, [])
    (confusion,) = measured.confusions
    assert confusion.counts.sum(axis=1).tolist() == [EACH] * 3
    right = [round(EACH * measured.recall[name][0]) for name in confusion.classes]
    assert np.diag(confusion.counts).tolist() == right


def test_a_classifier_s_predictions_are_taken_as_they_are(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, {}, {})
    folder = made_up_evaluation(run, "linear", "motion", {"linear/top1": 0.5})
    columns = {"video_id": list("abcd"), "label": [0, 0, 1, 1], "first_hit": [0, 1, 0, 1]}
    pq.write_table(pa.table({**columns, "predicted": [0, 1, 1, 0]}), folder / "queries.parquet")
    (measured,) = by_class({"A": [read_run(run)]}, ["in", "out"])
    assert measured.confusions[0].counts.tolist() == [[1, 1], [1, 1]]
    assert measured.recall == {"in": [0.5], "out": [0.5]}
    pq.write_table(pa.table(columns), folder / "queries.parquet")
    os.utime(folder / "queries.parquet", ns=(1, 1))
    (measured,) = by_class({"A": [read_run(run)]}, ["in", "out"])
    assert measured.confusions == []
    assert "not what it was taken for" in measured.why_not


def test_the_axes_are_the_values_that_differ(runs: Path) -> None:
    read = [read_run(runs / f"run-{number}") for number in range(4)]
    assert differing_keys(read) == ["training.epochs", "training.seed"]
    drawn = parallel_coordinates(read)
    assert [line["values"] for line in drawn["runs"]] == [
        [run.config["training.epochs"], run.seed] for run in read
    ]
    assert drawn["metrics"][0] == "retrieval/R@1"
    assert drawn["runs"][3]["metrics"]["retrieval/R@1"] == read[3].result["retrieval/R@1"]


def test_an_evaluation_s_command_has_what_the_run_does_not(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "sweep", {}, {})
    made_up_evaluation(
        run,
        "retrieval",
        "motion",
        {"retrieval/R@1": 0.5},
        settings={"clips": 10, "batch_norm": "recomputed", "orders": [0, 1]},
    )
    lines = [command for _, command in commands([read_run(run)], None, "", [])]
    own = read_run(run).config["evaluation.clips"]
    clips = "" if own == 10 else "--set clips=10 "
    assert (
        f"vididi evaluate retrieval sweep {clips}--set batch_norm=recomputed --set 'orders=[0, 1]'"
        in lines
    )


def test_faults_are_named_in_one_line(tmp_path: Path, capsys: Fixture) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        ([str(tmp_path / "none")], "there is no such folder"),
        ([str(tmp_path / "empty"), "--out", str(tmp_path / "x.png")], "must end in .html"),
        ([str(tmp_path / "empty"), "--table", "none"], "table: 'none' is not valid"),
    ):
        assert main(["--out", str(tmp_path / "x.html"), *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_folder_without_finished_runs_has_a_page_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "No finished runs." in page_of(tmp_path / "empty", tmp_path / "x.html")


# --- In a browser ---------------------------------------------------------------------------------


def missing_for_a_browser() -> str:
    """What there is not; empty where everything is there."""
    if not Path(CHROMIUM).is_file():
        return f"no chromium at {CHROMIUM} (apt-get install chromium)"
    if shutil.which("node") is None:
        return "no node"
    packages = [BROWSER / "node_modules" / name for name in ("playwright-core", "axe-core")]
    if not all(path.is_dir() for path in packages):
        return f"no npm packages (npm ci in {BROWSER.relative_to(BROWSER.parents[1])})"
    return ""


@pytest.fixture(scope="module")
def seen(page: Path) -> dict:
    """What the browser found."""
    if missing := missing_for_a_browser():
        pytest.skip(missing)
    done = subprocess.run(
        ["node", str(BROWSER / "check.mjs"), str(page)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_browser_asks_no_network_and_has_no_error(seen: dict) -> None:
    assert (seen["requests"], seen["console"], seen["dialogs"]) == ([], [], 0)


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_is_as_wide_as_the_screen_and_accessible(seen: dict, width: int) -> None:
    found = seen["widths"][str(width)]
    assert found["page"] <= width
    assert found["violations"] == []
    assert found["lines"] == 4  # of the parallel coordinates, one for each finished run


def test_a_heading_sorts_by_pointer_and_by_keys(seen: dict) -> None:
    sorting = seen["sorting"]
    numbers = [
        [float(re.split(r"\s", text)[0]) for text in s["texts"] if text] for s in sorting["sorts"]
    ]
    assert [s["aria"] for s in sorting["sorts"]] == ["ascending", "descending", "ascending"]
    assert numbers[0] == numbers[2] == sorted(numbers[1])
    assert numbers[1] == numbers[0][::-1]
    assert sorted(sorting["before"]) == sorted(sorting["sorts"][0]["texts"])


def test_a_picture_opens_and_closes_by_keys(seen: dict) -> None:
    assert seen["enlarging"] == {"open": True, "closed": True, "back": True}


def test_ways_of_measuring_are_told_apart_by_their_settings() -> None:
    from vididi.analysis.reading import Measurement
    from vididi.analysis.report_classes import _titles

    def measured(name: str, protocol: str = "retrieval", **settings: Any) -> Measurement:
        result = {"protocol": protocol}
        return Measurement(name, "motion", None, "", settings, {}, {}, None, result=result)

    running = measured("retrieval-motion-1", batch_norm="running", clips=10)
    recomputed = measured("retrieval-motion-2", batch_norm="recomputed", clips=10)
    other = measured("retrieval-motion-3", batch_norm="recomputed", clips=10)
    linear = measured("linear-motion-4", "linear", clips=10)
    end = measured("", batch_norm="running")
    assert _titles([end, running, recomputed, linear]) == [
        "Nearest neighbours at the end of each run, on motion",
        "retrieval on motion: batch_norm running",
        "retrieval on motion: batch_norm recomputed",
        "linear on motion",
    ]
    assert _titles([recomputed, other]) == [
        "retrieval on motion, retrieval-motion-2",
        "retrieval on motion, retrieval-motion-3",
    ]
