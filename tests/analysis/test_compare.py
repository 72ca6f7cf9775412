"""The difference of two sets of runs: what is compared with what, what is refused, and what is
printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_runs import hits_of, made_up_run, recalls

from vididi.analysis.compare import best_arm, compare, main
from vididi.analysis.reading import Run, read_finished


def arm(root: Path, label: str, rates: dict[int, float], **values: Any) -> list[Run]:
    """Finished runs by seed, which find so large a part of 200 queries."""
    folders = [
        made_up_run(
            root,
            values,
            {**recalls(hits_of(rate)), "silhouette/all": rate / 2},
            seed,
            label,
            first_hits=hits_of(rate),
        )
        for seed, rate in rates.items()
    ]
    return read_finished(folders)


def test_equal_arms_differ_by_nothing(tmp_path: Path) -> None:
    a, b = (
        arm(tmp_path / "a", "A", {0: 0.5, 1: 0.6}, **{"schedule.order": 1}),
        arm(tmp_path / "b", "B", {0: 0.5, 1: 0.6}),
    )
    found = compare(a, b)
    assert found.gain.value == 0
    assert found.gain.interval == (0, 0)
    assert found.above(-0.03)
    assert not found.above(0.0)


def test_the_difference_has_its_sign_and_an_interval_around_it(tmp_path: Path) -> None:
    found = compare(
        arm(tmp_path / "a", "A", {0: 0.5, 1: 0.6, 2: 0.55}),
        arm(tmp_path / "b", "B", {0: 0.3, 1: 0.4, 2: 0.35}),
    )
    assert found.means == pytest.approx((0.55, 0.35))
    assert found.gain.value == pytest.approx(0.2)
    assert found.gain.interval is not None
    low, high = found.gain.interval
    assert 0.1 < low < 0.2 < high < 0.3


def test_the_paired_test_is_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    a, b = (
        arm(tmp_path / "a", "A", {0: 0.5, 1: 0.6, 2: 0.5, 9: 0.1}),
        arm(tmp_path / "b", "B", {0: 0.4, 1: 0.4, 2: 0.35}),
    )
    found = compare(a, b)
    assert found.p == pytest.approx(
        0.0351, abs=1e-4
    )  # differences 0.10, 0.20 and 0.15: t = 5.196, 2 degrees of freedom
    assert "paired t-test over the 3 seeds: p = 0.035" in found.lines()
    assert compare(a[:2], b[:2]).p is None, "two seeds are too few"


def test_seeds_that_both_have_are_compared_and_named(tmp_path: Path) -> None:
    found = compare(
        arm(tmp_path / "a", "A", {0: 0.9, 1: 0.5, 2: 0.5}),
        arm(tmp_path / "b", "B", {1: 0.5, 2: 0.5, 3: 0.1}),
    )
    assert found.seeds == [1, 2]
    assert found.gain.value == 0


def test_without_a_shared_seed_all_are_compared(tmp_path: Path) -> None:
    found = compare(arm(tmp_path / "a", "A", {0: 0.5}), arm(tmp_path / "b", "B", {7: 0.4}))
    assert found.seeds == []
    assert found.gain.value == pytest.approx(0.1)


def test_a_metric_without_queries_needs_three_seeds_for_an_interval(tmp_path: Path) -> None:
    rates = {0: 0.5, 1: 0.6, 2: 0.7}
    a, b = (
        arm(tmp_path / "a", "A", rates),
        arm(tmp_path / "b", "B", {seed: rate - 0.1 for seed, rate in rates.items()}),
    )
    assert compare(a, b, "silhouette/all").gain.interval == pytest.approx((0.05, 0.05))
    found = compare(a[:2], b[:2], "silhouette/all")
    assert (found.gain.interval, found.above(-1)) == (None, None)
    assert "no interval" in "\n".join(found.lines())


def test_a_silhouette_is_no_share_and_keeps_its_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arm(tmp_path / "a", "A", {0: 0.5, 1: 0.6, 2: 0.7})
    arm(tmp_path / "b", "B", {0: 0.4, 1: 0.5, 2: 0.6}, **{"schedule.order": 1})
    assert (
        main(["A", "B", "--runs", str(tmp_path), "--metric", "silhouette/all", "--above", "-0.03"])
        == 0
    )
    printed = capsys.readouterr().out
    assert "silhouette/all: A 0.300, B 0.250, paired" in printed
    assert "difference +0.050, 95% +0.050 to +0.050" in printed
    assert "the 95% bound is above -0.030: yes" in printed
    assert "points" not in printed


def test_sets_that_are_no_single_arm_are_refused(tmp_path: Path) -> None:
    a = arm(tmp_path / "a", "A", {0: 0.5})
    b = arm(tmp_path / "b", "B", {1: 0.5}, **{"schedule.order": 1})
    with pytest.raises(ValueError, match="second: its runs differ in more than the seed"):
        compare(a, [*a, *b])
    with pytest.raises(ValueError, match="first: has no finished runs"):
        compare([], a)
    with pytest.raises(
        ValueError, match="linear/top1: not measured in the same way by first and second"
    ):
        compare(a, a, "linear/top1")


def test_the_best_arm_has_the_best_mean_over_its_seeds(tmp_path: Path) -> None:
    lucky = arm(tmp_path / "a", "A", {0: 0.9, 1: 0.1})
    good = arm(tmp_path / "b", "B", {0: 0.6, 1: 0.7}, **{"schedule.order": 1})
    assert best_arm([*lucky, *good]) == good
    assert best_arm([*lucky, *good], largest=False) == lucky
    assert best_arm([*lucky, *good], "linear/top1") == []


def test_the_program_prints_the_difference_and_whether_its_bound_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arm(tmp_path / "x", "A", {0: 0.5, 1: 0.6})
    arm(tmp_path / "y", "B", {0: 0.4, 1: 0.5}, **{"schedule.order": 1})
    assert main(["A", "B", "--runs", str(tmp_path), "--above", "-3"]) == 0
    printed = capsys.readouterr().out
    assert "retrieval/R@1: A 55.0, B 45.0, paired over seeds 0, 1" in printed
    assert "difference +10.0 points, 95% +" in printed
    assert "the 95% bound is above -3.0 points: yes" in printed
    assert "A differs in" in printed
    assert "schedule.order 2 instead of 1" in printed
    assert main([str(tmp_path / "y"), str(tmp_path / "x"), "--above", "-3"]) == 1
    assert "above -3.0 points: no" in capsys.readouterr().out
    assert main(["A", "C", "--runs", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert (
        f"C: is neither an arm that has finished runs nor a folder of some; in {tmp_path} (--runs)"
        " there is A, B" in told
    )


def test_an_arm_is_meant_although_a_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout has the folder vididi, and the ablation the arm."""
    arm(tmp_path / "runs", "vididi", {0: 0.5})
    arm(tmp_path / "runs", "base", {0: 0.4}, **{"schedule.order": 0})
    (tmp_path / "vididi").mkdir()
    arm(tmp_path / "runs", "other", {0: 0.4}, **{"schedule.order": 1})[0].folder.joinpath(
        "result.json"
    ).write_text('{"version": 99}')
    monkeypatch.chdir(tmp_path)
    assert main(["vididi", "base"]) == 0
