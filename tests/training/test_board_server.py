"""TensorBoard itself over a finished sweep: what its HTTP interface, and so its pages, have of it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from jobs_here import run_jobs_here
from tiny_sweep import BASE

import run_sweep

SWEEP = f"""name: rates{BASE}  training: {{epochs: 1, batch_size: 8}}
  evaluation: {{clips: 2, frames: 4, stride: 2, online: {{every: 1, train: 8, test: 6, clips: 2}}}}
arms: {{slow: {{label: Slow, optimiser.lr: 0.01}}, fast: {{label: Fast, optimiser.lr: 0.1}}}}
evaluate: [retrieval, {{protocol: retrieval, untrained: false, settings: {{clips: 1}}}}]
"""
WAIT_S = 600  # at most for the program to answer, on a machine that is busy
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """The run folders of a finished sweep of two cells."""
    place = tmp_path_factory.mktemp("sweep")
    (place / "rates.yaml").write_text(SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        run_jobs_here(patch)
        assert run_sweep.main([str(place / "rates.yaml"), "--runs", str(place / "runs")]) == 0
    return place / "runs" / "rates"


@pytest.fixture(scope="module")
def ask(runs: Path) -> Iterator[Ask]:
    """``ask("scalars/tags")``: an answer of the program that shows these runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--load_fast=false"]
    program = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--reload_interval", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answer(path: str, post: Any = None, raw: bool = False, **query: str) -> Any:
        url = f"http://127.0.0.1:{port}/data/plugin/{path}?{urlencode(query)}"
        data = None if post is None else json.dumps(post).encode()
        request = Request(url, data, {"Content-Type": "application/json"})
        content = urlopen(request, timeout=WAIT_S).read()
        return content if raw else json.loads(content)

    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                found = answer("scalars/tags")
                if len(found) == len(list(runs.rglob("events*"))):
                    break
            except (URLError, ConnectionError):
                assert program.poll() is None, "the program ended"
            assert time.monotonic() < deadline, "it does not show all runs"
            time.sleep(0.2)
        yield answer
    finally:
        program.terminate()
        program.wait(WAIT_S)


def run_of(runs: Path, arm: str) -> Path:
    (run,) = runs.glob(f"{arm}-s0-*")
    return run


def test_hyperparameters_are_those_that_differ_with_arm_and_label(ask: Ask, runs: Path) -> None:
    infos = ask("hparams/experiment", post={})["hparamInfos"]
    assert {info["name"] for info in infos} == {"arm", "label", "optimiser.lr"}
    assert all(info["differs"] for info in infos), "none is constant"
    groups = ask(
        "hparams/session_groups",
        post={
            "startIndex": 0,
            "sliceSize": 10,
            "allowedStatuses": ["STATUS_SUCCESS"],
            "colParams": [],
        },
    )["sessionGroups"]
    assert {group["name"]: group["hparams"] for group in groups} == {
        run_of(runs, "slow").name: {"arm": "slow", "label": "Slow", "optimiser.lr": 0.01},
        run_of(runs, "fast").name: {"arm": "fast", "label": "Fast", "optimiser.lr": 0.1},
    }


def test_curves_and_evaluations_are_scalars(ask: Ask, runs: Path) -> None:
    tags = ask("scalars/tags")
    run = run_of(runs, "slow")
    (evaluation,) = (run / "evaluations").glob("retrieval-*")
    epochs = {"train/loss", "online/knn", "online/rankme", "online/lidar", "online/spread"}
    assert {*epochs, "retrieval/R@1", "features/spread"} <= tags[run.name].keys()
    name = f"{run.name}/evaluations/{evaluation.name}"
    assert {"retrieval/R@1", "features/spread"} <= tags[name].keys()
    result = json.loads((evaluation / "result.json").read_text())["metrics"]
    ((_, step, value),) = ask("scalars/scalars", run=name, tag="retrieval/R@1")
    assert step == json.loads((run / "result.json").read_text())["steps"]
    assert value == pytest.approx(result["retrieval/R@1"])


def test_the_sheet_is_an_image_and_the_configuration_a_text(ask: Ask, runs: Path) -> None:
    run = run_of(runs, "fast")
    sheet = "what the network sees"
    assert sheet in ask("images/tags")[run.name]
    (image,) = ask("images/images", run=run.name, tag=sheet)
    png = ask(f"images/individualImage?{image['query']}&", raw=True)
    assert png.startswith(b"\x89PNG")
    (tag,) = ask("text/tags")[run.name]
    assert tag.startswith("configuration")
    (text,) = ask("text/text", run=run.name, tag=tag)
    assert "lr: 0.1" in text["text"]


def test_the_projector_has_the_features_of_the_test_videos(ask: Ask, runs: Path) -> None:
    run = run_of(runs, "fast")
    (evaluation,) = (run / "evaluations").glob("retrieval-*")
    names = ask("projector/runs")
    (name,) = [name for name in names if name.startswith(run.name)]
    assert name.endswith(evaluation.name)
    (embedding,) = ask("projector/info", run=name)["embeddings"]
    tensor, videos = embedding["tensorName"], 12
    points = ask("projector/tensor", run=name, name=tensor, raw=True)
    labels = ask("projector/metadata", run=name, name=tensor, raw=True).decode().splitlines()
    assert labels[0] == "class\tvideo"
    assert len(labels) == 1 + videos
    assert len(points) % (4 * videos) == 0
    assert len(points) > 0
