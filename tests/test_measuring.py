"""A few steps of a configuration, measured: what is counted, with made-up clocks, and on made-up
videos.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vididi.config import Config
from vididi.data.shards import ShardSet
from vididi.errors import DataError
from vididi.measuring import (
    BATCHES,
    STEPS,
    MadeUpSet,
    MadeUpVideos,
    measure_run,
    peak_memory,
    random_stream,
    timed,
    work_of,
)
from vididi.plans import make_plans

MakeConfig = Callable[..., Config]
MADE_UP = MadeUpVideos(
    [f"{i:06d}" for i in range(36)],
    ["train"] * 24 + ["test"] * 12,
    ["b", "a", "c"] * 12,
    [24, 30],
    [(16, 20), (16, 24)],
)


def test_the_first_act_is_not_counted_unless_it_is_the_only_one() -> None:
    clock = itertools.accumulate([1.0] * 100).__next__
    done: list[int] = []
    assert timed(lambda: done.append(1), 4, 50.0, clock) == (1, 1, 1)
    assert len(done) == 4
    assert timed(lambda: done.append(1), 1, 50.0, clock) == (1,)
    assert timed(lambda: done.append(1), 0, 50.0, clock) == ()


def test_no_act_is_begun_when_the_time_is_up() -> None:
    ticks = itertools.accumulate([10.0] * 100).__next__
    assert timed(lambda: None, 9, 5.0, ticks) == (10,)
    assert timed(lambda: None, 9, 50.0, ticks) == (10,)  # begun at 0 and 20, not at 50


def test_a_run_does_what_its_plans_say(make_config: MakeConfig, tiny_shards: ShardSet) -> None:
    def work(**changes: Any) -> tuple[int, int, int, int]:
        config = make_config({key.replace("__", "."): value for key, value in changes.items()})
        found = work_of(config, make_plans(config, tiny_shards))
        return (found.epochs, found.steps, found.clips, found.checkpoints)

    assert work() == (3, 9, 36 * 2, 3)
    assert work(evaluation__untrained=True) == (3, 9, 2 * 36 * 2, 3)
    assert work(evaluation__protocols=[]) == (3, 9, 0, 3)
    assert work(evaluation__batch_norm="recomputed") == (3, 9, 36 * 2 + 24, 3)
    every = {"every": 2, "train": 10, "test": 5}
    online = {f"evaluation__online__{key}": value for key, value in every.items()}
    assert work(**online) == (3, 9, 36 * 2 + 15, 3)
    assert work(training__checkpoint_epochs=2) == (3, 9, 72, 2)
    assert work(training__checkpoint_steps=4) == (3, 9, 72, 5)
    assert work(training__epochs=0) == (0, 0, 72, 0)


def test_made_up_videos_are_planned_as_prepared_ones(make_config: MakeConfig) -> None:
    made = MadeUpSet.of(MADE_UP)
    assert made.manifest.classes == ["a", "b", "c"]
    assert made.column("label")[:3].tolist() == [1, 0, 2]
    assert made.column("frame_count")[:3].tolist() == [24, 30, 24]
    plans = make_plans(make_config(), made)
    assert (len(plans.pretrain), len(plans.evaluation.rows)) == (9, 36)
    batch = next(random_stream(made)(plans.pretrain, 0))
    assert batch.clips.shape == (8, 2, 6, 16, 24, 3)
    assert np.ptp(batch.clips) > 200
    with pytest.raises(DataError, match="batch_size: 25 is larger than the training split"):
        make_plans(make_config({"training.batch_size": 25}), made)


@pytest.mark.usefixtures("one_thread")
def test_a_configuration_is_measured_on_random_clips(make_config: MakeConfig) -> None:
    values = make_config().to_dict()
    measured = measure_run(values, MADE_UP, gpu=False, workers=1, began=time.time())
    assert len(measured.steps) == STEPS
    assert len(measured.clips) == BATCHES
    assert min(*measured.steps, *measured.clips, measured.checkpoint, measured.start) > 0
    assert measured.memory > 50e6
    assert measured.gpu_memory == 0
    assert measured.folder_bytes == measured.run_bytes + 3 * measured.epoch_bytes
    assert measured.epoch_bytes > 100
    assert measured.run_bytes > measured.checkpoint_bytes > 10_000
    assert measured.working_bytes == 2 * measured.checkpoint_bytes
    half = measure_run(values, MADE_UP, gpu=False, workers=2, began=time.time())
    assert half.work.steps == measured.work.steps
    assert half.work.clips == measured.work.clips / 2


def test_the_memory_of_this_process_grows_with_what_it_holds() -> None:
    before = peak_memory()
    held = np.ones(before // 8 + 10**7)  # as much again
    assert peak_memory() > before + held.nbytes // 2
