"""t-SNE of the best-retrieved classes, from what evaluations keep."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_runs import made_up_evaluation, made_up_run
from PIL import Image

from vididi.analysis.plots import runs_in, titles
from vididi.analysis.reading import read_run
from vididi.analysis.tsne import common_evaluation, main, make_panel, read_features, tsne
from vididi.errors import ConfigError
from vididi.evaluation.silhouette import silhouette

EACH = 12  # test videos of a class, and as many training videos
NAMES = ["zero", "one", "two", "three"]


def run_with_features(
    root: Path,
    label: str = "A",
    best: tuple[int, ...] = (2, 0, 3, 1),
    checksum: str = "videos",
    seed: int = 0,
) -> Path:
    """A run whose evaluation kept features: the classes lie apart, and are retrieved the better the
    earlier in ``best``.
    """
    run = made_up_run(root, {}, {}, seed, label)
    folder = made_up_evaluation(
        run, "retrieval", "motion", {"retrieval/R@1": 0.5}, checksum=checksum, settings={"clips": 2}
    )
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(best)), 2 * EACH)
    features = (4 * np.eye(8)[labels] + rng.normal(size=(len(labels), 8))).astype(np.float32)
    test = np.tile(np.repeat([True, False], EACH), len(best))
    columns = {
        "video_id": [f"v{i}" for i in range(len(labels))],
        "label": labels,
        "class": [NAMES[label] for label in labels],
        "split": np.where(test, "test", "train"),
        "features": pa.FixedSizeListArray.from_arrays(features.ravel(), 8),
    }
    pq.write_table(pa.table(columns), folder / "features.parquet")
    right = {label: EACH - place for place, label in enumerate(best)}
    hits = np.concatenate(
        [[0] * right[label] + [5] * (EACH - right[label]) for label in range(len(best))]
    )
    queries = {
        "video_id": [f"v{i}" for i in np.flatnonzero(test)],
        "label": labels[test],
        "first_hit": hits,
    }
    pq.write_table(pa.table(queries), folder / "queries.parquet")
    return run


@pytest.mark.parametrize("split", ["test", "train"])
def test_the_classes_are_those_that_this_model_retrieves_best(tmp_path: Path, split: str) -> None:
    run = read_run(run_with_features(tmp_path))
    known = read_features(run, common_evaluation([run]))
    panel = make_panel("A", known, 2, split, seed=0)
    assert panel.order == ["two", "zero"]
    assert sorted(panel.classes) == ["two"] * EACH + ["zero"] * EACH
    chosen = np.isin(known.labels, [2, 0]) & (known.splits == split)
    assert panel.silhouette == silhouette(known.features[chosen], known.labels[chosen])
    assert panel.positions.shape == (2 * EACH, 2)


def test_classes_that_lie_apart_lie_apart_in_the_plane() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    features = (20 * np.eye(6)[labels] + rng.normal(size=(60, 6))).astype(np.float32)
    assert silhouette(tsne(features, 0), labels) > 0.5


def test_runs_stand_side_by_side_and_the_same_runs_give_the_same_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = run_with_features(tmp_path / "runs", "Base")
    other = run_with_features(tmp_path / "runs", "ViDiDi", (3, 1, 0, 2), seed=1)
    out = tmp_path / "new" / "tsne.png"
    assert main([str(base), str(other), "--classes", "2", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"wrote {out}" in told
    assert "Base: silhouette 0." in told
    assert told.index("of two, zero") < told.index("of three, one")
    first = out.read_bytes()
    with Image.open(out) as image:
        wide = image.width
    assert main([str(base), str(other), "--classes", "2", "--out", str(out)]) == 0
    assert out.read_bytes() == first
    assert main([str(base), "--classes", "2", "--out", str(out)]) == 0
    with Image.open(out) as image:
        assert image.width * 2 == wide


def test_it_is_drawn_without_torch_and_ray(tmp_path: Path) -> None:
    arguments = [
        str(run_with_features(tmp_path)),
        "--classes",
        "2",
        "--out",
        str(tmp_path / "a.png"),
    ]
    code = (
        f"import sys; from vididi.analysis.tsne import main; main({arguments}); sys.exit('torch' in"
        " sys.modules or 'ray' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False
        ).returncode
        == 0
    )
    assert (tmp_path / "a.png").is_file()


def test_a_collapsed_encoder_is_named(tmp_path: Path) -> None:
    run = read_run(run_with_features(tmp_path))
    known = read_features(run, common_evaluation([run]))
    with pytest.raises(ConfigError, match="A: every video has the same feature"):
        make_panel("A", replace(known, features=np.ones_like(known.features)), 2, "test", 0)


def test_seeds_are_named_where_labels_repeat(tmp_path: Path) -> None:
    runs = [
        run_with_features(tmp_path, label, seed=seed)
        for label, seed in (("A", 0), ("A", 1), ("B", 0))
    ]
    assert titles([read_run(run) for run in runs]) == ["A, seed 0", "A, seed 1", "B"]
    assert runs_in([tmp_path, runs[0]]) == runs


def keep_at_the_end(run: Path) -> None:
    """Move what the run's evaluation kept to where a run keeps what it measured at its end."""
    (evaluation,) = (run / "evaluations").iterdir()
    for name in ("features.parquet", "queries.parquet"):
        (evaluation / name).rename(run / name)
    (evaluation / "result.json").unlink()


def test_a_sweep_s_own_runs_are_drawn_without_a_further_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, seed in (("Base", 0), ("ViDiDi", 1)):
        keep_at_the_end(run_with_features(tmp_path / "sweep", label, seed=seed))
    out = tmp_path / "a.png"
    assert main([str(tmp_path / "sweep"), "--classes", "2", "--out", str(out)]) == 0
    assert "ViDiDi: silhouette" in capsys.readouterr().out
    assert out.is_file()


def test_what_was_evaluated_later_comes_before_what_a_run_kept(tmp_path: Path) -> None:
    folder = run_with_features(tmp_path)
    for name in ("features.parquet", "queries.parquet"):
        (folder / name).write_bytes((folder / "evaluations/retrieval-0" / name).read_bytes())
    run = read_run(folder)
    assert common_evaluation([run]) == "retrieval-0"
    assert read_features(run, "run").features.shape == (4 * 2 * EACH, 8)


def fault(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([*map(str, arguments), "--out", "x.png"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_faults_are_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = made_up_run(tmp_path / "bare", {}, {})
    assert f"no features; `vididi evaluate retrieval {bare}` makes them" in fault(capsys, bare)
    run = run_with_features(tmp_path / "one")
    assert "--classes: 5 is not valid; the test videos have 4 classes" in fault(capsys, run)
    assert "--classes: 1 is not valid" in fault(capsys, run, "--classes", 1)
    assert "no features of evaluation 'none'; it has retrieval-0" in fault(
        capsys, run, "--evaluation", "none"
    )
    assert "there is no such folder" in fault(capsys, tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "no runs in it" in fault(capsys, tmp_path / "empty")


def test_evaluations_on_other_videos_must_be_chosen_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_features(tmp_path)
    other = made_up_evaluation(
        run, "retrieval", "hmdb51", {}, checksum="others", settings={"clips": 2}
    )
    for name in ("features.parquet", "queries.parquet"):
        (other / name).write_bytes((run / "evaluations" / "retrieval-0" / name).read_bytes())
    assert "--evaluation: must say which, as there are retrieval-0, retrieval-1" in fault(
        capsys, run
    )
    assert (
        main(
            [
                str(run),
                "--classes",
                "2",
                "--evaluation",
                other.name,
                "--out",
                str(tmp_path / "a.png"),
            ]
        )
        == 0
    )
