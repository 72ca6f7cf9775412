"""Runs and evaluations from before a key existed and from after stand in one table
(vididi/introduced.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_options import with_option
from made_up_runs import made_up_evaluation, made_up_run
from made_up_settings import Mirrored, evaluation_name

from vididi.analysis.grouping import by_protocol, differences
from vididi.analysis.paper import load_paper_table
from vididi.analysis.reading import find_runs, read_finished
from vididi.analysis.samples import Ways
from vididi.components import COMPONENTS
from vididi.introduced import INTRODUCED, Introduced
from vididi.protocols import FeatureSettings
from vididi.runs import readers

CHECKSUM = "0" * 64


def test_an_old_evaluation_is_read_with_the_introduction_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, settings in enumerate(
        ({"clips": 2}, {"clips": 2, "mirrored": False}, {"clips": 2, "mirrored": True})
    ):
        run = made_up_run(tmp_path, {}, {"retrieval/R@1": 0.5}, seed)
        made_up_evaluation(run, "retrieval", "ucf101", {"retrieval/R@1": 0.4}, settings=settings)
    monkeypatch.setattr(readers, "settings_model", lambda protocol: Mirrored)
    runs = read_finished(find_runs(tmp_path))
    assert [run.measurements[1].settings["mirrored"] for run in runs] == [False, False, True]
    ways = Ways(runs)
    assert [ways.number(run.measurements[1], "retrieval/R@1") for run in runs] == [0, 0, 1]


def test_a_copy_of_an_evaluation_from_before_a_setting_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one whose folder has the evaluation's own name counts."""
    monkeypatch.setattr(readers, "settings_model", lambda protocol: Mirrored)
    monkeypatch.setattr("vididi.analysis.reading.settings_model", lambda protocol: Mirrored)
    run = made_up_run(tmp_path, {}, {"retrieval/R@1": 0.5})
    shared = {"metrics": {"retrieval/R@1": 0.4}, "checksum": CHECKSUM}
    old = made_up_evaluation(
        run, "retrieval", "none", settings=FeatureSettings(clips=2).model_dump(), **shared
    )  # type: ignore[arg-type]
    made_up_evaluation(
        run, "retrieval", "none", settings=Mirrored(clips=2, mirrored=False).model_dump(), **shared
    )  # type: ignore[arg-type]
    named = old.rename(old.with_name(evaluation_name(FeatureSettings(clips=2))))
    (read,) = read_finished([run])
    assert [m.name for m in read.measurements] == ["", named.name]


def test_runs_from_before_and_after_an_option_are_one_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"optimiser.name": "sgd", "training.epochs": 2}
    metrics = {"retrieval/R@1": 0.5}
    made_up_run(tmp_path, values, metrics)
    sgd = with_option(COMPONENTS["optimiser"]["sgd"], "nesterov", bool, True)
    monkeypatch.setitem(COMPONENTS["optimiser"], "sgd", sgd)  # type: ignore[arg-type]
    monkeypatch.setitem(INTRODUCED, "optimiser[sgd].nesterov", Introduced(False))
    made_up_run(tmp_path, {**values, "optimiser.nesterov": False}, metrics, seed=1)
    made_up_run(tmp_path, {**values, "optimiser.nesterov": True}, metrics, seed=2)
    groups = by_protocol(load_paper_table("vididi_table_6"), read_finished(find_runs(tmp_path)))
    assert [[run.seed for run in group] for group in groups.values()] == [[0, 1], [2]]
    assert differences(*groups) == "optimiser.nesterov true instead of false"
