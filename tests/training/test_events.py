from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from boards import assert_board_is_right, due, read_board, shown
from google.protobuf import text_format
from PIL import Image
from PIL.Image import open as open_image
from tensorboard import default, program
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.plugins.projector import ProjectorConfig
from werkzeug.test import Client

from vididi.components import COMPONENTS, resolve_component
from vididi.config import Component
from vididi.runs.board_files import write_projector
from vididi.runs.file_names import POINT_LABELS, POINTS, PROJECTOR, RESULT
from vididi.runs.run_folder import RunFolder
from vididi.training.events import hparam_values
from vididi.training.recorder import Recorder

EPOCHS, STEPS = 6, 4  # of the run, and of each epoch
ALL = EPOCHS * (STEPS + 3) + 4  # moments of it at which a process may die


def attempt(path: Path, every: int, moment: Callable[[], None]) -> None:
    """A run without a network, from its last checkpoint on. It writes its files in the order of the
    real one.
    """
    folder, checkpoint = RunFolder(path), path / "checkpoint"
    if (path / RESULT).is_file():
        return
    step = int(checkpoint.read_text()) if checkpoint.is_file() else 0
    draw = Random(f"{os.getpid()} {time.time_ns()}")
    recorder = Recorder(folder, step)
    moment()
    while step < EPOCHS * STEPS:
        step += 1
        moment()
        if step % STEPS == 0:
            online = {"online/knn": draw.random()} if step // STEPS % 2 == 0 else {}
            recorder.epoch(
                {
                    "epoch": step // STEPS,
                    "step": step,
                    "train/loss": draw.random(),
                    "train/pairs": "01 10",
                    **online,
                }
            )
            moment()
        if step % every == 0 or step == EPOCHS * STEPS:
            checkpoint.with_suffix(".aside").write_text(str(step))
            checkpoint.with_suffix(".aside").rename(checkpoint)
            moment()
    result = {"retrieval/R@1": draw.random(), "silhouette/all": draw.random()}
    recorder.finish({"training.epochs": EPOCHS}, result, step)
    moment()
    folder.save_result({**result, "steps": step})


def killed(work: Callable[[Callable[[], None]], None], after: int) -> bool:
    """Whether a process that does the work was killed at the moment that is so many in."""
    pid = os.fork()
    if pid == 0:
        left = after

        def moment() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            work(moment)
        finally:
            os._exit(0 if left >= 0 else 1)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


# 30: one of whose checkpoints, and so a restart, is at the end alone.
@pytest.mark.parametrize("every", [3, 8, 30])
def test_a_killed_run_has_each_point_once_and_in_order(every: int, tmp_path: Path) -> None:
    for number in range(5):
        draw, path = Random(number), tmp_path / str(number)
        path.mkdir()
        board = plugin_event_accumulator.EventAccumulator(str(path))
        moments = [draw.randrange(1, ALL), draw.randrange(1, 12), ALL]
        for after in moments:
            died = killed(lambda moment, path=path: attempt(path, every, moment), after)  # type: ignore[misc]
            assert_board_is_right(path)
            assert shown(board) == read_board(path)  # that runs all the while
        assert not died
        assert due(path)["train/loss"][-1][0] == EPOCHS * STEPS
        assert [step for step, _ in due(path)["retrieval/R@1"]] == [EPOCHS * STEPS]


def test_a_run_killed_at_any_instant_has_each_point_once(tmp_path: Path) -> None:
    """In the middle of a line or of a record too, and where the machine's end took some of the
    events.
    """
    draw = Random(0)
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            try:
                attempt(tmp_path, 3, lambda: time.sleep(0.002))
            finally:  # nothing may go on in a copy of the tests
                os._exit(0)
        time.sleep(draw.uniform(0, 0.1))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for file in tmp_path.glob("*tfevents*"):
            if draw.random() < 0.2:
                os.truncate(file, draw.randrange(file.stat().st_size))
    (tmp_path / "result.json").unlink(missing_ok=True)
    attempt(tmp_path, 3, lambda: None)
    assert_board_is_right(tmp_path)


def test_the_clock_of_another_machine_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for number, later in enumerate((0, 0, -3600, 7200, -3600)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        monkeypatch.setattr("socket.gethostname", lambda number=number: f"node-{9 - number}")
        killed(lambda moment: attempt(tmp_path, 4, moment), 8 * (number + 1))
        assert_board_is_right(tmp_path)


def test_points_keep_the_times_at_which_they_were_recorded(tmp_path: Path) -> None:
    for after in (20, ALL):
        killed(lambda moment: attempt(tmp_path, 4, moment), after)
        time.sleep(0.05)
    parts = [
        plugin_event_accumulator.EventAccumulator(str(path))
        for path in sorted(tmp_path.glob("*tfevents*"))
    ]
    times = [
        {event.step: event.wall_time for event in part.Reload().Tensors("train/loss")}
        for part in parts
    ]
    assert len(times[0]) < len(times[1]) == EPOCHS
    assert {step: times[1][step] for step in times[0]} == times[0]


def test_an_older_folder_is_mended_when_its_run_goes_on(tmp_path: Path) -> None:
    """Its first events file has no mark of a beginning."""
    from torch.utils.tensorboard import SummaryWriter

    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": step, "epoch": 1, "a": 0.5}) + "\n" for step in (4, 8))
    )
    for _ in range(2):
        with SummaryWriter(str(tmp_path)) as board:
            for step in (4, 8):
                board.add_scalar("a", 0.5, step)
            board.add_scalar("retrieval/R@1", 0.5, 8)
    Recorder(RunFolder(tmp_path), 4).finish({}, {}, 4)
    assert shown(plugin_event_accumulator.EventAccumulator(str(tmp_path))) == {"a": [(4, 0.5)]}


# --- HParams --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """``ask("experiment", ...)``: an answer of TensorBoard's HTTP API about three runs of one
    sweep.
    """
    runs = tmp_path_factory.mktemp("runs")
    record_finished(
        runs / "a",
        {"optimiser.name": "lars", "optimiser.trust": 0.001, "clip.size": 112},
        {"retrieval/R@1": 0.5},
    )
    record_finished(
        runs / "b",
        {"optimiser.name": "sgd", "clip.size": 128, "schedule.weights": None},
        {"retrieval/R@1": 0.25},
    )
    weights = {
        "optimiser.name": "sgd",
        "schedule.weights": [["1-0", 0.5]],
        "optimiser.nesterov": True,
    }
    record_finished(runs / "c", {**weights, "clip.size": None}, {"silhouette/all": -0.125})
    board = program.TensorBoard(plugins=default.get_plugins(), server_class=Board)
    board.configure([None, "--logdir", str(runs), "--load_fast", "false", "--reload_interval", "0"])
    client = Client(board._make_server().app)

    def answer(path: str, **query: Any) -> Any:
        found = client.post(f"/data/plugin/hparams/{path}", json=query)
        assert found.status_code == 200
        return json.loads(found.data)

    return answer


class Board:
    """TensorBoard's answers without a port."""

    def __init__(self, app: Any, flags: Any) -> None:
        self.app = app


def record_finished(path: Path, parameters: dict[str, Any], measured: dict[str, float]) -> None:
    path.mkdir()
    recorder = Recorder(RunFolder(path), 0)
    recorder.epoch({"epoch": 1, "step": 4, "train/loss": 0.5})
    recorder.finish(parameters, measured, 4)


def test_hparams_has_a_column_for_each_key_of_any_run(ask: Callable[..., Any]) -> None:
    columns = {info["name"]: info["type"] for info in ask("experiment")["hparamInfos"]}
    assert columns == {
        "optimiser.name": "DATA_TYPE_STRING",
        "optimiser.trust": "DATA_TYPE_FLOAT64",
        "optimiser.nesterov": "DATA_TYPE_BOOL",
        "clip.size": "DATA_TYPE_FLOAT64",
        "schedule.weights": "DATA_TYPE_STRING",
    }


def test_hparams_has_every_run_with_its_own_values_and_measures(ask: Callable[..., Any]) -> None:
    metrics = [{"name": info["name"]} for info in ask("experiment")["metricInfos"]]
    assert {info["name"]["tag"] for info in metrics} == {
        "train/loss",
        "retrieval/R@1",
        "silhouette/all",
    }
    groups = ask(
        "session_groups",
        startIndex=0,
        sliceSize=10,
        allowedStatuses=["STATUS_SUCCESS"],
        colParams=[],
    )["sessionGroups"]
    assert {group["name"]: group["hparams"] for group in groups} == {
        "a": {"optimiser.name": "lars", "optimiser.trust": 0.001, "clip.size": 112},
        "b": {"optimiser.name": "sgd", "clip.size": 128},
        "c": {
            "optimiser.name": "sgd",
            "schedule.weights": '[["1-0", 0.5]]',
            "optimiser.nesterov": True,
        },
    }
    values = {
        group["name"]: {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        for group in groups
    }
    assert values == {
        "a": {"train/loss": 0.5, "retrieval/R@1": 0.5},
        "b": {"train/loss": 0.5, "retrieval/R@1": 0.25},
        "c": {"train/loss": 0.5, "silhouette/all": -0.125},
    }


def test_an_option_has_one_type_in_all_entries_of_its_kind() -> None:
    """Else a column of HParams would have two. Data sets are the exception: a sweep has one."""
    for kind, entries in COMPONENTS.items():
        types: dict[str, set[type]] = {}
        for name in entries if kind != "data" else ():
            given = resolve_component(kind, Component(name=name)).options
            for option, value in hparam_values(given).items():
                types.setdefault(option, set()).add(float if type(value) is int else type(value))
        assert all(len(found) == 1 for found in types.values()), types


def test_a_board_shows_what_a_run_is_and_forgets_what_an_earlier_attempt_said(
    tmp_path: Path,
) -> None:
    for number in range(2):
        recorder = Recorder(RunFolder(tmp_path), 0)
        recorder.describe(f"training:\n  epochs: {number}\n", Image.new("RGB", (6, 4), (255, 0, 0)))
    board = plugin_event_accumulator.EventAccumulator(
        str(tmp_path), size_guidance={plugin_event_accumulator.TENSORS: 0}
    ).Reload()
    (text,) = board.Tensors("configuration/text_summary")
    assert "epochs: 1" in text.tensor_proto.string_val[0].decode()
    (image,) = board.Tensors("what the network sees")
    width, height, png = image.tensor_proto.string_val
    assert (width, height) == (b"6", b"4")
    assert open_image(BytesIO(png)).getpixel((0, 0)) == (255, 0, 0)


def test_the_projector_has_a_point_with_its_class_for_each_test_video(tmp_path: Path) -> None:
    table = pa.table(
        {
            "video_id": ["a", "b", "c"],
            "class": ["run", "jump\tup", "run"],
            "split": ["test", "test", "train"],
            "features": [[0.5, 1.0], [2.0, -3.0], [9.0, 9.0]],
        }
    )
    write_projector(tmp_path, table)
    assert (tmp_path / POINTS).read_text() == "0.5\t1\n2\t-3\n"
    assert (tmp_path / POINT_LABELS).read_text() == "class\tvideo\nrun\ta\njump up\tb\n"
    config = text_format.Parse((tmp_path / PROJECTOR).read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    assert (embedding.tensor_path, embedding.metadata_path) == (POINTS, POINT_LABELS)
