"""Loggers beside a run folder: what is sent once, what a failing service does, and both services for
real, without a network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jobs_here import run_jobs_here
from PIL import Image
from plain_files import plain
from tiny_sweep import BASE

import run_sweep
from vididi.config import Config
from vididi.errors import ConfigError
from vididi.loggers import service
from vididi.loggers.choices import LOGGERS, check_installed
from vididi.loggers.logger import RunName
from vididi.loggers.ml_flow import mlflow_key
from vididi.loggers.service import (
    ServiceLogger,
    evaluation_loggers,
    fault_lines,
    mark_ended,
    open_loggers,
)
from vididi.runs.file_names import SENT
from vididi.runs.run_folder import RunFolder
from vididi.sweep import ONE_START, SHOWN, expand, load_sweep
from vididi.training.context import StoppedEarly
from vididi.training.recorder import Recorder, closing

CELL = {"sweep": "speeds", "arm": "base", "label": "Base", "axes": {}, "seed": 0}
Point = tuple[int, str, float]


@dataclass
class Kept:
    """What a service has of its runs, which outlives the processes that log."""

    points: dict[str, list[Point]] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, tuple[str, str]] = field(default_factory=dict)
    away: bool = False
    asked: int = 0

    def check(self) -> None:
        self.asked += 1
        if self.away:
            raise ConnectionError("no route to the service")


class LocalService:
    """A service in this process."""

    def __init__(self, kept: Kept, about: RunName, run: str | None) -> None:
        kept.check()
        self.kept, self.run = kept, run or f"run-{len(kept.names)}"
        kept.names[self.run] = f"{about.project}/{about.name}"

    def scalars(self, values: Mapping[str, float], step: int, row: int) -> None:
        self.kept.check()
        points = self.kept.points.setdefault(self.run, [])
        points += [(step, name, value) for name, value in values.items()]
        self.kept.rows.append(row)

    def text(self, tag: str, text: str) -> None:
        self.kept.texts[tag] = text

    def image(self, tag: str, png: bytes, row: int) -> None:
        self.kept.images.append(tag)
        self.kept.rows.append(row)

    def hparams(self, parameters: Mapping[str, Any]) -> None:
        self.kept.parameters = dict(parameters)

    def close(self, ending: str, reason: str) -> None:
        self.kept.ended[self.run] = (ending, reason)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """A service instead of wandb's and mlflow's."""
    kept = Kept()
    monkeypatch.setattr(service, "_make", lambda name, about, run: LocalService(kept, about, run))
    monkeypatch.setattr(service, "check_installed", lambda names: None)
    return kept


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    path = tmp_path / "base-s0-0123456789ab"
    path.mkdir()
    (path / "cell.json").write_text(json.dumps(CELL))
    return RunFolder(path)


def epoch(number: int) -> dict[str, Any]:
    return {"epoch": number, "step": 4 * number, "train/loss": number / 8, "train/pairs": "01"}


def curve(kept: Kept, run: str = "run-0", name: str = "train/loss") -> list[tuple[int, float]]:
    return [(step, value) for step, named, value in kept.points[run] if named == name]


WANDB = {**CELL, LOGGERS: ["wandb"]}


def test_a_run_that_goes_on_sends_each_step_once_to_the_same_run(
    kept: Kept, folder: RunFolder
) -> None:
    first = Recorder(folder, 0, WANDB)
    for number in (1, 2, 3):
        first.epoch(epoch(number))
    # It is killed here, and its last checkpoint is that of the first epoch.
    second = Recorder(folder, 4, WANDB)
    for number in (2, 3, 4):
        second.epoch(epoch(number))
    second.finish({"lr": 0.5}, {"retrieval/R@1": 0.25}, 16)
    assert curve(kept) == [(4, 0.125), (8, 0.25), (12, 0.375), (16, 0.5)]
    assert curve(kept, name="retrieval/R@1") == [(16, 0.25)]
    assert kept.names == {"run-0": "speeds/base-s0-0123456789ab"}
    assert kept.rows == sorted(set(kept.rows)), "a service's own count only grows"
    assert kept.ended == {"run-0": ("finished", "")}
    assert kept.parameters == {"lr": 0.5}


def test_what_a_service_that_was_away_lacks_is_sent_when_the_run_goes_on(
    kept: Kept, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(folder, 0, WANDB)
    recorder.epoch(epoch(1))
    kept.away = True
    for number in (2, 3, 4):
        recorder.epoch(epoch(number))
    recorder.close("interrupted")
    said = capsys.readouterr().err
    assert said.count("wandb failed, and the run goes on without it: no route to the service") == 1
    assert kept.asked == 3, "after its first failure it is left alone"
    assert len((folder.path / "metrics.jsonl").read_text().splitlines()) == 4
    assert fault_lines([folder.path, folder.path.parent], ["wandb"]) == [
        "wandb: failed in 1 of 2 runs: no route to the service"
    ]

    kept.away = False
    Recorder(folder, 12, WANDB).epoch(epoch(4))
    assert curve(kept) == [(4, 0.125), (8, 0.25), (12, 0.375), (16, 0.5)]
    assert fault_lines([folder.path], ["wandb"]) == []


def test_a_service_that_is_away_from_the_start_stops_nothing(
    kept: Kept, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.away = True
    recorder = Recorder(folder, 0, WANDB)
    recorder.describe("a: 1\n", Image.new("RGB", (6, 4)), {"lr": 0.5})
    recorder.epoch(epoch(1))
    recorder.finish({"lr": 0.5}, {"retrieval/R@1": 0.25}, 4)
    assert capsys.readouterr().err.count("wandb failed") == 1
    assert not kept.points


def test_a_run_is_described_at_its_beginning_and_its_image_sent_once(
    kept: Kept, folder: RunFolder
) -> None:
    for _ in range(2):
        recorder = Recorder(folder, 0, WANDB)
        recorder.describe("a: 1\n", Image.new("RGB", (6, 4)), {"lr": 0.5})
    assert kept.texts == {"configuration": "```yaml\na: 1\n```"}
    assert kept.images == ["what the network sees"]
    assert kept.parameters == {"lr": 0.5}


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (ValueError("the loss is NaN"), ("failed", "the loss is NaN")),
        (StoppedEarly("after epoch 1"), ("stopped", "")),
        (KeyboardInterrupt(), ("interrupted", "")),
    ],
)
def test_a_run_that_does_not_finish_is_marked_as_such(
    kept: Kept, folder: RunFolder, error: BaseException, ended: tuple[str, str]
) -> None:
    recorder = Recorder(folder, 0, WANDB)
    with pytest.raises(type(error)), closing(recorder):
        raise error
    assert kept.ended == {"run-0": ended}


def test_cells_whose_process_died_are_marked_after_the_fact_once(
    kept: Kept, folder: RunFolder
) -> None:
    cells = {folder.path: CELL, folder.path.parent / "never-began": CELL}
    Recorder(folder, 0, WANDB).epoch(epoch(1))
    mark_ended(cells, ["wandb"])
    assert not kept.ended, "a run that is half-done has not ended"
    folder.save_error("its process died")
    for _ in range(2):
        mark_ended(cells, ["tensorboard", "wandb"])
    assert kept.ended == {"run-0": ("failed", "its process died")}
    assert kept.asked == 3
    mark_ended(cells, ["tensorboard"])
    folder.forget("error.txt")
    folder.save_stopped({"epoch": 1, "online/knn": 0.5})
    mark_ended(cells, ["wandb"])
    assert kept.ended["run-0"] == ("stopped", "")


def test_an_evaluation_is_in_its_run_and_may_be_measured_anew(
    kept: Kept, folder: RunFolder
) -> None:
    Recorder(folder, 0, WANDB).finish({}, {"retrieval/R@1": 0.25}, 4)
    evaluation = folder.path / "evaluations" / "linear-motion-0a1b2c3d4e"
    evaluation.mkdir(parents=True)
    for value in (0.5, 0.75):
        with evaluation_loggers(folder.path, evaluation, ["tensorboard", "wandb"]) as loggers:
            for logger in loggers:
                logger.scalars({"linear/top1": value}, 4)
    name = "evaluations/linear-motion-0a1b2c3d4e/linear/top1"
    assert curve(kept, name=name) == [(4, 0.5), (4, 0.75)]
    assert curve(kept, name="retrieval/R@1") == [(4, 0.25)]
    assert list(kept.names) == ["run-0"]
    assert len(list(evaluation.glob("events*"))) == 2


def test_a_file_that_is_damaged_costs_the_service_s_run_and_nothing_else(
    kept: Kept, folder: RunFolder
) -> None:
    (folder.path / SENT).write_text('{"wandb": {"run": ')
    Recorder(folder, 0, WANDB).epoch(epoch(1))
    assert curve(kept) == [(4, 0.125)]


def test_a_search_s_cell_has_a_name_for_people(kept: Kept, folder: RunFolder) -> None:
    Recorder(folder, 0, {**WANDB, SHOWN: "trial 7: lr 0.3"}).epoch(epoch(1))
    assert kept.names == {"run-0": "speeds/trial 7: lr 0.3, seed 0"}


def test_without_tensorboard_a_run_has_no_events(kept: Kept, folder: RunFolder) -> None:
    Recorder(folder, 0, WANDB).epoch(epoch(1))
    assert not list(folder.path.glob("events*"))
    assert len(open_loggers(folder.path, CELL, {})) == 1
    assert list(folder.path.glob("events*"))


def test_a_package_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vididi.loggers.choices.find_spec", lambda name: None)
    check_installed(["tensorboard"])
    with pytest.raises(ConfigError) as error:
        check_installed(["tensorboard", "wandb"])
    assert str(error.value) == (
        "loggers: wandb needs the package wandb, which is not installed: pip install"
        " 'vididi[wandb]'"
    )


def test_loggers_are_no_part_of_a_cell_s_name(tmp_path: Path) -> None:
    names = []
    for number, more in enumerate(("", "loggers: [tensorboard, wandb, mlflow]\n")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"name: speeds\nbase: {{training: {{epochs: 1}}}}\n{more}")
        (cell,) = expand(load_sweep(path))
        names.append(cell.folder_name("0" * 64))
        assert not {*ONE_START} & cell.describe("speeds").keys()
    assert names[0] == names[1]
    assert LOGGERS not in Config.model_fields
    path.write_text("name: speeds\nloggers: [comet]\n")
    with pytest.raises(ConfigError, match="comet"):
        load_sweep(path)


def test_mlflow_takes_every_name_of_a_metric() -> None:
    assert mlflow_key("retrieval/R@1") == "retrieval/R_at_1"
    assert mlflow_key("evaluations/linear-a/x:y[z]") == "evaluations/linear-a/x_y_z_"


# --- The services themselves, without a network ---------------------------------------------------


def log_twice(folder: RunFolder, name: str) -> None:
    """A run that fails after two epochs, goes on from the first one, and is then evaluated."""
    cell = {**CELL, LOGGERS: [name]}
    first = Recorder(folder, 0, cell)
    first.describe("a: 1\n", Image.new("RGB", (6, 4)), {"lr": 0.5, "weights": None})
    for number in (1, 2):
        first.epoch(epoch(number))
    first.close("failed", "the loss is NaN")
    second = Recorder(folder, 4, cell)
    second.describe("a: 2\n", Image.new("RGB", (6, 4)), {"lr": 0.5})
    for number in (2, 3):
        second.epoch(epoch(number))
    second.finish({"lr": 0.5}, {"retrieval/R@1": 0.25}, 12)
    evaluation = folder.path / "evaluations" / "linear-a"
    evaluation.mkdir(parents=True)
    with evaluation_loggers(folder.path, evaluation, [name]) as loggers:
        loggers[0].scalars({"linear/top1": 0.5}, 12)
    assert fault_lines([folder.path], [name]) == []


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name in ("WANDB_DIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


BLOCK, HEADER = 32768, 7  # bytes; LevelDB's log format, which wandb's files of runs are in


def offline_records(path: Path) -> Iterator[Any]:
    """The records of an offline run's file."""
    from wandb.proto import wandb_internal_pb2

    content, at, parts = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # a whole record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def test_wandb_has_the_run_s_curve_without_a_network(folder: RunFolder, offline: None) -> None:
    pytest.importorskip("wandb")
    log_twice(folder, "wandb")
    files = sorted(folder.path.parent.glob(".wandb/offline-run-*/*.wandb"))
    records = [list(offline_records(path)) for path in files]
    runs = {record.run.run_id for part in records for record in part if record.run.run_id}
    assert len(files) == 3, "of each process"
    assert len(runs) == 1
    (about, *_) = [record.run for record in records[0] if record.run.run_id]
    assert (about.project, about.display_name) == ("speeds", "base-s0-0123456789ab")
    rows: list[dict[str, Any]] = []
    for part in records:
        for record in part:
            items = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            rows += [items] if items else []
    curve = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
    assert curve == [(4, 0.125), (8, 0.25), (12, 0.375)]
    assert [row["step"] for row in rows if "retrieval/R@1" in row] == [12]
    assert [row["step"] for row in rows if "evaluations/linear-a/linear/top1" in row] == [12]
    exits = [
        record.exit.exit_code for part in records for record in part if record.HasField("exit")
    ]
    assert exits == [1, 0, 0]


def test_mlflow_has_the_run_s_curve_in_a_local_store(folder: RunFolder, offline: None) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    log_twice(folder, "mlflow")
    client = MlflowClient(tracking_uri=(folder.path.parent / ".mlflow").as_uri())
    experiment = client.get_experiment_by_name("speeds")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "base-s0-0123456789ab"
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((point.step, point.value) for point in history) == [
        (4, 0.125),
        (8, 0.25),
        (12, 0.375),
    ]
    assert run.data.metrics["retrieval/R_at_1"] == 0.25
    assert run.data.metrics["evaluations/linear-a/linear/top1"] == 0.5
    assert run.data.params["lr"] == "0.5"
    assert {run.data.tags[name] for name in ("arm", "label")} == {"base", "Base"}
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"configuration.md", "what the network sees.png"}


def test_both_may_log_the_same_run(kept: Kept, folder: RunFolder) -> None:
    about = RunName.of(folder.path, CELL)
    for name in ("wandb", "mlflow"):
        ServiceLogger(name, about, {}).scalars({"a": 0.5}, 1)
    assert set(plain(folder.path / SENT)) == {"wandb", "mlflow"}
    assert set(kept.points) == {"run-0", "run-1"}


# --- A sweep --------------------------------------------------------------------------------------

SWEEP = f"""name: one{BASE}  training: {{epochs: 2, batch_size: 8}}
  evaluation: {{clips: 1, frames: 4, stride: 2}}
evaluate: [retrieval, {{protocol: retrieval, untrained: false, settings: {{clips: 2}}}}]
"""


def test_a_sweep_logs_its_cells_and_their_evaluations_and_says_what_failed(
    kept: Kept,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    one_thread: None,
) -> None:
    monkeypatch.setattr("vididi.commands.running.check_installed", lambda names: None)
    run_jobs_here(monkeypatch)
    (tmp_path / "one.yaml").write_text(SWEEP)
    command = [str(tmp_path / "one.yaml"), "--logger", "tensorboard", "--logger", "wandb"]
    assert run_sweep.main([*command, "--runs", str(tmp_path / "runs")]) == 0
    (run,) = (tmp_path / "runs" / "one").glob("one-s0-*")
    assert kept.names == {"run-0": f"one/{run.name}"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert curve(kept) == [(line["step"], line["train/loss"]) for line in lines]
    (evaluation,) = (run / "evaluations").glob("*")
    measured = json.loads((evaluation / "result.json").read_text())["metrics"]
    last = lines[-1]["step"]
    name = f"evaluations/{evaluation.name}/retrieval/R@1"
    assert curve(kept, name=name) == [(last, measured["retrieval/R@1"])]
    assert kept.ended == {"run-0": ("finished", "")}
    assert "backbone" in kept.texts["configuration"]
    assert LOGGERS not in json.loads((run / "cell.json").read_text())

    kept.away = True
    assert run_sweep.main([*command, "--runs", str(tmp_path / "away")]) == 0
    said = capsys.readouterr().out
    assert "wandb: failed in 1 of 1 runs: no route to the service" in said
    (other,) = (tmp_path / "away" / "one").glob("one-s0-*")
    assert other.name == run.name
    assert curve(kept) == [(line["step"], line["train/loss"]) for line in lines]
