"""Tables of results that an earlier version wrote: no number that is false, and a note by the run's
name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_runs import made_up_evaluation, made_up_run, recalls

from vididi.analysis.classifier_curves import training_of
from vididi.analysis.compare import main as compare
from vididi.analysis.own_table import write_results
from vididi.analysis.reading import notes_of, read_run

HITS, LABELS = [0, 3, 4, 4], [0, 1, 2, 2]  # 4 gallery videos, none of them of class 2
FALSE = recalls(HITS)


def as_old(folder: Path, **changes: Any) -> None:
    """The result as an earlier version wrote it, with its queries."""
    path = folder / "result.json"
    result = json.loads(path.read_text())
    del result["rules"]
    path.write_text(json.dumps({**result, **changes}))
    columns = {"video_id": [f"v{i}" for i in range(4)], "label": LABELS, "first_hit": HITS}
    pq.write_table(pa.table(columns), folder / "queries.parquet")


def old_run(root: Path, label: str = "A", seed: int = 0) -> Path:
    """Two batches of 2 of the 3 videos that are long enough to train on; the gallery has the fourth
    too.
    """
    folder = made_up_run(root, {"training.epochs": 2, "training.batch_size": 2}, FALSE, seed, label)
    as_old(folder, steps=2, videos_dropped_per_epoch=1, videos_too_short=["v9"])
    return folder


def test_a_run_s_own_recall_is_computed_again_with_its_interval(tmp_path: Path) -> None:
    run = read_run(old_run(tmp_path))
    (own,) = run.measurements
    assert own.metrics == {"retrieval/R@1": 0.25, "retrieval/R@5": 0.5, "retrieval/R@10": 0.5}
    scores = own.scores("retrieval/R@5")
    assert scores is not None
    assert scores[1].tolist() == [1, 1, 0, 0]
    markdown = write_results([run.folder], tmp_path)
    assert "| 50.0" in markdown
    assert (
        f"{run.folder.name}: retrieval/R@5 is 0.500, not the 1.000 of its result.json" in markdown
    )


def test_a_comparison_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("A", "B"):
        old_run(tmp_path, label)
    assert compare(["A", "B", "--runs", str(tmp_path), "--metric", "retrieval/R@5"]) == 0
    said = capsys.readouterr().out
    assert "A 50.0, B 50.0" in said
    assert "run-1: retrieval/R@5 is 0.500, not the 1.000" in said


@pytest.mark.parametrize("features", [True, False])
def test_recall_on_other_data_needs_the_features_that_were_kept(
    features: bool, tmp_path: Path
) -> None:
    run = made_up_run(tmp_path, {}, {})
    folder = made_up_evaluation(run, "retrieval", "hmdb51", FALSE, untrained=FALSE)
    as_old(folder)
    if features:
        pq.write_table(
            pa.table({"split": ["train"] * 4 + ["test"] * 4}), folder / "features.parquet"
        )
    measured = read_run(run).measurements[1]
    right = {
        "retrieval/R@1": 0.25,
        **({"retrieval/R@5": 0.5, "retrieval/R@10": 0.5} if features else {}),
    }
    assert (measured.metrics, measured.untrained) == (right, right)
    assert all(
        note.startswith(f"run-0, {folder.name}: retrieval/R@") for note in notes_of([read_run(run)])
    )


def test_an_accuracy_after_a_loss_that_was_not_finite_is_no_number_of_a_table(
    tmp_path: Path,
) -> None:
    run = made_up_run(tmp_path, {}, {})
    folder = made_up_evaluation(
        run, "finetune", "ucf101", {"finetune/top1": 1.0}, per_class={"a": 1.0, "b": 1.0}
    )
    as_old(folder, epochs=[{"epoch": 1, "loss": float("nan")}])
    measured = read_run(run).measurements[1]
    assert (measured.value("finetune/top1"), measured.value("finetune/top1/a")) == (None, None)
    assert training_of(read_run(run), "finetune", None) is None
    assert "finetune/top1 is left out: a loss was not finite" in write_results([run], tmp_path)


def test_what_a_new_result_says_stays(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path, {"training.batch_size": 2}, recalls([0, 3, 10**9, 10**9]))
    hits = pa.array([0, 3, None, None], pa.int64())
    pq.write_table(
        pa.table({"video_id": list("abcd"), "label": LABELS, "first_hit": hits}),
        folder / "queries.parquet",
    )
    run = read_run(folder)
    scores = run.measurements[0].scores("retrieval/R@10")
    assert scores is not None
    np.testing.assert_array_equal(scores[1], [1, 1, 0, 0])
    assert not notes_of([run])
