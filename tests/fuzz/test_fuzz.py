"""Damaged files of every kind that vididi reads: each is taken, or refused by a message that names
it. No traceback, no program started, nothing written outside, in bounded time and memory.

FUZZ=N takes N files of each kind instead of a few (`make fuzz N=500`); FUZZ_SEED begins elsewhere.
A failure names its seed; FUZZ_SEED=that FUZZ=1 repeats it.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from damage import damaged
from made_up_ava import made_up_ava
from made_up_machines import put
from watched import watched

from vididi.cli import main
from vididi.data.encode import Encoded, Reject, Settings, encode_video
from vididi.data.sources import SOURCES
from vididi.data.stream import local_stream
from vididi.data.video import Video
from vididi.data.workers import run_apart
from vididi.errors import VididiError
from vididi.evaluation.ava_files import read_proposals
from vididi.experiment import run_cell
from vididi.training.context import LocalContext

REPO = Path(__file__).resolve().parents[2]
COUNT, FIRST = int(os.environ.get("FUZZ", "12")), int(os.environ.get("FUZZ_SEED", "0"))
CPU_S = 60.0  # of one file; a slow machine takes a few
GROWTH = 1 << 30  # bytes of memory over all files of a kind
TEXT = (".yaml", ".json", ".jsonl", ".txt", ".csv", ".align", ".pbtxt", ".journal")
FINISHED = REPO / "tests" / "analysis" / "frozen_sweep" / "every"

pytestmark = pytest.mark.usefixtures("one_thread")
Look = Callable[[Path, Path], str]


def try_all(
    kind: str, whole: Path, names: str, look: Look, place: Path, count: int = COUNT
) -> None:
    """Damage one of the files of ``whole`` that fit ``names`` at a time, and have a look.

    Args:
        look: is given the folder with the damaged file, and the file; returns what it said of it,
            which is empty where it took it.
    """
    files = sorted(path.relative_to(whole) for path in whole.rglob(names) if path.is_file())
    assert files
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused, of_keys = 0, kind in ("sweep file", "configuration")
    for number in range(FIRST, FIRST + count):
        rng = np.random.default_rng([crc32(kind.encode()), number])
        name, folder = files[rng.integers(len(files))], place / "now" / whole.name
        shutil.rmtree(place / "now", ignore_errors=True)
        shutil.copytree(whole, folder)
        file = folder / name
        file.write_bytes(damaged(file.read_bytes(), rng, file.suffix in TEXT))
        about = f"{kind}: seed {number}: {name}"
        began = time.process_time()
        with watched(place) as seen:
            said = look(folder, file)
        assert not seen, f"{about}: {seen}"
        assert "Traceback" not in said, f"{about}: {said}"
        assert "fault of the program" not in said, f"{about}: {said}"
        assert time.process_time() - began < CPU_S, about
        if said:
            refused += 1
            named = (file.name, name.stem, folder.name)
            if not any(part in said for part in named):
                # The one file that was typed may be left unsaid where the key in it is named.
                assert of_keys, f"{about}: no file in {said}"
                assert re.match(r"error: [^:]+:\s", said), (
                    f"{about}: neither file nor key in {said}"
                )
    assert refused, "nothing was refused: was anything damaged?"
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < GROWTH, f"{kind}: {grown} bytes"


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Any]:
    """``command("check", path)``: what it says where it ends badly; empty where it ends well."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where an unforeseen error is kept

    def run(*arguments: object) -> str:
        try:
            status = main([*map(str, arguments)])
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        out, err = capsys.readouterr()
        return f"{out}{err}" if status else ""

    return run


def raised(read: Callable[[], object]) -> str:
    """What a reader refuses, in words; empty where it takes the file."""
    try:
        read()
    except VididiError as error:
        return str(error) or "nothing"
    return ""


def test_sweep_files(command: Any, tmp_path: Path) -> None:
    whole = tmp_path / "sweeps"
    whole.mkdir()
    for name in ("ablation.yaml", "smoke.yaml", "search.yaml", "frameworks.yaml", "grid.yaml"):
        if (REPO / "sweeps" / name).is_file():
            shutil.copy(REPO / "sweeps" / name, whole)
    look = lambda folder, file: command("sweep", file, "--dry-run", "--shards", folder / "none")  # noqa: E731
    try_all("sweep file", whole, "*.yaml", look, tmp_path)


def test_configurations_of_runs(command: Any, tmp_path: Path, make_config: Any) -> None:
    whole = tmp_path / "configurations"
    whole.mkdir()
    (whole / "config.yaml").write_text(make_config().to_yaml())
    none = tmp_path / "none"

    def look(folder: Path, file: Path) -> str:
        # A configuration that is taken goes on to the data, which are not there.
        said = command("pretrain", file, "--shards", none, "--out", tmp_path / "out")
        return "" if said.startswith("error: --shards: ") else said

    try_all("configuration", whole, "*.yaml", look, tmp_path)


def test_prepared_sets(command: Any, tmp_path: Path, tiny_shards: Any) -> None:
    whole = tmp_path / "prepared"
    shutil.copytree(tiny_shards.root, whole)
    try_all("prepared set", whole, "*", lambda folder, _: command("check", folder), tmp_path)


def test_run_folders(command: Any, tmp_path: Path) -> None:
    def look(folder: Path, file: Path) -> str:
        said = command("table", folder, "--out", tmp_path / "tables")
        said += command("table", "vididi_table_6", folder, "--out", tmp_path / "tables")
        return said + command("compare", "base", "vididi", "--runs", folder)

    try_all("run folder", FINISHED, "*.*", look, tmp_path)


@pytest.fixture(scope="module")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory, make_config: Any, tiny_shards: Any
) -> Path:
    config, folder = (
        make_config({"training.epochs": 1}),
        tmp_path_factory.mktemp("runs") / "base-s0",
    )
    run_cell(
        config, {"arm": "base"}, folder, tiny_shards, local_stream(tiny_shards), LocalContext()
    )
    return folder


def test_encoders_and_checkpoints(command: Any, tmp_path: Path, finished_run: Path) -> None:
    def look(folder: Path, file: Path) -> str:
        return command(
            "export", folder, "--format", "safetensors", "--out", tmp_path / "now" / "exported"
        )

    try_all("encoder", finished_run, "encoder.safetensors", look, tmp_path)


def test_lists_of_data_sets(tmp_path: Path) -> None:
    whole = tmp_path / "ucf"
    for split in ("train", "test"):
        lines = []
        for class_name in ("Jump", "Wave"):
            (whole / "videos" / class_name).mkdir(parents=True, exist_ok=True)
            for take in (1, 2):
                name = f"v_{class_name}_g0{take if split == 'train' else take + 4}_c01.avi"
                (whole / "videos" / class_name / name).write_bytes(b"never decoded")
                lines.append(
                    f"{class_name}/{name}"
                    + (f" {1 + (class_name == 'Wave')}" if split == "train" else "")
                )
        (whole / "lists").mkdir(exist_ok=True)
        (whole / "lists" / f"{split}list01.txt").write_text("\n".join(lines) + "\n")
    (whole / "lists" / "classInd.txt").write_text("1 Jump\n2 Wave\n")

    def look(folder: Path, file: Path) -> str:
        return raised(
            lambda: SOURCES["ucf101"](tmp_path, videos=folder / "videos", splits=folder / "lists")
        )

    try_all("lists", whole, "*.txt", look, tmp_path, 5 * COUNT)


def test_lists_of_one_s_own(tmp_path: Path) -> None:
    whole = tmp_path / "own"
    (whole / "clips").mkdir(parents=True)
    rows = ["path,label,split,group"]
    for number in range(8):
        (whole / "clips" / f"{number}.mp4").write_bytes(b"never decoded")
        rows.append(
            f"{number}.mp4,{'jump' if number % 2 else 'wave'},{'test' if number > 5 else 'train'},g{number}"
        )
    (whole / "list.csv").write_text("\n".join(rows) + "\n")

    def look(folder: Path, file: Path) -> str:
        return raised(lambda: SOURCES["csv"](tmp_path, videos=folder / "clips", list=file))

    try_all("csv", whole, "list.csv", look, tmp_path, 5 * COUNT)


@pytest.fixture(scope="module")
def ava(tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]) -> Path:
    place = tmp_path_factory.mktemp("ava")
    made_up_ava(place, write_video, {"train": 1, "val": 1}, range(902, 906))
    with (place / "lists" / "ava_val_v2.2.csv").open() as lines:
        boxes = [f"{line.strip().rpartition(',')[0]},0.9\n" for line in lines]
    (place / "lists" / "boxes.csv").write_text("".join(boxes))
    return place


def test_annotations(tmp_path: Path, ava: Path) -> None:
    films = next(path.parent for path in ava.rglob("train0.*"))

    def look(folder: Path, file: Path) -> str:
        if file.name == "boxes.csv":
            return raised(lambda: read_proposals(file, 0.5))
        return raised(lambda: SOURCES["ava"](tmp_path, videos=films, splits=folder))

    try_all("annotations", ava / "lists", "*", look, tmp_path, 5 * COUNT)


def test_videos(
    tmp_path: Path, write_video: Callable[..., Path], moving_bar: Callable[..., Any]
) -> None:
    """Decoders are C: each file is read in a process of its own, as `vididi prepare` does."""
    whole = write_video(tmp_path / "whole.mp4", moving_bar(24, 48, 64)).read_bytes()
    videos = []
    for number in range(FIRST, FIRST + 2 * COUNT):
        rng = np.random.default_rng([crc32(b"video"), number])
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(damaged(whole, rng, text=False))
        videos.append(Video(path, path.name, "jump", "train"))
    read: Iterator[Any] = run_apart(encode, videos, 2, CPU_S)
    outcomes = dict(zip(videos, read, strict=True))
    for video, outcome in outcomes.items():
        if isinstance(outcome, Encoded):
            assert all(frame[:2] == b"\xff\xd8" for frame in outcome.frames)
        elif isinstance(outcome, Reject):
            assert (outcome.path, bool(outcome.reason)) == (str(video.path), True)
        else:  # its process died or hung, which costs it alone and is said of it
            assert outcome.reason, video
    assert any(isinstance(outcome, Reject) for outcome in outcomes.values())
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4"}


def encode(video: Video) -> Encoded | Reject:
    return encode_video(video, Settings(short_side=24, quality=80))


def test_journals_of_searches(tmp_path: Path) -> None:
    from tests.cluster.test_search_study import Place

    space = {"order": {"choice": [0, 1]}, "x": {"uniform": [0, 1]}}
    whole = tmp_path / "search"
    Place(whole, trials=4, space=space).run_all()

    def look(folder: Path, file: Path) -> str:
        def search() -> None:
            place = Place(folder, trials=4, space=space)
            place.study.best(3)

        return raised(search)

    try_all("journal", whole, "study.journal", look, tmp_path, 2 * COUNT)


def test_runs_in_a_store(
    command: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each damaged file is put into a bucket, and read by a machine that has nothing of it yet."""
    whole, numbers = FINISHED, iter(range(10**6))

    def look(folder: Path, file: Path) -> str:
        runs, machine = f"{bucket}/{next(numbers)}/{folder.name}", tmp_path / "now" / "machine"
        monkeypatch.setenv("VIDIDI_CACHE", str(machine))
        for path in folder.rglob("*"):
            if path.is_file():
                put(f"{runs}/{path.relative_to(folder)}", path.read_bytes())
        said = command("table", runs, "--out", tmp_path / "tables")
        return said + command("compare", "base", "vididi", "--runs", runs)

    try_all("run folder in a store", whole, "*.*", look, tmp_path)
