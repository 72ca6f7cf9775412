"""Whole sweeps as a user runs them: run_sweep.py in a process of its own, with a Ray of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]

SWEEP = """
name: tiny
table: vididi_table_6
base:
  data: {name: motion, train: 24, test: 20, size: 32, frames: 24}
  prepare: {short_side: 20}
  clip: {frames: 4, stride: 2, size: 16}
  augment: {name: vididi, crop_scale: [0.3, 1.0], hue: 0.0}
  objective: {name: vicreg, hidden: 16, out: 16}
  backbone: {name: r3d_tiny, width: 2}
  optimiser: {name: lars}
  training: {epochs: 40, batch_size: 12}
  evaluation: {clips: 2, frames: 4, stride: 2}
arms:
  base: {label: "Base (VICReg)", order: 0}
  vididi: {label: "ViDiDi-VIC", order: 2}
  two_workers: {label: "+Schedule 1st", order: 1, mix: same, training.epochs: 12, resources: {workers: 2}}
  one_worker: {label: "the same cell", order: 1, mix: same, training.epochs: 12, augment.flip: 0.5000001}
  broken: {label: "diverges", order: 0, optimiser.name: sgd, optimiser.lr: 1.0e+30}
"""

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep")
    (path / "tiny.yaml").write_text(SWEEP)
    return path


def command(*arguments, spec="tiny.yaml"):
    return [sys.executable, str(ROOT / "run_sweep.py"), spec, *arguments]


def environment(place, cache="cache"):
    return {
        **os.environ,
        "VIDIDI_CACHE": str(place / cache),
        "COLUMNS": "200",
        "PYTHONWARNINGS": "ignore",
    }


def run(place, *arguments, spec="tiny.yaml", cache="cache"):
    return called(place, command(*arguments, spec=spec), cache)


def called(place, program, cache="cache"):
    return subprocess.run(
        program,
        cwd=place,
        env=environment(place, cache),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.fixture(scope="module")
def whole(place):
    return run(place)


def result(runs, arm):
    (folder,) = (runs / "tiny").glob(f"{arm}-s0-*")
    return json.loads((folder / "result.json").read_text())


def measurements(runs, arm):
    return {
        name: value
        for name, value in result(runs, arm).items()
        if name.startswith(("retrieval/", "silhouette/"))
    }


def losses(runs, arm):
    (folder,) = (runs / "tiny").glob(f"{arm}-s0-*")
    return [
        json.loads(line)["train/loss"]
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def test_every_cell_but_the_broken_one_finishes(place, whole):
    assert whole.returncode == 1, whole.stdout + whole.stderr
    for arm, epochs in (("base", 40), ("vididi", 40), ("two_workers", 12), ("one_worker", 12)):
        assert set(measurements(place / "runs", arm)) >= {
            "retrieval/R@1",
            "retrieval/R@5",
            "retrieval/R@10",
            "silhouette/all",
        }
        assert len(losses(place / "runs", arm)) == epochs


def test_a_failed_cell_is_listed_with_its_reason(place, whole):
    assert "not finished: broken-s0: the loss is not finite at step" in whole.stdout
    (folder,) = (place / "runs" / "tiny").glob("broken-s0-*")
    assert "not finite" in (folder / "error.txt").read_text()


def test_two_gloo_workers_train_as_one(place, whole):
    assert result(place / "runs", "two_workers")["workers"] == 2
    assert losses(place / "runs", "two_workers")[:5] == pytest.approx(
        losses(place / "runs", "one_worker")[:5], rel=1e-3
    )


def test_one_events_file_per_cell(place, whole):
    for arm in ("base", "vididi", "two_workers"):
        (folder,) = (place / "runs" / "tiny").glob(f"{arm}-s0-*")
        assert len(list(folder.rglob("*tfevents*"))) == 1


def test_the_table_is_printed_and_comes_from_the_run_folders_alone(place, whole):
    table = (place / "runs" / "tiny" / "vididi_table_6.md").read_text().strip()
    assert table in whole.stdout
    script = [
        sys.executable,
        str(ROOT / "analysis" / "ablation_table.py"),
        str(place / "runs" / "tiny"),
        "--out",
        str(place / "again"),
    ]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
    assert printed == table
    assert "tensorboard --logdir" in whole.stdout


def test_what_is_finished_is_not_run_again(place, whole):
    before = {path: path.stat().st_mtime_ns for path in (place / "runs").rglob("result.json")}
    again = run(place, "--only", "base", "--only", "vididi", "--only", "two_workers")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "3 cells, 3 finished before, 0 to run" in again.stdout
    assert before == {
        path: path.stat().st_mtime_ns for path in (place / "runs").rglob("result.json")
    }


def test_killed_in_the_middle_and_started_again_it_ends_the_same(place, whole):
    arms = ("--only", "base", "--only", "vididi", "--runs", "killed")
    with subprocess.Popen(
        command(*arms),
        cwd=place,
        env=environment(place),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as driver:
        try:
            wait_for_epochs(place / "killed" / "tiny", 5)
        finally:
            driver.send_signal(signal.SIGKILL)
    assert not all(
        (folder / "result.json").exists() for folder in (place / "killed" / "tiny").glob("*-s0-*")
    )
    resumed = run(place, *arms)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert any(result(place / "killed", arm)["resumed_from_step"] for arm in ("base", "vididi"))
    for arm in ("base", "vididi"):
        assert measurements(place / "killed", arm) == measurements(place / "runs", arm)
        assert losses(place / "killed", arm) == losses(place / "runs", arm)


@pytest.mark.parametrize(
    ("arm", "process"), [("base", "ray::ImplicitFunc"), ("two_workers", "ray::RayTrainWorker")]
)
def test_a_cell_whose_process_dies_goes_on_from_its_checkpoint(place, whole, arm, process):
    runs = place / f"died-{arm}"
    with (
        (place / "died.txt").open("w") as out,
        subprocess.Popen(
            command("--only", arm, "--runs", runs.name),
            cwd=place,
            env=environment(place),
            stdout=out,
        ) as driver,
    ):
        wait_for_epochs(runs / "tiny", 5)
        kill_one(driver.pid, process)
    assert driver.returncode == 0, (place / "died.txt").read_text()
    assert result(runs, arm)["resumed_from_step"]
    assert losses(runs, arm) == pytest.approx(losses(place / "runs", arm), rel=1e-5)
    assert measurements(runs, arm) == pytest.approx(measurements(place / "runs", arm), abs=1e-4)


def kill_one(driver, name):
    processes = [
        child
        for child in psutil.Process(driver).children(recursive=True)
        if " ".join(child.cmdline()).startswith(name)
    ]
    assert processes, f"no process named {name}"
    processes[0].kill()


def wait_for_epochs(runs, count):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if any(
            len(path.read_text().splitlines()) >= count for path in runs.glob("*/metrics.jsonl")
        ):
            return
        time.sleep(0.01)
    pytest.fail(f"no cell reached {count} epochs")


def test_a_sweep_that_cannot_get_its_resources_says_so(place, whole):
    (place / "huge.yaml").write_text(SWEEP + "resources: {workers: 4, cpus_per_worker: 4096}\n")
    refused = run(place, "--runs", "huge", spec="huge.yaml")
    assert refused.returncode == 2
    assert "resources.cpus_per_worker" in refused.stderr
    assert "this machine has" in refused.stderr


def test_on_a_cluster_that_is_already_there_and_holds_the_data_the_results_are_the_same(
    place, whole
):
    from ray.cluster_utils import Cluster

    (place / "held.yaml").write_text(SWEEP + "resources: {hold_data: true}\n")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 4,
            "include_dashboard": False,
            "object_store_memory": 200 << 20,
        },
    )
    try:
        arguments = (
            "--only",
            "vididi",
            "--only",
            "two_workers",
            "--runs",
            "held",
            "--address",
            cluster.address,
        )
        there = run(
            place, *arguments, spec="held.yaml", cache="empty"
        )  # so that it prepares there too
    finally:
        cluster.shutdown()
    assert there.returncode == 0, there.stdout + there.stderr
    for arm in ("vididi", "two_workers"):
        assert losses(place / "held", arm) == losses(place / "runs", arm)
        assert measurements(place / "held", arm) == measurements(place / "runs", arm)
    assert result(place / "held", "two_workers")["workers"] == 2


def test_status_says_what_became_of_each_cell_and_runs_nothing(place, whole):
    before = {
        path: path.stat().st_mtime_ns for path in (place / "runs").rglob("*") if path.is_file()
    }
    done = called(place, command("tiny.yaml", spec="status"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "sweep tiny: 5 cells, 4 finished, 1 failed, in " in done.stdout
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if "-s0 " in line}
    assert f"{measurements(place / 'runs', 'vididi')['retrieval/R@1']:.1%}" in lines["vididi-s0"]
    assert lines["broken-s0"].split()[1] == "failed"
    assert "the loss is not finite" in lines["broken-s0"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_only_what_failed_is_run_again(place, whole):
    done = called(place, command("tiny.yaml", "--failed", spec="rerun"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 5 cells failed" in done.stdout
    assert "sweep tiny: 1 cell, 0 finished before, 1 to run" in done.stdout
    assert "not finished: broken-s0: the loss is not finite at step" in done.stdout


EVALUATED = """
evaluate:
  - retrieval
  - silhouette
  - {protocol: linear, settings: {epochs: 2, warmup_epochs: 1, batch_size: 12, clips: 1, optimiser.lr: 0.5}}
  - {protocol: retrieval, untrained: false, data: {name: motion, train: 20, test: 10, size: 32, frames: 24, seed: 5}}
  - {protocol: finetune, settings: {epochs: 2, batch_size: 1024, steps: [1]}}
"""


def test_a_sweep_evaluates_its_finished_cells_once(place, whole):
    (place / "evaluated.yaml").write_text(SWEEP + EVALUATED)
    done = run(place, "--only", "base", spec="evaluated.yaml")
    assert done.returncode == 1  # fine-tuning was asked for a batch that there is not
    assert (
        "not finished: base-s0 finetune: batch_size: 1024 is more than the 24 training videos"
        in done.stdout
    )
    assert "base-s0 linear: finished" in done.stdout
    (folder,) = (place / "runs" / "tiny").glob("base-s0-*")
    found = [
        json.loads(path.read_text()) for path in sorted(folder.glob("evaluations/*/result.json"))
    ]
    assert [(result["protocol"], result["data"].get("seed", 0)) for result in found] == [
        ("linear", 0),
        ("retrieval", 5),
    ]
    assert (
        found[0]["untrained"].keys() == found[0]["metrics"].keys() == {"linear/top1", "linear/top5"}
    )
    assert found[1]["untrained"] is None
    (place / "evaluated.yaml").write_text(
        SWEEP + EVALUATED.rpartition("  - {protocol: finetune")[0]
    )
    again = run(place, "--only", "base", spec="evaluated.yaml")
    assert again.returncode == 0
    assert "evaluations: 2 of 1 run, 0 to make" in again.stdout


def test_a_sweep_that_waits_for_others_says_so_and_gives_up(place, whole):
    import ray
    from ray.cluster_utils import Cluster

    (place / "wait.yaml").write_text(SWEEP + "resources: {wait_s: 40}\n")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "include_dashboard": False,
            "object_store_memory": 200 << 20,
        },
    )
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        ray.get(ray.util.placement_group([{"CPU": 2}]).ready())  # somebody else's
        waited = run(
            place,
            "--only",
            "base",
            "--runs",
            "waited",
            "--address",
            cluster.address,
            spec="wait.yaml",
        )
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert waited.returncode == 2, waited.stdout + waited.stderr
    assert "no cell could start for 3" in waited.stdout
    assert "resources.wait_s" in waited.stderr
