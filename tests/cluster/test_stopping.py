"""Early stopping rules over known curves: what they stop, and what the audit says of it."""

from __future__ import annotations

from typing import Any

import pytest

from vididi.search import Stopping


def curve(final: float, epochs: int = 9, start: float = 0.1) -> list[dict[str, Any]]:
    """From ``start`` to ``final`` in a line."""
    return [
        {"epoch": e, "online/knn": start + (final - start) * e / epochs}
        for e in range(1, epochs + 1)
    ]


def replay(
    curves: dict[str, list[dict[str, Any]]], slots: int = 1, **stopping: Any
) -> dict[str, int]:
    from vididi.cluster.stopping import replay as replayed

    return replayed(curves, Stopping(**stopping), slots)


def test_asha_keeps_the_best_of_each_rung() -> None:
    curves = {
        name: curve(final)
        for name, final in (("a", 0.5), ("b", 0.9), ("c", 0.3), ("d", 0.4), ("e", 0.95))
    }
    # One at a time: a and b are the best when they come; of e, which comes last, nothing is lost.
    assert replay(curves, name="asha", grace=1, reduction=3) == {"c": 1, "d": 1}


def test_a_late_bloomer_is_lost() -> None:
    late = [{"epoch": e, "online/knn": 0.05 if e < 5 else 0.9} for e in range(1, 10)]
    assert (
        replay({"a": curve(0.5), "b": curve(0.6), "late": late}, name="asha", grace=2, reduction=2)[
            "late"
        ]
        == 2
    )


def test_the_median_rule_waits_for_others_and_compares_means() -> None:
    curves = {
        name: curve(final)
        for name, final in (("a", 0.5), ("b", 0.6), ("c", 0.7), ("d", 0.2), ("e", 0.9))
    }
    stopped = replay(curves, name="median", grace=3, least=3)
    assert stopped == {"d": 3}
    assert replay(curves, name="median", grace=3, least=5) == {}


@pytest.mark.parametrize("rule", ["asha", "median"])
def test_a_cell_at_its_last_epoch_is_not_stopped(rule: str) -> None:
    falling = [{"epoch": e, "online/knn": 0.9 if e < 9 else 0.0} for e in range(1, 10)]
    curves = {**{name: curve(0.5) for name in "abc"}, "d": falling}
    assert "d" not in replay(curves, name=rule, grace=9 if rule == "asha" else 3, reduction=3)


def test_cells_of_other_lengths_end_at_their_own_last_epoch() -> None:
    short = [{"epoch": 1, "online/knn": 0.5}, {"epoch": 2, "online/knn": 0.0}]
    assert replay(
        {"a": curve(0.9), "b": curve(0.8), "short": short}, name="asha", grace=2, reduction=2
    ) == {"b": 2}


def test_epochs_without_the_metric_are_passed_over() -> None:
    sparse = {
        name: [r for r in curve(final) if r["epoch"] % 2 == 0]
        for name, final in (("a", 0.9), ("b", 0.2))
    }
    assert replay(sparse, name="asha", grace=3, reduction=3) == {"b": 4}, (
        "the first measurement at or after the rung counts"
    )


def test_what_ended_before_is_compared_with() -> None:
    from vididi.cluster.stopping import EarlyStopping, _Replayed

    cells = [_Replayed("new", curve(0.3))]
    alone, taught = (
        EarlyStopping(Stopping(name="asha", grace=2), 9, lambda _: 9) for _ in range(2)
    )
    taught.learn([curve(0.8), curve(0.9)])
    for scheduler, action in ((alone, "CONTINUE"), (taught, "STOP")):
        scheduler.on_trial_add(None, cells[0])
        assert scheduler.on_trial_result(None, cells[0], {"epoch": 2, "online/knn": 0.2}) == action
    assert taught.stopped == {
        "new": {
            "epoch": 2,
            "online/knn": 0.2,
            "rule": "asha on online/knn, grace 2 epochs, reduction 3",
        }
    }


@pytest.mark.parametrize(("kill", "action"), [(True, "STOP"), (False, "CONTINUE")])
def test_cells_of_several_workers_are_noted_and_not_killed(kill: bool, action: str) -> None:
    from vididi.cluster.stopping import EarlyStopping, _Replayed

    trial, scheduler = (
        _Replayed("poor", []),
        EarlyStopping(Stopping(name="median", grace=2), 9, lambda _: 9, kill),
    )
    scheduler.learn([curve(0.8), curve(0.9), curve(0.7)])
    scheduler.on_trial_add(None, trial)
    assert scheduler.on_trial_result(None, trial, {"epoch": 2, "online/knn": 0.1}) == action
    assert scheduler.stopped["poor"]["epoch"] == 2
    assert scheduler.on_trial_result(None, trial, {"epoch": 3, "online/knn": 0.1}) == "CONTINUE", (
        "what it reports until it ends changes nothing"
    )
    assert scheduler.stopped["poor"]["epoch"] == 2
