"""Accuracies while a classifier is trained, and by how long an encoder was pretrained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import UCF101, made_up_evaluation, made_up_run
from PIL import Image

from vididi.analysis.classifier_curves import draw_curves, training_of
from vididi.analysis.classifier_curves import main as draw_classifier_curves
from vididi.analysis.plots import pyplot
from vididi.analysis.reading import read_run
from vididi.analysis.training_length import draw_printed, points_of, printed_points
from vididi.analysis.training_length import main as draw_training_length


def write_classifier(root: Path, seed: int, train: list[float], test: dict[int, float]) -> Path:
    run = made_up_run(root, {}, {}, seed)
    folder = made_up_evaluation(run, "linear", "motion", {"linear/top1": 0.5})
    result = json.loads((folder / "result.json").read_text())
    epochs = [
        {"epoch": i, "train_top1": value, **({"test_top1": test[i]} if i in test else {})}
        for i, value in enumerate(train, 1)
    ]
    (folder / "result.json").write_text(json.dumps({**result, "epochs": epochs}))
    return run


def test_dashed_is_training_and_solid_is_testing_where_all_seeds_tested(tmp_path: Path) -> None:
    folders = [
        write_classifier(tmp_path, 0, [0.2, 0.4, 0.6], {2: 0.3, 3: 0.5}),
        write_classifier(tmp_path, 1, [0.4, 0.6], {2: 0.5}),
    ]
    trainings = [training_of(read_run(folder), "linear", None) for folder in folders]
    _, axis = pyplot().subplots()
    draw_curves(axis, [training for training in trainings if training])
    train, test = axis.get_lines()
    assert (train.get_linestyle(), train.get_xdata().tolist(), train.get_ydata().tolist()) == (
        "--",
        [1, 2],
        pytest.approx([30, 50]),
    )
    assert (test.get_linestyle(), test.get_xdata().tolist(), test.get_ydata().tolist()) == (
        "-",
        [2],
        pytest.approx([40]),
    )


def test_classifier_curves_are_written_or_say_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_up_run(tmp_path / "runs", {}, {})
    out = tmp_path / "out.png"
    assert draw_classifier_curves([str(run), "--out", str(out)]) == 2
    assert (
        "of 1 run none has a classifier's epochs; make them by vididi evaluate linear"
        in capsys.readouterr().err
    )
    write_classifier(tmp_path / "runs", 1, [0.2], {})
    assert draw_classifier_curves([str(tmp_path / "runs"), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "no such classifier of 1 of 2 runs" in said
    assert "dashed lines only" in said
    assert Image.open(out).width > 500
    trained = write_classifier(tmp_path / "two", 0, [0.2], {})
    first = next(path.name for path in (trained / "evaluations").iterdir())
    (trained / "evaluations" / first).rename(trained / "evaluations" / "linear-a")
    second = made_up_evaluation(trained, "linear", "motion", {"linear/top1": 0.5})
    told = json.loads((trained / "evaluations" / "linear-a" / "result.json").read_text())
    (second / "result.json").write_text(json.dumps({**told, "settings": {"epochs": 50}}))
    assert draw_classifier_curves([str(trained), "--out", str(out)]) == 2
    assert "choose one by --evaluation: linear-1, linear-a" in capsys.readouterr().err
    assert (
        draw_classifier_curves([str(trained), "--evaluation", "linear-a", "--out", str(out)]) == 0
    )


def test_a_point_for_each_length_and_a_line_for_each_data_set(tmp_path: Path) -> None:
    for data, steps, value in (
        ("kinetics400", 10, 0.5),
        ("kinetics400", 40, 0.6),
        ("kinetics600", 40, 0.7),
    ):
        for seed in (0, 1):
            run = made_up_run(tmp_path, {"data.name": data, "training.epochs": steps}, {}, seed)
            result = json.loads((run / "result.json").read_text())
            (run / "result.json").write_text(json.dumps({**result, "steps": steps}))
            made_up_evaluation(run, "linear", "kinetics400", {"linear/top1": value + seed / 100})
    runs = [read_run(folder) for folder in sorted(tmp_path.iterdir())]
    points = points_of(runs, "linear/top1", "kinetics400")
    assert points == {
        "A, pretrained on kinetics400": {10: [0.5, 0.51], 40: [0.6, 0.61]},
        "A, pretrained on kinetics600": {40: [0.7, 0.71]},
    }
    assert set(points_of(runs, "linear/top1", None)) == {"A, pretrained on kinetics400"}
    assert (
        draw_training_length(
            [str(tmp_path), "--data", "kinetics400", "--out", str(tmp_path / "out.svg")]
        )
        == 0
    )
    assert (tmp_path / "out.svg").read_text().count("pretrained on") == 2


def test_runs_of_cvrl_s_figure_4_have_its_number_beside_theirs(tmp_path: Path) -> None:
    cvrl = {"objective.name": "cvrl", "schedule.order": 0}
    for data, epochs in (("kinetics400", 200), ("kinetics400", 300), ("kinetics600", 800)):
        values = {**cvrl, "data.name": data, "training.epochs": epochs}
        run = made_up_run(tmp_path, values, {})
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps({**result, "steps": 230 * epochs}))
        made_up_evaluation(run, "linear", "kinetics400", {"linear/top1": 0.6})
    runs = [read_run(folder) for folder in sorted(tmp_path.iterdir())]
    # The paper's of K600 is in its picture only.
    expected = {("A, pretrained on kinetics400", 46000): 63.8}
    assert printed_points(runs, "linear/top1", "kinetics400") == expected
    assert printed_points(runs, "linear/top5", "kinetics400") == {}
    assert printed_points(runs, "linear/top1", "ucf101") == {}
    _, axis = pyplot().subplots()
    points = points_of(runs, "linear/top1", "kinetics400")
    draw_printed(axis, list(points), expected)
    mark, legend = axis.get_lines()
    assert (mark.get_xdata(), mark.get_ydata()) == ([46000], [63.8])
    assert (mark.get_markerfacecolor(), legend.get_label()) == ("none", "hollow: paper")


@pytest.mark.parametrize(
    ("metric", "scale", "said"),
    [("retrieval/R@1", 100, "retrieval/R@1 (%)"), ("silhouette/all", 1, "silhouette/all")],
)
def test_a_metric_by_length_is_in_its_own_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, scale: float, said: str
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        "vididi.analysis.training_length.save", lambda figure, _: drawn.append(figure.axes[0])
    )
    made_up_run(tmp_path, UCF101, {metric: 0.25})
    assert (
        draw_training_length(
            [str(tmp_path), "--metric", metric, "--out", str(tmp_path / "out.png")]
        )
        == 0
    )
    (axis,) = drawn
    assert (axis.get_lines()[0].get_ydata().tolist(), axis.get_ylabel()) == ([0.25 * scale], said)


def test_two_ways_to_measure_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_up_run(tmp_path, UCF101, {"retrieval/R@1": 0.25})
    made_up_evaluation(run, "retrieval", "ucf101", {"retrieval/R@1": 0.5}, split=1)
    out = str(tmp_path / "out.png")
    assert draw_training_length([str(run), "--metric", "retrieval/R@1", "--out", out]) == 2
    assert "measured retrieval/R@1 in several ways, 0.250, 0.500" in capsys.readouterr().err
    assert draw_training_length([str(run), "--metric", "retrieval/R@5", "--out", out]) == 2
    assert "--metric: of 1 run none has measured retrieval/R@5" in capsys.readouterr().err
