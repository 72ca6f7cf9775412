"""Whole sweeps as a user runs them: run_sweep.py in a process of its own, with a Ray of its own.
What needs neither runs in this process, on one cluster.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import cluster_of, processes_below, run_here

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


@pytest.fixture(scope="module")
def address():
    with cluster_of(cpus=4) as address:
        yield address


def program(place, *arguments):
    """How run_sweep.py is started."""
    return {
        "args": [sys.executable, str(ROOT / "run_sweep.py"), *arguments],
        "cwd": place,
        "env": {
            **os.environ,
            "VIDIDI_CACHE": str(place / "cache"),
            "COLUMNS": "200",
            "PYTHONWARNINGS": "ignore",
        },
    }


@pytest.fixture(scope="module")
def whole(place):
    return subprocess.run(
        **program(place, "tiny.yaml"), capture_output=True, text=True, timeout=400, check=False
    )


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
        assert len(list(folder.glob("*tfevents*"))) == 1


def test_the_table_is_printed_and_comes_from_the_run_folders_alone(place, whole):
    table = (place / "runs" / "tiny" / "vididi_table_6.md").read_text().strip()
    own = (place / "runs" / "tiny" / "results.md").read_text().strip()
    assert own in whole.stdout
    assert "without runs are hidden; --all-rows shows them" in whole.stdout
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
    again = run_here(
        place, "tiny.yaml", "--only", "base", "--only", "vididi", "--only", "two_workers"
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "3 cells, 3 finished before, 0 to run" in again.stdout
    assert before == {
        path: path.stat().st_mtime_ns for path in (place / "runs").rglob("result.json")
    }


@pytest.fixture(scope="module")
def faults(place, whole):
    """A sweep whose driver is killed in the midst of a cell. Started again, it goes on with that
    cell, and of two others it loses processes.
    """
    (place / "faults.yaml").write_text(SWEEP + "resources: {concurrency: 1}\n")
    runs = place / "faults"
    arguments = ("faults.yaml", "--runs", runs.name)
    with subprocess.Popen(
        **program(place, *arguments, "--only", "vididi"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as driver:
        try:
            wait_for_epochs(runs / "tiny", "vididi", 5)
        finally:
            driver.send_signal(signal.SIGKILL)
    assert not list((runs / "tiny").glob("*/result.json"))
    arms = ("--only", "base", "--only", "vididi", "--only", "two_workers")
    with (
        (place / "faults.txt").open("w") as out,
        subprocess.Popen(**program(place, *arguments, *arms), stdout=out) as driver,
    ):
        try:
            for arm, process, epochs in FAULTY:
                wait_for_epochs(runs / "tiny", arm, epochs)
                kill_one(driver.pid, process)
            driver.wait(200)
        finally:
            driver.kill()
    assert driver.returncode == 0, (place / "faults.txt").read_text()
    return runs


# As they come, one after the other: the process of a cell, one of several workers, and the one that
# drives these, whose placement Ray keeps until the sweep ends (2.60).
FAULTY = (
    ("base", "ray::ImplicitFunc", 5),
    ("two_workers", "ray::RayTrainWorker", 5),
    ("two_workers", "ray::ImplicitFunc", 8),
)


def test_killed_in_the_middle_and_started_again_it_ends_the_same(place, faults):
    assert result(faults, "vididi")["resumed_from_step"]
    assert measurements(faults, "vididi") == measurements(place / "runs", "vididi")
    assert losses(faults, "vididi") == losses(place / "runs", "vididi")


@pytest.mark.parametrize("arm", ["base", "two_workers"])
def test_a_cell_whose_process_dies_goes_on_from_its_checkpoint(place, faults, arm):
    assert result(faults, arm)["resumed_from_step"]
    assert losses(faults, arm) == pytest.approx(losses(place / "runs", arm), rel=1e-5)
    assert measurements(faults, arm) == pytest.approx(measurements(place / "runs", arm), abs=1e-4)


def kill_one(driver, name):
    processes = processes_below(driver, name)
    assert processes, f"no process named {name}"
    processes[0].kill()


def wait_for_epochs(runs, arm, count):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if any(
            len(path.read_text().splitlines()) >= count
            for path in runs.glob(f"{arm}-s0-*/metrics.jsonl")
        ):
            return
        time.sleep(0.01)
    pytest.fail(f"{arm} did not reach {count} epochs")


def test_a_sweep_that_cannot_get_its_resources_says_so(place, whole):
    (place / "huge.yaml").write_text(SWEEP + "resources: {workers: 4, cpus_per_worker: 4096}\n")
    refused = run_here(place, "huge.yaml", "--runs", "huge")
    assert refused.returncode == 2
    assert "resources.cpus_per_worker" in refused.stderr
    assert "this machine has" in refused.stderr


def test_on_a_cluster_that_is_already_there_and_holds_the_data_the_results_are_the_same(
    place, whole, address
):
    (place / "held.yaml").write_text(SWEEP + "resources: {hold_data: true}\n")
    arms = ("--only", "vididi", "--only", "two_workers")
    arguments = ("held.yaml", *arms, "--runs", "held", "--address", address)
    there = run_here(place, *arguments, cache="empty")  # so that it prepares there too
    assert there.returncode == 0, there.stdout + there.stderr
    for arm in ("vididi", "two_workers"):
        assert losses(place / "held", arm) == losses(place / "runs", arm)
        assert measurements(place / "held", arm) == measurements(place / "runs", arm)
    assert result(place / "held", "two_workers")["workers"] == 2


def test_status_says_what_became_of_each_cell_and_runs_nothing(place, whole):
    before = {
        path: path.stat().st_mtime_ns for path in (place / "runs").rglob("*") if path.is_file()
    }
    done = run_here(place, "status", "tiny.yaml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "sweep tiny: 5 cells, 4 finished, 1 failed, in " in done.stdout
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if "-s0 " in line}
    assert f"{measurements(place / 'runs', 'vididi')['retrieval/R@1']:.1%}" in lines["vididi-s0"]
    assert lines["broken-s0"].split()[1] == "failed"
    assert "the loss is not finite" in lines["broken-s0"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_only_what_failed_is_run_again(place, whole, address):
    done = run_here(place, "rerun", "tiny.yaml", "--failed", "--address", address)
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


def test_a_sweep_evaluates_its_finished_cells_once(place, whole, address):
    (place / "evaluated.yaml").write_text(SWEEP + EVALUATED)
    done = run_here(place, "evaluated.yaml", "--only", "base", "--address", address)
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
    again = run_here(place, "evaluated.yaml", "--only", "base")
    assert again.returncode == 0
    assert "evaluations: 2 of 1 run, 0 to make" in again.stdout


@pytest.fixture
def others(address):
    """Somebody else has the whole cluster."""
    import ray

    with ray.init(address=address, namespace="others", log_to_driver=False):
        group = ray.util.placement_group([{"CPU": 4}], lifetime="detached", name="others")
        ray.get(group.ready())
    yield
    with ray.init(address=address, namespace="others", log_to_driver=False):
        ray.util.remove_placement_group(ray.util.get_placement_group("others"))


def test_a_sweep_that_waits_for_others_says_so_and_gives_up(
    place, whole, address, others, monkeypatch
):
    monkeypatch.setattr("vididi.cluster.tune.WARN_S", 1)
    (place / "wait.yaml").write_text(SWEEP + "resources: {wait_s: 4}\n")
    arguments = ("wait.yaml", "--only", "base", "--runs", "waited", "--address", address)
    waited = run_here(place, *arguments)
    assert waited.returncode == 2, waited.stdout + waited.stderr
    assert re.search(r"no cell could start for \d+ s: each needs", waited.stdout)
    assert "no cell could start for 4 s (resources.wait_s)" in waited.stderr
