"""``vididi embed`` and ``vididi search``, on small videos."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

import vididi
from vididi.cli import main
from vididi.components import resolve
from vididi.config import Component
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.errors import DataError
from vididi.experiment import run_cell
from vididi.feature_files import listed_videos
from vididi.neighbours import MEASURED_BY, kept_features, nearest_rows
from vididi.prepared import ensure_prepared
from vididi.protocols.frozen import features_table
from vididi.runs.run_folder import RunFolder
from vididi.training.context import local_context

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def videos(
    tmp_path_factory: pytest.TempPathFactory,
    write_video: Callable[..., Path],
    moving_bar: Callable[..., NDArray[np.uint8]],
) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for number in range(4):
        write_video(root / "wave" / f"{number}.mp4", moving_bar(14, 32, 48, 60 * number))
    return root


@pytest.fixture(scope="module")
def run(
    make_config: Callable[..., Any], videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ShardSet]:
    values = {"training.batch_size": 2, "training.epochs": 1, "evaluation.protocols": []}
    config = resolve(
        make_config(values).model_copy(
            update={"data": Component(name="folder", videos=str(videos))}
        )
    )
    folder, shards = tmp_path_factory.mktemp("runs") / "run", ensure_prepared(config)
    cell = {"sweep": None, "arm": "a", "label": "a", "axes": {}, "seed": 0}
    with local_context("cpu") as context:
        run_cell(config, cell, folder, shards, local_stream(shards), context)
    return folder, shards


def test_features_and_rejects_are_written_whole(
    run: tuple[Path, ShardSet], videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, shards = run
    encoder = vididi.Encoder.load(folder)
    (tmp_path / "bad.mp4").write_text("no video\n")
    shutil.copy(videos / "wave" / "0.mp4", tmp_path / "copy.mp4")
    paths = [videos, tmp_path / "bad.mp4", tmp_path / "copy.mp4"]
    asked = ["embed", str(folder), *map(str, paths), "--workers", "1", "--in", str(shards.root)]
    out = tmp_path / "new" / "features.parquet"
    assert main([*asked, "--out", str(out)]) == 3
    said = capsys.readouterr().out
    assert f"{out}: 5 videos, 16 features each; 5 of them are in {shards.root}\n" in said
    assert f"{out}.rejects.csv says why 1 was rejected" in said

    table = pq.read_table(out)
    names = [str(videos / "wave" / f"{n}.mp4") for n in range(4)] + [str(tmp_path / "copy.mp4")]
    assert table.column("path").to_pylist() == names
    ids = shards.column("video_id").tolist()
    assert [ids[row] for row in table.column("row").to_pylist()] == [
        *(f"wave/{n}.mp4" for n in range(4)),
        "wave/0.mp4",
    ]
    for name, feature in zip(names, table.column("features").to_pylist(), strict=True):
        np.testing.assert_allclose(feature, encoder.embed(name, shards), rtol=1e-5, atol=1e-7)
    with (tmp_path / "new" / "features.parquet.rejects.csv").open() as file:
        (reject,) = csv.DictReader(file)
    assert reject["path"] == str(tmp_path / "bad.mp4")
    assert reject["reason"].startswith("text, no video")


def test_npy_and_csv_have_the_same_features(
    run: tuple[Path, ShardSet], videos: Path, tmp_path: Path
) -> None:
    file = Path(shutil.copy(run[0] / "encoder.safetensors", tmp_path / "e.safetensors"))
    (tmp_path / "list.txt").write_text(f"{videos}/wave/2.mp4\n\n{videos}/wave/1.mp4\n")
    asked = ["embed", str(file), str(tmp_path / "list.txt"), "--workers", "1", "--out"]
    assert main([*asked, str(tmp_path / "f.npy")]) == 0
    assert main([*asked, str(tmp_path / "f.csv")]) == 0
    features = np.load(tmp_path / "f.npy")
    assert features.shape == (2, 16)
    assert features.dtype == np.float32
    names = [f"{videos}/wave/2.mp4", f"{videos}/wave/1.mp4"]
    assert (tmp_path / "f.npy.txt").read_text().split() == names
    with (tmp_path / "f.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [row["path"] for row in rows] == names
    assert [row["row"] for row in rows] == ["", ""]
    values = np.array([[row[f"f{n}"] for n in range(16)] for row in rows], np.float32)
    np.testing.assert_array_equal(values, features)
    expected = [vididi.Encoder.load(file).embed(name) for name in names]
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-7)


def test_nothing_to_embed_is_an_error_that_names_the_first(
    run: tuple[Path, ShardSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["embed", str(run[0]), str(tmp_path / "none.mp4"), "--workers", "1", "--out"]
    assert main([*asked, str(tmp_path / "f.npy")]) == 1
    said = capsys.readouterr().err
    assert "none of 1 video could be embedded; the first: " in said
    assert "missing: no such file" in said
    assert main([*asked, str(tmp_path / "f.txt")]) == 2
    assert "it must end in .parquet, .npy, .csv" in capsys.readouterr().err
    assert main([*asked, str(tmp_path / "f.npy"), "--timeout", "0"]) == 2
    assert "--timeout: 0 is not valid; it must be above 0" in capsys.readouterr().err


def test_paths_are_files_folders_and_lists(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    for name in ("d/b.mp4", "d/a.avi", "d/e/c.mkv", "d/x.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / "l.csv").write_text("label,path\n1,d/b.mp4\n2,z.mp4\n")
    found, notes = listed_videos([tmp_path / "q.mp4", tmp_path / "l.csv", tmp_path / "d"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "q.mp4",
        "d/b.mp4",
        "z.mp4",
        "d/a.avi",
        "d/e/c.mkv",
    ]
    assert notes == ["1 file is no video by its suffix: 1 .md"]
    (tmp_path / "l.csv").write_text("label,file\n1,a\n")
    with pytest.raises(DataError, match="has the columns label, file; one must be path"):
        listed_videos([tmp_path / "l.csv"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no videos"):
        listed_videos([tmp_path / "empty"])


def test_search_prints_the_nearest_and_draws_them(
    run: tuple[Path, ShardSet], videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, shards = run
    sheet, query = tmp_path / "s" / "sheet.png", str(videos / "wave" / "1.mp4")
    asked = ["search", str(folder), query, "--in", str(shards.root)]
    assert main([*asked, "--out", str(sheet)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"{query} is wave/1.mp4 of the set, which is left out"
    encoder = vididi.Encoder.load(folder)
    one = encoder.embed(query, shards)
    others = {n: encoder.embed(videos / "wave" / f"{n}.mp4", shards) for n in (0, 2, 3)}
    cosines = {
        n: float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
        for n, other in others.items()
    }
    best = sorted(cosines, key=lambda n: -cosines[n])
    expected = [f"wave/{n}.mp4" for n in best]
    assert [line.split()[2] for line in lines[:3]] == expected
    assert float(lines[0].split()[1]) == pytest.approx(cosines[best[0]], abs=1e-4)
    with Image.open(sheet) as picture:
        assert lines[3] == f"{sheet}: {picture.width} x {picture.height} pixels"
        assert picture.height == 4 * (16 + 96 + 4) + 4
        pixels = np.asarray(picture.convert("RGB"))
    assert (pixels[24:100, 8:140] != 255).any(axis=2).mean() > 0.9  # the query's first frame
    assert main([*asked, "--top", "0"]) == 2
    assert "--top: 0 is not valid; it must be at least 1" in capsys.readouterr().err


def test_search_takes_features_that_an_evaluation_kept(
    run: tuple[Path, ShardSet], videos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, shards = Path(shutil.copytree(run[0], tmp_path / "run")), run[1]
    encoder = vididi.Encoder.load(folder)
    assert kept_features(folder, encoder.description, shards) is None
    rows = np.arange(len(shards.index))
    table = features_table(shards, rows, encoder.embed_rows(shards, rows))
    settings = {name: encoder.description["spec"][name] for name in MEASURED_BY}
    kept = RunFolder(folder / "evaluations" / "retrieval-folder-x")
    kept.path.mkdir(parents=True)
    kept.save_features(table)
    data = {"name": "folder", "checksum": shards.manifest.checksum}
    result = {"protocol": "retrieval", "recipe": None, "data": data, "metrics": {}}
    kept.save_result({**result, "settings": {**settings, "seed": 5}})
    assert kept_features(folder, encoder.description, shards) is None  # other crops
    kept.save_result({**result, "settings": settings, "data": {**data, "checksum": "no"}})
    assert kept_features(folder, encoder.description, shards) is None
    kept.save_result({**result, "settings": settings})
    found = kept_features(folder, encoder.description, shards)
    assert found is not None
    np.testing.assert_array_equal(found, encoder.embed_rows(shards, rows))
    monkeypatch.delattr("vididi.encoders.Encoder.embed_rows")
    asked = ["search", str(folder), str(videos / "wave" / "1.mp4"), "--in", str(shards.root)]
    assert main(asked) == 0


def test_nearest_are_by_cosine_and_ties_by_row() -> None:
    gallery = np.array([[1, 0], [0, 2], [3, 0], [1, 1]], np.float32)
    rows, similar = nearest_rows(np.array([2, 0], np.float32), gallery, 3)
    assert rows.tolist() == [0, 2, 3]
    np.testing.assert_allclose(similar, [1, 1, 0.5**0.5])
    assert nearest_rows(np.array([2, 0], np.float32), gallery, 3, 0)[0].tolist() == [2, 3, 1]


@pytest.mark.parametrize("command", ["embed", "search"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"example: vididi {command} " in capsys.readouterr().out
