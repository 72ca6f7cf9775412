"""The study behind a search: what it draws, is told and remembers. Drives Tune's searcher by hand,
without a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vididi.errors import ConfigError, ResourceError

SPACE = {
    "order": {"choice": [0, 1, 2]},
    "selection": {"choice": ["random", "weighted"], "when": {"order": [1, 2]}},
    "schedule.weights.0-0": {"uniform": [0, 1], "when": {"selection": "weighted"}},
}
EPOCHS = 4


@dataclass(frozen=True)
class FakeJob:
    folder: Path

    def plain(self) -> dict[str, Any]:
        return {"folder": str(self.folder)}


class Place:
    """A runs folder with a search in it, whose cells are folders named after their points."""

    def __init__(self, runs: Path, seeds: Sequence[int] = (0,), **search: Any) -> None:
        from vididi.cluster.capacity import Capacity
        from vididi.cluster.optuna_search import CellSearch, StoredStudy
        from vididi.search import Search

        self.runs = runs
        search = {"name": "optuna", "space": SPACE, **search}
        self.study = StoredStudy(Search.model_validate(search), runs, "study")
        self.left = self.study.take_back()
        self.search = CellSearch(self.study, self.make, seeds, EPOCHS)  # type: ignore[arg-type]
        self.search.capacity = Capacity(cells=2)
        self.asked = 0

    def make(self, point: dict[str, Any], seed: int) -> FakeJob:
        if point["order"] == 2:
            raise ConfigError("order 2 is not for us")
        return FakeJob(self.runs / f"{json.dumps(point, sort_keys=True)} {seed}")

    def next(self) -> tuple[str, FakeJob] | str | None:
        """The next trial and its job, or what else the searcher says."""
        self.asked += 1
        trial = f"tune-{self.asked}"
        found = self.search.suggest(trial)
        return (trial, self.search.jobs[found["cell"]]) if isinstance(found, dict) else found

    def run(self, result: dict[str, Any] | None = None) -> FakeJob | str | None:
        """Run the next cell to its end."""
        found = self.next()
        if not isinstance(found, tuple):
            return found
        finish(
            found[1].folder,
            (
                {"retrieval/R@1": len(found[1].folder.name) / 100, "seconds": 2.0}
                if result is None
                else result
            ),
        )
        self.search.on_trial_complete(found[0])
        return found[1]

    def run_all(self) -> list[FakeJob]:
        jobs = []
        while isinstance(job := self.run(), FakeJob):
            jobs.append(job)
        assert job == "FINISHED"
        return jobs

    @property
    def points(self) -> list[dict[str, Any]]:
        return [trial.params for trial in self.study.trials]


def finish(folder: Path, result: dict[str, Any], epochs: int = EPOCHS) -> None:
    record(folder, epochs)
    (folder / "result.json").write_text(
        json.dumps({"version": 1, "data_checksum": "x", "steps": 1, **result})
    )


def record(folder: Path, epochs: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"epoch": e + 1, "step": e + 1}) + "\n" for e in range(epochs))
    )


def states(place: Place) -> list[str]:
    return [trial.state.name for trial in place.study.trials]


@pytest.mark.parametrize("name", ["optuna", "random"])
def test_a_search_draws_the_same_points_again_and_others_with_another_seed(
    tmp_path: Path, name: str
) -> None:
    drawn = []
    for number, seed in enumerate((3, 3, 4)):
        place = Place(tmp_path / str(number), name=name, trials=15, seed=seed)
        place.run_all()
        drawn.append(place.points)
    assert len(drawn[0]) >= 15
    assert drawn[0] == drawn[1] != drawn[2]
    assert {point["order"] for point in drawn[0]} == {0, 1, 2}


@pytest.mark.parametrize("name", ["optuna", "random"])
def test_a_search_that_is_started_again_draws_what_it_would_have_drawn(
    tmp_path: Path, name: str
) -> None:
    whole = Place(tmp_path / "whole", name=name, trials=14)
    whole.run_all()
    for trials in (3, 8, 14):
        place = Place(tmp_path / "parts", name=name, trials=trials)
        place.run_all()
    assert place.points == whole.points
    assert Place(tmp_path / "parts", name=name, trials=14).run() == "FINISHED"


def test_tpe_prefers_what_was_good(tmp_path: Path) -> None:
    place = Place(tmp_path, trials=60, space={"order": {"choice": [0]}, "x": {"uniform": [0, 1]}})
    while isinstance(found := place.next(), tuple):
        x = json.loads(found[1].folder.name.removesuffix(" 0"))["x"]
        finish(found[1].folder, {"retrieval/R@1": -abs(x - 0.7)})
        place.search.on_trial_complete(found[0])
    late = [point["x"] for point in place.points[40:]]
    assert sum(abs(x - 0.7) < 0.1 for x in late) > len(late) / 2, "chance is a fifth"


def test_a_point_that_is_drawn_again_is_trained_with_the_next_seed(tmp_path: Path) -> None:
    place = Place(tmp_path, seeds=(0, 5), trials=30, space={"order": {"choice": [0, 1]}})
    jobs = place.run_all()
    assert sorted(job.folder.name for job in jobs) == [
        '{"order": 0} 0',
        '{"order": 0} 5',
        '{"order": 1} 0',
        '{"order": 1} 5',
    ]
    assert place.search.exhausted, "there are four cells in this space, and no thirty"
    assert sorted(states(place))[:4] == ["COMPLETE"] * 4
    assert states(place).count("FAIL") == len(states(place)) - 4, (
        "what tells nothing new is no value of the study"
    )
    assert [len(found.values) for found in place.study.best(2)] == [2, 2]


def test_a_cell_that_failed_is_drawn_again_only_when_asked(tmp_path: Path) -> None:
    from vididi.cluster.studies import retry_failed

    place = Place(tmp_path, trials=2, seeds=(0, 5))
    found = place.next()
    assert isinstance(found, tuple)
    trial, failed = found
    record(failed.folder, 1)
    (failed.folder / "error.txt").write_text("its node was lost\n")
    place.search.on_trial_complete(trial, error=True)
    finished = place.run_all()
    assert failed.folder not in [job.folder for job in finished]
    assert Place(tmp_path, trials=2, seeds=(0, 5)).run() == "FINISHED"
    again = Place(tmp_path, trials=2, seeds=(0, 5))
    assert retry_failed(again.study, again.make) == 1  # type: ignore[arg-type]
    assert retry_failed(again.study, again.make) == 0, "it is asked for"  # type: ignore[arg-type]
    assert not (failed.folder / "error.txt").exists()
    assert [job.folder for job in again.run_all()] == [failed.folder], "the same cell, and no other"
    assert len(again.study.measured_points()) == 2, "the study has learnt what became of it"


def test_a_point_whose_cell_is_running_is_given_its_next_seed_or_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, seeds=(0, 5), trials=5, space={"order": {"choice": [0]}})
    first, second = place.next(), place.next()
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert [first[1].folder.name, second[1].folder.name] == ['{"order": 0} 0', '{"order": 0} 5']
    one = Place(tmp_path / "one", trials=5, space={"order": {"choice": [0]}})
    assert isinstance(one.next(), tuple)
    assert one.next() is None


def test_the_best_is_estimated_from_all_seeds_of_each_point(tmp_path: Path) -> None:
    def told(points: list[tuple[int, list[float]]]) -> dict[str, Any]:
        return {
            f"{order} {i}": ({"order": order}, {"retrieval/R@1": r1})
            for order, values in points
            for i, r1 in enumerate(values)
        }

    place = Place(tmp_path, trials=2, space={"order": {"choice": [0, 1, 2, 3]}})
    place.study.tell_known(
        told([(0, [0.61]), (1, [0.48, 0.68, 0.62]), (2, [0.3, 0.45]), (3, [0.2])])
    )
    assert [(found.point["order"], len(found.values)) for found in place.study.best(3)] == [
        (1, 3),
        (0, 1),
        (2, 2),
    ]


def test_points_that_make_no_cell_and_cells_that_fail_are_told_as_failed_and_counted(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, trials=12)
    while isinstance(found := place.next(), tuple):
        record(found[1].folder, 1)
        (found[1].folder / "error.txt").write_text("out of memory")
        place.search.on_trial_complete(found[0], error=True)
    assert set(states(place)) == {"FAIL"}
    assert place.search.drawn == 12
    assert len(place.points) > 12
    assert place.search.refused == {
        "order 2 is not for us": sum(point["order"] == 2 for point in place.points)
    }


def test_a_result_without_the_metric_counts_as_failed_and_a_damaged_one_is_left_open(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, trials=2)
    for value in (None, float("nan")):
        place.run({"retrieval/R@1": value})
    assert states(place)[:2] == ["FAIL", "RUNNING"]
    assert not place.search.live
    assert Place(tmp_path, trials=2).left == 1


def test_what_a_killed_search_left_running_is_drawn_again_and_counts_once(tmp_path: Path) -> None:
    killed = Place(
        tmp_path, trials=4, space={"order": {"choice": [0, 1]}, "x": {"uniform": [0, 1]}}
    )
    killed.run()
    _, job = killed.next()  # type: ignore[misc]
    again = Place(tmp_path, trials=4, space={"order": {"choice": [0, 1]}, "x": {"uniform": [0, 1]}})
    assert again.left == 1
    assert again.search.drawn == 2
    _, same = again.next()  # type: ignore[misc]
    assert same == job
    finish(same.folder, {"retrieval/R@1": 0.9})
    again.search.on_trial_complete("tune-1")
    again.run_all()
    assert again.search.drawn == 4
    assert states(again).count("COMPLETE") == 4


def test_a_cell_whose_result_is_lost_is_drawn_again_and_its_seed_counts_once(
    tmp_path: Path,
) -> None:
    from vididi.runs.outcome import outcome

    space = {"order": {"choice": [0, 1]}, "x": {"uniform": [0, 1]}}
    first, second = Place(tmp_path, trials=2, space=space).run_all()
    (first.folder / "result.json").write_text("")
    again = Place(tmp_path, trials=2, space=space)
    assert again.run() == "FINISHED"

    def is_lost(point: dict[str, Any], seed: int) -> bool:
        return outcome(again.make(point, seed).folder) is None

    assert again.study.draw_lost_again(is_lost) == 1
    assert again.study.draw_lost_again(is_lost) == 0, "it is waiting already"
    assert [job.folder for job in again.run_all()] == [first.folder]
    assert outcome(first.folder) == outcome(second.folder) == "finished"
    assert [len(point.values) for point in again.study.measured_points()] == [1, 1]


def test_a_search_that_cannot_go_on_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        ResourceError, match="draws in a row gave no cell to run: 200 x order 2 is not for us"
    ):
        Place(tmp_path, trials=1000, space={"order": {"choice": [2]}}).run_all()


def test_the_budget_bounds_the_epochs_and_stopped_cells_leave_some_of_it(tmp_path: Path) -> None:
    place = Place(
        tmp_path,
        trials=50,
        budget=5 * EPOCHS + 1,
        space={"order": {"choice": [0]}, "x": {"uniform": [0, 1]}},
    )
    assert len(place.run_all()) == 5
    assert place.search.spent == 5 * EPOCHS
    record(place.search.jobs[0].folder, 1)
    more = Place(
        tmp_path,
        trials=50,
        budget=5 * EPOCHS + 1,
        space={"order": {"choice": [0]}, "x": {"uniform": [0, 1]}},
    )
    assert more.search.spent == 4 * EPOCHS + 1
    first = more.next()
    assert isinstance(first, tuple)
    assert more.next() is None, "what runs now counts in full until it has ended"


def test_a_stopped_cell_counts_as_pruned_and_is_never_the_best(tmp_path: Path) -> None:
    from vididi.cluster.stopping import EarlyStopping
    from vididi.search import Stopping

    place = Place(tmp_path, trials=3, space={"order": {"choice": [0]}, "x": {"uniform": [0, 1]}})
    place.search.stopping = EarlyStopping(Stopping(name="asha"), EPOCHS, lambda trial: EPOCHS)
    trial, _ = place.next()  # type: ignore[misc]
    place.search.on_trial_result(trial, {"epoch": 2, "online/knn": 0.99})
    place.search.stopping.stopped[trial] = {"epoch": 2, "online/knn": 0.99}
    place.search.on_trial_complete(trial)
    place.run_all()
    assert states(place) == ["PRUNED", "COMPLETE", "COMPLETE"]
    assert place.study.trials[0].intermediate_values == {2: 0.99}
    assert place.points[0] not in [found.point for found in place.study.best(3)]


def test_what_a_stopped_cell_trains_after_the_search_is_not_of_its_budget(tmp_path: Path) -> None:
    """The choice among the best trains them to the end with seeds that the search may have
    stopped.
    """
    from vididi.cluster.stopping import EarlyStopping
    from vididi.search import Stopping

    space = {"order": {"choice": [0]}, "x": {"uniform": [0, 1]}}
    place = Place(tmp_path, trials=2, space=space)
    place.search.stopping = EarlyStopping(Stopping(name="asha"), EPOCHS, lambda trial: EPOCHS)
    trial, job = place.next()  # type: ignore[misc]
    record(job.folder, 1)
    place.search.stopping.stopped[trial] = {"epoch": 1, "online/knn": 0.1}
    place.search.on_trial_complete(trial)
    place.run_all()
    assert place.search.spent == 1 + EPOCHS
    finish(job.folder, {"retrieval/R@1": 0.9})
    assert Place(tmp_path, trials=2, space=space).search.spent == 1 + EPOCHS


def test_a_stopped_cell_that_a_search_without_stopping_ends_is_of_its_budget_whole(
    tmp_path: Path,
) -> None:
    from vididi.cluster.stopping import EarlyStopping
    from vididi.search import Stopping

    space = {"order": {"choice": [0]}, "x": {"uniform": [0, 1]}}
    place = Place(tmp_path, trials=1, space=space)
    place.search.stopping = EarlyStopping(Stopping(name="asha"), EPOCHS, lambda trial: EPOCHS)
    trial, job = place.next()  # type: ignore[misc]
    record(job.folder, 1)
    place.search.stopping.stopped[trial] = {"epoch": 1, "online/knn": 0.1}
    place.search.on_trial_complete(trial)
    place.study.draw_again(place.points[0])
    again = Place(tmp_path, trials=1, space=space)
    assert again.run() == job
    assert again.search.spent == EPOCHS
    assert Place(tmp_path, trials=1, space=space).search.spent == EPOCHS


def test_several_metrics_give_the_points_that_none_surpasses(tmp_path: Path) -> None:
    metrics = {"retrieval/R@1": "max", "seconds": "min"}
    place = Place(
        tmp_path,
        trials=3,
        metrics=metrics,
        space={"order": {"choice": [0]}, "x": {"uniform": [0, 1]}},
    )
    for r1, seconds in ((0.5, 3.0), (0.4, 4.0), (0.3, 1.0)):
        place.run({"retrieval/R@1": r1, "seconds": seconds})
    assert sorted(found.means for found in place.study.front()) == [[0.3, 1.0], [0.5, 3.0]]
    assert [found.means for found in place.study.best(1)] == [[0.5, 3.0]]


def test_finished_runs_are_told_once_and_are_not_counted(tmp_path: Path) -> None:
    known = {
        "runs/a": ({"order": 1, "selection": "random"}, {"retrieval/R@1": 0.7}),
        "runs/b": ({"order": 0}, {"retrieval/R@1": None}),
    }
    place = Place(tmp_path, trials=2)
    assert place.study.tell_known(known) == 2
    assert (place.search.drawn, states(place)) == (
        0,
        ["COMPLETE"],
    ), "one without the metric tells nothing"
    again = Place(tmp_path, trials=2)
    again.study.tell_known(known)
    assert len(again.points) == 1
    assert [(found.point, found.values) for found in again.study.best(1)] == [
        ({"order": 1, "selection": "random"}, [[0.7]])
    ]
    again.run_all()
    assert again.search.drawn == 2


def test_a_search_that_is_defined_otherwise_has_a_study_of_its_own(tmp_path: Path) -> None:
    from vididi.cluster.optuna_search import StoredStudy
    from vididi.search import Search

    Place(tmp_path, trials=2).run_all()
    assert not StoredStudy(Search(name="optuna", space=SPACE), tmp_path, "another").trials


def test_a_known_run_that_is_drawn_again_costs_nothing(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    finish(elsewhere, {"retrieval/R@1": 0.5})
    place = Place(tmp_path / "runs", trials=2, budget=EPOCHS, space={"order": {"choice": [0]}})
    place.search.make = lambda point, seed: FakeJob(elsewhere)  # type: ignore[assignment]
    assert place.run() == "FINISHED"
    assert (place.search.drawn, place.search.spent) == (0, 0)


def test_no_more_cells_are_drawn_than_there_is_room_for(tmp_path: Path) -> None:
    place = Place(tmp_path, trials=20)
    given = [place.next(), place.next()]
    assert None not in given
    drawn = len(place.points)
    assert place.next() is None
    assert len(place.points) == drawn


def test_a_cell_is_numbered_as_the_draw_that_it_is_of_after_a_restart_too(tmp_path: Path) -> None:
    place = Place(tmp_path, seeds=(0, 1), trials=6)
    place.run_all()
    drawn = [(trial.number, trial.params, seed) for trial, seed in place.study.seeded]
    assert len(drawn) == 6
    for study in (place.study, Place(tmp_path, seeds=(0, 1), trials=6).study):
        assert [study.number_of(point, seed) for _, point, seed in drawn] == [
            number for number, _, _ in drawn
        ]
    assert place.study.number_of({"order": 7}, 0) is None
