"""The mistakes that users make, command by command: each is answered by one message that has the
user's words and says what is allowed or what to do, and by no traceback.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from vididi.cli import main
from vididi.description import KEY

FINISHED = Path(__file__).resolve().parents[1] / "analysis" / "frozen_sweep" / "every"
DEFINITION = FINISHED.parents[3] / "docs" / "results" / "results.yaml"
# Kinds of mistakes: of each its command lines, with the exit status and what must be said. ``nowhere``
# is no path, ``empty`` an empty folder, ``file`` a file, ``half`` a run that is not finished.
MISTAKES: dict[str, list[tuple[str, int, tuple[str, ...]]]] = {
    "a wrong path": [
        ("prepare folder --videos nowhere --out new", 1, ("--videos:", "nowhere", "folder")),
        ("prepare folder --set videos=nowhere --out new", 1, ("data.videos:", "nowhere")),
        ("prepare csv --videos clips --list nowhere --out new", 1, ("--list:", "nowhere")),
        ("split nowhere --test-share 0.2 --out new.csv", 1, ("VIDEOS:", "nowhere", "folder")),
        ("split clips --list nowhere --test-share 0.2 --out new.csv", 1, ("--list:", "nowhere")),
        ("check nowhere", 1, ("nowhere", "no manifest.json", "vididi prepare")),
        ("show nowhere --video a --out a.png", 1, ("nowhere", "vididi prepare")),
        ("show shards --video none --out a.png", 2, ("--video: 'none'", "36 videos")),
        ("show shards --video a --out a.png --config nowhere", 2, ("nowhere: No such file",)),
        ("doctor --data nowhere", 1, ("nowhere",)),
        ("pretrain nowhere.yaml --out new", 2, ("nowhere.yaml: No such file",)),
        ("evaluate retrieval nowhere", 1, ("nowhere",)),
        ("embed nowhere clips --out a.csv", 1, ("nowhere: no encoder.safetensors", "status")),
        ("export nowhere --format onnx --out new", 1, ("nowhere: no encoder.safetensors",)),
        ("search nowhere clips/jump/a.mp4 --in shards", 1, ("nowhere: no encoder.safetensors",)),
        ("sweep nowhere.yaml", 2, ("nowhere.yaml: No such file",)),
        ("sweep swep.yaml", 2, ("swep.yaml: No such file", "near ones: sweep.yaml")),
        ("status ablatoin", 2, ("ablatoin: No such file", "ablation")),
        ("sweep sweep.yaml --shards nowhere --dry-run", 0, ("problem:", "nowhere")),
        ("sweep sweep.yaml --shards nowhere", 2, ("--shards:", "nowhere", "vididi prepare")),
        ("pretrain tiny.yaml --shards nowhere --out new", 1, ("--shards:", "vididi prepare")),
        ("status nowhere.yaml", 2, ("nowhere.yaml: No such file",)),
        ("extend nowhere.yaml --seeds 3", 2, ("nowhere.yaml: No such file",)),
        ("rerun nowhere.yaml --failed", 2, ("nowhere.yaml: No such file",)),
        ("table vididi_table_6 nowhere", 2, ("nowhere: there is no such folder", "runs/")),
        ("table nowhere", 2, ("nowhere: there is no such folder", "vididi table --list")),
        ("compare base vididi --runs nowhere", 2, ("nowhere (--runs)", "no finished run")),
        ("results --from-records --definition nowhere.yaml", 2, ("nowhere.yaml",)),
        ("plot curves nowhere --out a.png", 2, ("nowhere: there is no such folder",)),
        ("plot clip nowhere --video a --runs runs --out a.png", 2, ("nowhere", "vididi prepare")),
    ],
    "an empty folder": [
        ("prepare folder --videos empty --out new", 1, ("no video files", "empty", ".mp4")),
        ("split empty --test-share 0.2 --out new.csv", 1, ("no video files", "empty", ".mp4")),
        ("check empty", 1, ("empty", "vididi prepare")),
        ("evaluate retrieval empty", 1, ("empty",)),
        ("sweep sweep.yaml --shards empty", 2, ("--shards:", "empty", "vididi prepare")),
        ("embed empty clips --out a.csv", 1, ("empty: no encoder.safetensors",)),
        ("table empty", 1, ("empty: there is no finished run", "vididi status")),
        ("plot curves empty --out a.png", 2, ("empty: no runs in it",)),
    ],
    "a slip in a key": [
        ("prepare motion --out new --set trian=3", 2, ("data.trian", "did you mean 'train'?")),
        ("config clip.strides", 2, ("clip.strides", "did you mean 'clip.stride'?")),
        ("pretrain tiny.yaml --out new --set training.epoch=3", 2, ("did you mean 'epochs'?",)),
        ("evaluate retrieval runs --set clip=3", 2, ("clip", "did you mean 'clips'?")),
        ("sweep sweep.yaml --set training.epoch=3", 2, ("did you mean 'training.epochs'?",)),
        ("sweeps sweep.yaml", 2, ("'sweeps'", "sweep")),
    ],
    "what there is none of": [
        ("prepare folders --videos clips --out new", 2, ("'folders'", "folder, csv, ucf101")),
        ("show shards --video a --out a.png --augment none", 2, ("augment.name: 'none'", "cvrl")),
        ("pretrain sweep.yaml --out new", 2, ("arms: of a sweep file", "vididi sweep sweep.yaml")),
        ("pretrain tiny.yaml --out new --set backbone.name=r3d_19", 2, ("r3d_19", "r3d_18")),
        ("evaluate retrieve runs", 2, ("'retrieve'", "'retrieval'")),
        ("evaluate linear runs --recipe none", 2, ("'none'", "'cvrl'")),
        ("export half --format onxx --out new", 2, ("'onxx'", "'onnx'")),
        ("sweep sweep.yaml --only vidid", 2, ("vidid", "vididi")),
        ("table vididi_table_66 runs", 2, ("'vididi_table_66'", "vididi_table_6")),
        ("compare none base --runs runs", 2, ("none: is neither an arm", "base")),
        ("compare base vididi --runs runs --metric none", 2, ("none:", "--metric may be")),
        (f"results --from-records --only none --definition {DEFINITION}", 2, ("--only: 'none'",)),
        ("plot curve runs", 2, ("'curve'", "'curves'")),
    ],
    "a value of another kind": [
        ("prepare motion --out new --short-side many", 2, ("--short-side: 'many' is not a whole",)),
        ("prepare motion --out new --set size=many", 2, ("data.size: 'many'",)),
        ("split clips --test-share many --out new.csv", 2, ("--test-share: 'many' is not a numb",)),
        ("split clips --test-share 2 --out new.csv", 2, ("--test-share: 2.0", "below 1")),
        (
            "split clips --test-share 0.2 --group ( --out new.csv",
            2,
            ("--group: '(' is no pattern",),
        ),
        ("show shards --video a --out a.jpg", 2, ("--out: a.jpg must end in .png",)),
        (
            "pretrain tiny.yaml --out new --set training.epochs=many",
            2,
            ("epochs: 'many'", "integer"),
        ),
        ("pretrain file --out new", 2, ("file",)),
        ("evaluate retrieval runs --set clips=many", 2, ("clips: 'many'",)),
        ("embed half clips --out a.txt", 2, ("--out: a.txt", ".parquet, .npy, .csv")),
        ("embed half clips --out a.csv --workers 0", 2, ("--workers: 0",)),
        ("search half clips/jump/a.mp4 --in shards --top 0", 2, ("--top: 0", "at least 1")),
        ("split clips --test-share 0.2 --group (q)z --out new.csv", 1, ("--group: '(q)z' is not",)),
        ("split clips/jump --test-share 0.2 --out new.csv", 1, ("VIDEOS:", "jump")),
        ("split clips --test-share 0.001 --out new.csv", 1, ("--test-share: ",)),
        ("sweep sweep.yaml --set training.epochs=many", 2, ("epochs: 'many'",)),
        ("sweep sweep.yaml --seeds many", 2, ("--seeds many", "--seeds 0,1,2")),
        ("sweep file", 2, ("file",)),
        ("extend sweep.yaml --seeds 0", 2, ("--seeds 0",)),
        ("plot curves runs --out a.txt", 2, ("--out: a.txt must end in",)),
    ],
    "what cannot be written": [
        ("prepare folder --videos clips --out file/new", 1, ("--out:", "file/new")),
        ("split clips --test-share 0.2 --out file/new.csv", 2, ("--out:", "file is not a folder")),
        ("show shards --video FIRST --out file/a.png --size 16", 1, ("--out: file",)),
        ("pretrain tiny.yaml --shards shards --out file/new", 1, ("file",)),
        ("sweep sweep.yaml --shards shards --runs file", 2, ("runs: ", "give --runs a folder")),
        ("table vididi_table_6 runs --out file/new", 1, ("--out: file",)),
        ("plot curves runs --out file/a.png", 1, ("--out: file",)),
    ],
    "a run that is not finished": [
        ("evaluate retrieval half", 1, ("half: no encoder.safetensors", "no finished run")),
        ("embed half clips --out a.csv", 1, ("half: no encoder.safetensors", "vididi status")),
        ("export half --format standalone --out new", 1, ("half: no encoder.safetensors",)),
        ("search half clips/jump/a.mp4 --in shards", 1, ("half: no encoder.safetensors",)),
        ("table half", 1, ("half: there is no finished run", "vididi status")),
        ("compare base vididi --runs half", 2, ("half", "no finished run")),
    ],
    "another version's": [
        ("embed other.safetensors clips --out a.csv", 1, ("other.safetensors", "format", "99")),
        ("export other.safetensors --format safetensors --out new", 1, ("other.safetensors", "99")),
        ("search other.safetensors clips/jump/a.mp4 --in shards", 1, ("other.safetensors", "99")),
        ("embed bare.safetensors clips --out a.csv", 1, ("bare.safetensors",)),
        ("embed damaged.safetensors clips --out a.csv", 1, ("damaged.safetensors",)),
        ("table newer", 2, ("result.json has version 99",)),
        ("compare base vididi --runs newer", 2, ("result.json has version 99",)),
    ],
}
LINES = [(kind, *case) for kind, cases in MISTAKES.items() for case in cases]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Any, make_config: Any) -> Path:
    """What the command lines speak of."""
    root = tmp_path_factory.mktemp("mistakes")
    for name in ("jump", "wave"):
        (root / "clips" / name).mkdir(parents=True)
        (root / "clips" / name / "a.mp4").write_bytes(b"never decoded")
    (root / "empty").mkdir()
    (root / "file").write_text("a sentence")
    shutil.copytree(tiny_shards.root, root / "shards")
    values = make_config().to_dict()
    (root / "tiny.yaml").write_text(yaml.safe_dump(values))
    arms = {"base": {"order": 0}, "vididi": {"order": 2}}
    sweep = {"data": values["data"], "prepare": values["prepare"], "backbone": {"name": "r3d_tiny"}}
    (root / "sweep.yaml").write_text(yaml.safe_dump({"name": "few", "base": sweep, "arms": arms}))
    shutil.copytree(FINISHED, root / "runs")
    run = next(FINISHED.glob("base-*"))
    shutil.copytree(run, root / "half", ignore=shutil.ignore_patterns("result.json", "evaluations"))
    shutil.copytree(run, root / "newer" / run.name)
    result = root / "newer" / run.name / "result.json"
    result.write_text(json.dumps({**json.loads(result.read_text()), "version": 99}))
    weights = {"weight": torch.zeros(1)}
    save_file(weights, root / "other.safetensors", {"format": "pt", KEY: '{"format": 99}'})
    save_file(weights, root / "bare.safetensors")
    (root / "damaged.safetensors").write_bytes(b"no weights")
    (root / "first.txt").write_text(tiny_shards.column("video_id")[0])
    return root


def run_wrongly(
    line: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """The exit status and all that was printed."""
    monkeypatch.chdir(place)
    try:
        status = main(line.replace("FIRST", Path("first.txt").read_text()).split())
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    return status, "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("kind", "line", "status", "said"), LINES, ids=[f"{kind}: {line}" for kind, line, *_ in LINES]
)
def test_a_mistake_is_answered_in_words(
    kind: str,
    line: str,
    status: int,
    said: tuple[str, ...],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path for path in workplace.iterdir() if path.name != "runs"}
    found, printed = run_wrongly(line, workplace, monkeypatch, capsys)
    assert found == status, printed
    text = " ".join(printed.split())
    assert [words for words in said if words not in text] == [], printed
    for foreign in ("Traceback", "[Errno", "fault of the program", "argument --out: invalid"):
        assert foreign not in printed
    assert {path for path in workplace.iterdir() if path.name != "runs"} == before


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        ("matplotlib", "plot curves runs --out a.png", "pip install 'vididi[plots]'"),
        ("sklearn", "plot tsne runs --out a.png", "pip install 'vididi[plots]'"),
    ],
)
def test_an_extra_that_is_missing_is_named(
    module: str,
    line: str,
    said: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    status, printed = run_wrongly(line, workplace, monkeypatch, capsys)
    assert status in (1, 2)
    assert f"error: {module} is not installed" in printed
    assert said in printed
    assert "Traceback" not in printed
