"""Curves of pretraining, and the distributions of intervals between clips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import made_up_evaluation, made_up_run
from PIL import Image

from vididi.analysis.curves import (
    band,
    by_arm,
    draw_panel,
    find_curves,
    main,
    panel_names,
    read_curve,
)
from vididi.analysis.intervals import captioned, intervals
from vididi.analysis.intervals import main as draw_intervals
from vididi.analysis.plots import pyplot


def write_curve(
    root: Path,
    label: str,
    losses: list[float],
    seed: int = 0,
    more: dict[str, float] | None = None,
    tail: str = "",
) -> Path:
    """A run with a line of metrics for each loss; with ``tail`` the file goes on with that."""
    folder = made_up_run(
        root, {"objective.name": "vicreg" if label == "A" else "cvrl"}, {}, seed, label
    )
    lines = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "train/loss": loss,
            "train/lr": 1 / epoch,
            "train/pairs": "00 11",
            "time/x": 1.0,
            **(more or {}),
        }
        for epoch, loss in enumerate(losses, 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    return folder


def test_what_is_read_is_what_training_wrote_after_each_epoch(tmp_path: Path) -> None:
    folder = write_curve(
        tmp_path,
        "A",
        [3.0, 2.0],
        more={"train/accuracy": 0.5, "online/R@1": 0.25},
        tail='{"epoch": 3, "train/lo',
    )
    curve = read_curve(folder)
    assert curve.metrics["loss"] == {1: 3.0, 2: 2.0}
    assert panel_names([curve]) == ["loss", "accuracy", "online/R@1", "lr"]


def test_runs_of_one_arm_are_a_mean_and_a_band_over_the_epochs_that_all_have(
    tmp_path: Path,
) -> None:
    for seed, losses in enumerate(([3.0, 2.0, 1.0], [5.0, 4.0])):
        write_curve(tmp_path, "A", losses, seed)
    write_curve(tmp_path, "B", [9.0])
    arms = by_arm(map(read_curve, find_curves(tmp_path)))
    assert {label: len(own) for label, own in arms.items()} == {"A": 2, "B": 1}
    found = band(arms["A"], "loss")
    assert found.epochs == [1, 2]
    assert found.values.tolist() == [[3, 2], [5, 4]]
    assert band(arms["A"], "accuracy") is None
    figure, axis = pyplot().subplots()
    draw_panel(axis, "loss", arms)
    a, b = axis.get_lines()
    assert a.get_ydata().tolist() == [4, 3]
    assert b.get_ydata().tolist() == [9]
    assert len(axis.collections) == 1
    pyplot().close(figure)


def test_runs_of_one_label_that_differ_in_more_than_the_seed_are_two_arms(tmp_path: Path) -> None:
    write_curve(tmp_path, "A", [1.0])
    folder = write_curve(tmp_path, "A", [2.0], seed=1)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("  epochs: ", "  epochs: 1"))
    assert list(by_arm(map(read_curve, find_curves(tmp_path)))) == ["A", "A (2)"]


def test_the_program_draws_a_file_always_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, losses in enumerate(([3.0, 2.0, 1.0], [5.0, 4.0])):
        write_curve(tmp_path / "runs", "A", losses, seed)
    out = tmp_path / "curves.png"
    assert main([str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert (
        capsys.readouterr().out
        == f"wrote {out}\n  A: drawn to epoch 2, the last that all have (3 the furthest)\n"
    )
    first = out.read_bytes()
    assert main([str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert out.read_bytes() == first
    assert main([str(tmp_path / "runs"), "--metrics", "loss", "--out", str(out)]) == 0
    with Image.open(out) as image:
        assert image.width < 700


def test_unknown_panels_and_unfinished_epochs_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_curve(tmp_path, "A", [1.0])
    assert main([str(folder), "--metrics", "accuracy", "--out", "x.png"]) == 2
    assert (
        capsys.readouterr().err
        == "error: --metrics: accuracy is not valid; the runs have loss, lr\n"
    )
    (folder / "metrics.jsonl").write_text("")
    assert main([str(folder), "--out", "x.png"]) == 2
    assert "has no whole epoch yet" in capsys.readouterr().err
    write_curve(tmp_path, "B", [1.0])
    assert (
        main([str(tmp_path), "--out", str(tmp_path / "x.png")]) == 0
    )  # a run that has only begun stops no picture of others
    assert capsys.readouterr().err == f"left out: {folder}: metrics.jsonl has no whole epoch yet\n"


# --- Intervals between clips ----------------------------------------------------------------------


def test_cvrl_s_intervals_fall_and_uniform_ones_are_even() -> None:
    def shares(options: dict[str, object]) -> np.ndarray:
        found = intervals("interval", options, 101, 1, 1, seed=0)
        return np.histogram(found, [0, 25.25, 50.5, 75.75, 101])[0] / len(found)

    assert shares({}) == pytest.approx([7 / 16, 5 / 16, 3 / 16, 1 / 16], abs=0.02)
    assert shares({"shape": "uniform"}) == pytest.approx([0.25] * 4, abs=0.02)


def test_clips_of_corp_are_never_close() -> None:
    assert intervals("min_offset", {}, 250, 8, 3, seed=0).min() > 24
    assert intervals("uniform", {}, 250, 8, 3, seed=0).min() == 0


def test_the_intervals_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "intervals.png"
    assert draw_intervals(["--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert out.is_file()
    assert draw_intervals(["--out", "intervals.jpg"]) == 2
    assert capsys.readouterr().err == "error: --out: intervals.jpg must end in .png, .pdf or .svg\n"
    assert draw_intervals(["--frames", "30", "--out", str(out)]) == 2
    assert "--frames: 30 leave 9 starts" in capsys.readouterr().err


def write_sampling(root: Path, value: float, seed: int = 0, **options: object) -> Path:
    """A run of CVRL with this interval's density, with its linear accuracy."""
    filled = {"name": "interval", "shape": "decreasing", "power": 1.0, "floor": 0.0, **options}
    values = {f"sampling.{key}": option for key, option in filled.items()}
    run = made_up_run(root, {"objective.name": "cvrl", "schedule.order": 0, **values}, {}, seed)
    made_up_evaluation(run, "linear", "motion", {"linear/top1": value})
    return run


def test_each_density_has_what_its_runs_measured_and_what_the_paper_prints(tmp_path: Path) -> None:
    for seed, value in ((0, 0.5), (1, 0.6)):
        write_sampling(tmp_path, value, seed)
    write_sampling(tmp_path, 0.4, power=2)  # a whole number is the same power
    write_sampling(tmp_path, 0.3, shape="uniform", power=3.0)  # which reads no power
    write_sampling(tmp_path, 0.2, shape="increasing", floor=0.5)  # not among the usual panels
    panels, captions, notes = captioned([tmp_path], "linear/top1")
    told = {title: caption for (title, _, _), caption in zip(panels, captions, strict=True)}
    assert told == {
        "interval, decreasing (CVRL)": "ours 55.0 ± 7.1, paper 63.8",
        "interval, decreasing, power 0.5": "",
        "interval, decreasing, power 2": "ours 40.0",
        "interval, uniform": "ours 30.0",
        "interval, increasing": "",
        "interval, increasing, power 2": "",
        "uniform (ViDiDi)": "",
        "min_offset (CORP)": "",
        "interval, increasing, floor 0.5": "ours 20.0",
    }
    assert notes == []


def test_only_runs_that_differ_in_their_sampling_stand_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for power in (1.0, 2.0):
        write_sampling(tmp_path / "runs", 0.5, power=power)
    made_up_run(tmp_path / "runs", {"sampling.name": "uniform"}, {})
    folder = write_sampling(tmp_path / "runs", 0.9, power=0.5)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("  epochs: 400", "  epochs: 7"))
    out = tmp_path / "intervals.png"
    assert draw_intervals([str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == (
        f"wrote {out}\n"
        "  left out: 1 run with training.epochs 7 instead of 400\n"
        "  left out: 1 run without linear/top1, or of no sampling known here\n"
    )
    wrong = [str(tmp_path / "runs"), "--metric", "semi_1/top1", "--out", str(out)]
    assert draw_intervals(wrong) == 2
    assert "--metric: of 4 runs none has measured semi_1/top1" in capsys.readouterr().err


def test_a_run_whose_files_are_links_to_nothing_is_found_and_then_named(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("")
    (folder / "config.yaml").symlink_to("nowhere")
    assert find_curves(tmp_path) == [folder]
