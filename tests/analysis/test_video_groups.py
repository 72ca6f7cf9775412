"""Intervals by groups of test videos: against plain ones, by simulation, and from run folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_runs import UCF101, hits_of, made_up_run, recalls

from vididi.analysis.bootstrap import gain_interval, mean_interval
from vididi.analysis.compare import main as compare
from vididi.analysis.multiple_comparisons import freedom, intervals_of_differences
from vididi.analysis.paper_table import print_table
from vididi.analysis.ranks import rank_agreement
from vididi.analysis.reading import read_run
from vididi.analysis.video_groups import (
    FEWEST_GROUPS,
    MIN_GROUPS,
    PATTERNS,
    VideoGroups,
    difference_over_groups,
    numbered,
)
from vididi.data.stream import local_stream
from vididi.errors import ConfigError
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.training.context import LocalContext

RNG = np.random.default_rng(0)
A, B, C = ((RNG.random((3, 80)) < rate).astype(float) for rate in (0.4, 0.5, 0.7))
ALONE = [np.arange(80)]


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


# --- The bootstrap --------------------------------------------------------------------------------


def test_a_group_for_each_video_is_the_plain_bootstrap_to_the_bit() -> None:
    assert mean_interval([A], groups=ALONE) == mean_interval([A])
    plain = gain_interval([A], [B], same_seeds=True)
    assert gain_interval([A], [B], same_seeds=True, groups=ALONE) == plain
    assert mean_interval([A, B], groups=ALONE * 2) == mean_interval([A, B])
    differences = [[A - B], [C - B]]
    by_group = intervals_of_differences(differences, groups=ALONE)
    np.testing.assert_allclose(by_group, intervals_of_differences(differences), rtol=1e-12)
    arms = [[A], [B], [C]]
    assert rank_agreement(arms, [1, 2, 3], groups=ALONE) == rank_agreement(arms, [1, 2, 3])


@pytest.mark.parametrize("copies", [2, 4, 9])
@pytest.mark.parametrize("gain", [False, True])
def test_of_copies_it_is_wider_by_the_root_of_how_many_there_are(copies: int, gain: bool) -> None:
    one, other = (np.repeat(x[:1], copies, axis=1) for x in (A, B))
    groups = [np.repeat(np.arange(80), copies)]

    def interval(groups: Any) -> tuple[float, float]:
        if gain:
            return gain_interval([one], [other], same_seeds=True, groups=groups, replicates=8_000)
        return mean_interval([one], groups=groups, replicates=8_000)

    ratio = width(interval(groups)) / width(interval(None))
    assert ratio == pytest.approx(np.sqrt(copies), rel=0.08)
    single = mean_interval([A[:1]])
    assert mean_interval([np.repeat(A[:1], copies, axis=1)], groups=groups) == pytest.approx(single)


def test_groups_of_unlike_size_are_drawn_whole_as_in_a_loop() -> None:
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 9, 20)
    groups = np.repeat(np.arange(20), sizes)
    scores = (rng.random(len(groups)) < rng.random(20)[groups]).astype(float)
    drawn = []
    for _ in range(8_000):
        chosen = rng.integers(0, 20, 20)
        drawn.append(np.concatenate([scores[groups == group] for group in chosen]).mean())
    found = mean_interval([scores[None]], groups=[groups], replicates=8_000)
    assert found == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)
    assert width(found) > 1.2 * width(mean_interval([scores[None]]))


def test_degrees_of_freedom_are_those_of_groups() -> None:
    difference = A - B
    assert freedom([difference], ALONE) == pytest.approx(freedom([difference]))
    copied = np.repeat(difference, 3, axis=1)
    assert freedom([copied], [np.repeat(np.arange(80), 3)]) == pytest.approx(freedom([difference]))


def test_intervals_by_group_hold_the_truth_where_plain_ones_do_not() -> None:
    """30 groups of 6 videos that share most of what makes them hard."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(30), 6)
    held = np.zeros(2)
    for _ in range(100):
        chance = np.where(rng.random(30) < 0.5, 0.9, 0.1)
        scores = (rng.random(180) < chance[groups]).astype(float)[None]
        for i, by in enumerate((None, [groups])):
            low, high = mean_interval([scores], groups=by, replicates=200)
            held[i] += low <= 0.5 <= high
    plain, by_group = held / 100
    assert plain < 0.75
    assert by_group > 0.88


@pytest.mark.parametrize("groups", [np.arange(79), np.arange(80) + 1, np.arange(80) * 2])
def test_groups_that_do_not_fit_are_refused(groups: Any) -> None:
    with pytest.raises(ValueError, match="groups: "):
        mean_interval([A], groups=[groups])


# --- Names of groups ------------------------------------------------------------------------------


def test_groups_are_numbered_as_they_come() -> None:
    assert numbered(np.array(["b", "a", "b", "c"])).tolist() == [0, 1, 0, 2]
    assert numbered(np.array([f"scene {9 - i}" for i in range(9)])).tolist() == list(range(9))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v_(.*", "is no pattern"),
        ("v_.*_c", "has 0 pairs of parentheses; a pattern has one"),
        ("(a)(b)", "has 2 pairs of parentheses"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match="--by-group: ") as error:
        VideoGroups.named(name)
    assert said in str(error.value)


def test_ucf101_s_groups_are_read_off_its_names() -> None:
    import re

    pattern = re.compile(PATTERNS["ucf101"])
    names = ["Archery/v_Archery_g01_c07.avi", "Biking/v_Biking_g01_c02.avi", "v_Biking_g12_c01"]
    found = [match[1] for name in names if (match := pattern.search(name))]
    assert found == ["v_Archery_g01", "v_Biking_g01", "v_Biking_g12"]


# --- From run folders -----------------------------------------------------------------------------


def run_with(
    root: Path, label: str, rate: float, seed: int, scenes: Sequence[Any] | None, order: int
) -> Path:
    """A run with 200 queries, of which each has a scene where these are given."""
    hits = [int(i) for i in np.random.default_rng(seed + order).permutation(hits_of(rate))]
    values: dict[str, Any] = {**UCF101, "schedule.order": order, "backbone.name": "r3d_18"}
    values |= {"schedule.mix": "same"} if order == 1 else {}  # a row of Table 6
    folder = made_up_run(root, values, recalls(hits), seed, label, first_hits=hits)
    if scenes is not None:
        table = pq.ParquetFile(folder / "queries.parquet").read()
        pq.write_table(
            table.append_column("scene", pa.array(list(scenes), pa.string())),
            folder / "queries.parquet",
        )
    return folder


def arms(root: Path, scenes: Sequence[Any] | None) -> Path:
    for order, (label, rate) in enumerate((("base", 0.3), ("first", 0.4), ("second", 0.5))):
        for seed in (0, 1, 2):
            run_with(root, label, rate, seed, scenes, order)
    return root


TWENTY = [f"scene {i % 20}" for i in range(200)]


def test_groups_are_in_the_order_of_the_sorted_videos(tmp_path: Path) -> None:
    folder = run_with(tmp_path, "a", 0.3, 0, TWENTY, 0)
    table = pq.ParquetFile(folder / "queries.parquet").read()
    order = np.random.default_rng(0).permutation(200)
    pq.write_table(table.take(pa.array(order)), folder / "queries.parquet")
    groups = VideoGroups.named("scene").of(read_run(folder).measurements[0])
    assert groups is not None
    assert groups.tolist() == [i % 20 for i in range(200)]
    by_id = VideoGroups.named(r"v\d{3}(\d)\d").of(read_run(folder).measurements[0])
    assert by_id is not None
    assert by_id.tolist() == [i // 10 % 10 for i in range(200)]


def test_compare_says_by_which_groups_its_interval_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms(tmp_path, TWENTY)
    plain = [str(tmp_path / "run-3"), str(tmp_path / "run-0")]
    assert compare(plain) == 0
    before = capsys.readouterr().out
    assert compare([*plain, "--by-group", "scene"]) == 0
    after = capsys.readouterr().out
    said = "by group (scene): 20 groups of 200 videos on ucf101 split 1, which is few"
    assert said in after
    assert "by group" not in before
    assert before.splitlines()[0] == after.splitlines()[0]
    assert before.splitlines()[1] != after.splitlines()[1]
    assert compare([*plain, "--by-group", r"v(\d+)"]) == 0  # each for itself
    alone = capsys.readouterr().out
    assert alone.splitlines()[1] == before.splitlines()[1]
    assert "200 groups of 200 videos" in alone


def test_several_arms_are_compared_by_group_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms(tmp_path, TWENTY)
    asked = ["base", "first", "second", "--runs", str(tmp_path), "--by-group"]
    assert compare([*asked, "scene"]) == 0
    by_scene = capsys.readouterr().out
    assert "by group (scene): 20 groups" in by_scene
    assert compare([*asked, r"v(\d+)"]) == 0
    alone = capsys.readouterr().out
    assert compare(asked[:-1]) == 0
    assert alone.splitlines()[:6] == capsys.readouterr().out.splitlines()[:6]
    assert compare([*asked[:-1], "--by-group", "scene", "--order", "vididi_table_6"]) == 0
    assert "Spearman's rho" in capsys.readouterr().out


def test_of_few_groups_a_difference_has_the_t_interval_over_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [f"{i % (MIN_GROUPS - 1)}" for i in range(200)]
    arms(tmp_path, few)
    assert compare(["base", "first", "--runs", str(tmp_path), "--by-group", "scene"]) == 0
    printed = capsys.readouterr().out
    assert "9 groups of 200 videos" in printed
    assert "Student's t over its groups" in printed
    assert ", 95% " in printed.splitlines()[1]
    # Several at once are drawn, not taken by t.
    assert compare(["base", "first", "second", "--runs", str(tmp_path), "--by-group", "scene"]) == 2
    assert "takes 10 or more, that of two arms 3" in capsys.readouterr().err


def test_the_t_interval_is_that_of_the_groups_means_where_they_are_equally_large() -> None:
    from scipy.stats import ttest_1samp

    differences = np.random.default_rng(0).normal(0.2, 1, 200)
    groups = np.arange(200) % 5
    means = [differences[groups == group].mean() for group in range(5)]
    expected = ttest_1samp(means, 0).confidence_interval(0.95)
    assert difference_over_groups(differences, groups) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("sizes", [(40, 40, 40, 40, 40), (20, 30, 40, 50, 60)])
def test_the_t_interval_of_five_groups_holds_the_truth_as_often_as_it_says(
    sizes: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(5), sizes)
    held = 0
    for _ in range(2000):
        effects = rng.normal(0, 0.3, 5)[groups]
        low, high = difference_over_groups(effects + rng.normal(0, 0.5, len(groups)), groups)
        held += low <= 0 <= high
    assert 0.93 <= held / 2000 <= 0.97


@pytest.mark.parametrize(
    ("scenes", "asked", "said"),
    [
        (None, ["--by-group", "scene"], "'scene' is not known of all test videos"),
        ([None, *TWENTY[1:]], ["--by-group", "scene"], "'scene' is not known of all test videos"),
        (
            [f"{i % (FEWEST_GROUPS - 1)}" for i in range(200)],
            ["--by-group", "scene"],
            "there are 2 groups of scene; an interval by group takes 3 or more",
        ),
        (TWENTY, ["--by-group", "x(y)"], "the pattern must be found in the id of every test video"),
        (TWENTY, ["--by-group", "scene", "--power", "3"], "--power: is over single test videos"),
        (
            TWENTY,
            ["--by-group", "scene", "--metric", "features/x"],
            "not measured",
        ),
    ],
)
def test_what_cannot_be_said_by_group_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    scenes: Any,
    asked: list[str],
    said: str,
) -> None:
    arms(tmp_path, scenes)
    assert compare(["base", "first", "--runs", str(tmp_path), *asked]) == 2
    assert said in capsys.readouterr().err


def test_a_table_has_intervals_by_group_and_its_heading_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms(tmp_path / "runs", TWENTY)
    texts = []
    for name in (None, "scene", r"v(\d+)", "other"):
        out = tmp_path / f"out-{len(texts)}"
        assert print_table("vididi_table_6", str(tmp_path / "runs"), out, name) == 0
        texts.append((out / "vididi_table_6.md").read_text())
    capsys.readouterr()

    def rows(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("|")]

    plain, by_scene, alone, unknown = texts
    assert "Here intervals over test videos are by group (scene): 20 groups of 200" in by_scene
    assert "by group" not in plain
    assert rows(alone) == rows(plain)
    assert rows(by_scene) != rows(plain)
    assert "none is known" in unknown
    assert "95%" not in "".join(rows(unknown))


def test_a_run_writes_the_scene_of_each_query(
    make_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = make_config({"training.epochs": 0})
    shards = ensure_prepared(config)
    cell = {"sweep": "s", "arm": "a", "label": "A", "axes": {}, "seed": 0}
    run_cell(config, cell, tmp_path / "a-s0", shards, local_stream(shards), LocalContext())
    table = pq.ParquetFile(tmp_path / "a-s0" / "queries.parquet").read()
    scenes = dict(zip(shards.column("video_id"), shards.column("scene"), strict=True))
    assert table["scene"].to_pylist() == [scenes[v] for v in table["video_id"].to_pylist()]
    groups = VideoGroups.named("scene").of(read_run(tmp_path / "a-s0").measurements[0])
    assert groups is not None
    assert len(np.unique(groups)) == len(set(table["scene"].to_pylist()))
