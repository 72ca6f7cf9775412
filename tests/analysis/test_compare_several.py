"""Several arms compared at once, from the command line: what is printed, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_compare import arm

from vididi.analysis.compare import main
from vididi.analysis.compare_several import compare_all, compare_by_arm
from vididi.analysis.multiple_comparisons import holm
from vididi.analysis.power import paired_p

SEEDS = range(6)


def rates(mean: float, spread: float = 0.03) -> dict[int, float]:
    draws = np.random.default_rng(int(mean * 1000)).normal(0, spread, len(SEEDS))
    return {
        seed: float(np.clip(mean + draw, 0, 1)) for seed, draw in zip(SEEDS, draws, strict=True)
    }


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Four rows of ViDiDi's Table 6; two are alike, the others far apart."""
    root = tmp_path / "runs"
    base = {"schedule.order": 0}
    random = {"schedule.order": 1, "schedule.selection": "random"}
    scheduled = {"schedule.selection": "scheduled", "schedule.reverse": False}
    arm(root / "base", "base", rates(0.2), **base)
    arm(root / "random", "random", rates(0.21), **random)
    arm(
        root / "same",
        "same",
        rates(0.5),
        **scheduled,
        **{"schedule.order": 1, "schedule.mix": "same"},
    )
    arm(
        root / "vididi",
        "vididi",
        rates(0.7),
        **scheduled,
        **{"schedule.order": 2, "schedule.mix": "both_ways"},
    )
    return root


def rows(text: str) -> dict[str, list[str]]:
    cells = [
        [c.strip() for c in line.strip("|").split("|")]
        for line in text.splitlines()
        if line[:1] == "|"
    ]
    return {row[0]: row[1:] for row in cells[2:]}


def test_one_arm_against_all_others(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["base", "--runs", str(runs)], "vididi compare") == 0
    printed = capsys.readouterr().out
    assert "each arm less base (" in printed
    assert "over 6 seeds that all have (0, 1, 2, 3, 4, 5)" in printed
    table = rows(printed)
    assert list(table) == ["random", "same", "vididi"]
    assert [table[name][-1] for name in table] == ["no", "yes", "yes"]
    p = {name: float(table[name][3]) for name in table}
    assert p["vididi"] < 0.001 < p["random"]
    expected = dict(zip(p, holm([*p.values()]), strict=True))
    assert {name: float(table[name][4]) for name in table} == pytest.approx(expected, rel=0.06)


def test_named_arms_are_a_family_of_their_own(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["vididi", "base", "same", "--runs", str(runs)], "vididi compare")
    table = rows(capsys.readouterr().out)
    assert list(table) == ["base", "same"]
    assert table["same"][1].startswith("-")


def test_differences_and_p_values_are_those_of_the_seeds(tmp_path: Path) -> None:
    a = arm(tmp_path / "a", "A", {0: 0.5, 1: 0.6, 2: 0.5, 7: 0.9}, **{"schedule.order": 1})
    b = arm(tmp_path / "b", "B", {0: 0.4, 1: 0.4, 2: 0.35, 8: 0.1})
    family = compare_all(b, {"A": a}, "retrieval/R@1", "B")
    (difference,) = family.differences
    assert family.seeds == [0, 1, 2]
    assert difference.value == pytest.approx((0.1 + 0.2 + 0.15) / 3)
    assert difference.p == pytest.approx(paired_p([0.1, 0.2, 0.15]))
    assert difference.adjusted == difference.p
    assert difference.interval[0] < difference.value < difference.interval[1]


def test_two_sweeps_are_compared_arm_by_arm(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    arm(other / "base", "base", rates(0.2), **{"schedule.order": 0})
    arm(other / "vididi", "vididi", rates(0.9), **{"schedule.order": 2})
    assert main([str(other), str(runs), "--by-arm"], "vididi compare") == 0
    printed = capsys.readouterr().out
    table = rows(printed)
    assert list(table) == ["base", "vididi"]
    assert [table[name][-1] for name in table] == ["no", "yes"]
    assert f"less the same arm of {runs}" in printed
    with pytest.raises(ValueError, match="no arm is in a and in b"):
        compare_by_arm({"x": []}, {"y": []}, "retrieval/R@1", ("a", "b"))


def test_the_order_of_a_paper_s_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["base", "--runs", str(runs), "--order", "vididi_table_6"], "vididi compare") == 0
    printed = capsys.readouterr().out
    # The paper: base 31.1, random 35.2, same 37.1, ViDiDi 47.6.
    assert "order of vididi_table_6: Spearman's rho +1.00, 95% " in printed
    assert "of 4 arms and 6 seeds" in printed


def test_how_many_seeds(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["random", "base", "--runs", str(runs), "--power"]
    assert main([*arguments, "5"], "vididi compare") == 0
    printed = capsys.readouterr().out
    assert "to resolve 5.0 points (paired t-test over seeds on these videos" in printed
    assert "of the difference over 6 seeds" in printed
    assert "at its upper limit of confidence (95%)" in printed
    assert "over other videos too, no number of seeds resolves less than" in printed
    # ViDiDi finds certain videos with every seed, and others with none.
    main(["vididi", "base", "--runs", str(runs), "--power", "0.1"], "vididi compare")
    assert "no number of seeds resolves it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["base", "same", "vididi", "--above", "1"], "--above: is of two arms"),
        (["base", "--power", "1"], "--power: is of two arms"),
        (["base", "same", "vididi", "--by-arm"], "--by-arm: is of two folders"),
        (["base", "same", "--power", "-1"], "power: -0.01 is not valid"),
        (["base", "nothing"], "nothing: is neither an arm that has finished runs"),
        (["base", "--order", "vididi_table_1"], "vididi_table_1"),
    ],
)
def test_what_cannot_be_compared_is_said(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, "--runs", str(runs)], "vididi compare") == 2
    assert message in capsys.readouterr().err


def test_arms_that_share_one_seed_are_too_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seeds in (("a", (0, 1)), ("b", (1, 2)), ("c", (1, 3))):
        arm(tmp_path / name, name, dict.fromkeys(seeds, 0.5), **{"schedule.order": ord(name) - 97})
    assert main(["a", "--runs", str(tmp_path)], "vididi compare") == 2
    assert "1 seed that all of a, b, c have" in capsys.readouterr().err


def test_arms_that_were_asked_other_videos_are_not_paired(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (runs / "same").rglob("queries.parquet"):
        table = pq.read_table(path)
        other = pa.array([f"other/{name}" for name in table["video_id"].to_pylist()])
        index = table.column_names.index("video_id")
        pq.write_table(table.set_column(index, "video_id", other), path)
    assert main(["base", "--runs", str(runs)], "vididi compare") == 2
    assert "same was asked other videos than base" in capsys.readouterr().err
