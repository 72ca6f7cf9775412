"""The programs of examples/ as a user runs them, and what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
EXAMPLES = REPO / "examples"


def printed(example: str, *arguments: str, cache: Path) -> str:
    """What an example prints, run from its file in a folder of the user's own."""
    path = os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "VIDIDI_CACHE": str(cache),
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(EXAMPLES / f"{example}.py"), *arguments]
    done = subprocess.run(
        command, cwd=cache, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


def test_a_schedule_by_hand(own_cache: Path) -> None:
    lines = printed("schedule_by_hand", cache=own_cache).splitlines()
    pairs = [set(re.findall(r"\d with \d", line)) for line in lines[:4]]
    cycle = [
        {"1 with 1", "2 with 2"},
        {"1 with 0", "2 with 1"},
        {"0 with 1", "1 with 2"},
        {"0 with 0", "1 with 1"},
    ]
    assert all(seen and seen <= expected for seen, expected in zip(pairs, cycle, strict=True))
    assert lines[4:7] == [
        "order 0, frames: [0.0, 1.0, 4.0, 9.0, 16.0, 25.0]",
        "order 1, velocity: [1.0, 3.0, 5.0, 7.0, 9.0]",
        "order 2, acceleration: [2.0, 2.0, 2.0, 2.0]",
    ]
    orders, shapes = re.findall(r"\d+", lines[7])[:2], re.findall(r"\[(.+?)\]", lines[7])
    assert shapes == [f"8, 3, {6 - int(order)}, 16, 16" for order in orders]


def test_pretraining_and_its_encoder(own_cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = printed("pretrain", str(run), cache=own_cache)
    assert "40 training and 20 test videos, 10 classes" in first
    assert first.count("train/loss") == 4
    assert re.search(rf"^R@1 \d+\.\d after 20 steps, in {run}$", first, re.MULTILINE)
    again = printed("pretrain", str(run), cache=own_cache)
    assert "train/loss" not in again
    assert again.splitlines()[-1] == first.splitlines()[-1]

    clips = printed("encode_clips", str(run), cache=own_cache).splitlines()
    assert clips[0] == "clips [8, 3, 4, 32, 32] -> features [8, 64]"
    nearest = [line.split(": nearest is ") for line in clips[1:]]
    assert len({name for name, _ in nearest}) == 8
    assert all(name != other and other in dict(nearest) for name, other in nearest)


def test_a_loss_of_one_s_own(own_cache: Path) -> None:
    text = printed("own_loss", cache=own_cache)
    losses = [float(value) for value in re.findall(r"train/loss (\S+)", text)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert text.count("train/spread") == 4
    assert re.search(r"^simsiam: 20 steps, R@5 \d+$", text, re.MULTILINE)


def test_every_example_is_run_here_named_in_the_readme_and_short() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert set(re.findall(r"examples/(\w+)\.py", (EXAMPLES / "README.md").read_text())) == names
    assert set(re.findall(r'printed\("(\w+)"', Path(__file__).read_text())) == names
    for name in names:
        lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
        assert max(map(len, lines)) <= 140
        assert len(lines) <= 60
