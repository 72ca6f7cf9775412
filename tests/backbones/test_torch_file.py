"""Torch files with more in them than weights: what is no tensor and no plain container is stood in
for, and nothing is executed.
"""

from __future__ import annotations

import argparse
import builtins
import collections
import dataclasses
import datetime
import enum
import io
import operator
import os
import pathlib
import pickle
import re
import runpy
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vididi.backbones import BACKBONES
from vididi.backbones.torch_file import read_torch_file

FORMATS = pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])


def saved(content: Any, path: Path, new: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=new)
    return path


# --- What other programs save beside the weights --------------------------------------------------

ran: list[str] = []


class Loud:
    """A class of another program, which would leave a trace if it were made or given its state."""

    def __new__(cls, *arguments: Any) -> Loud:
        ran.append("new")
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        ran.append("setstate")


class CfgNode(dict):  # type: ignore[type-arg]
    """As yacs, addict and Lightning's AttributeDict have it: a dict with items and a state."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.__dict__["frozen"] = True


@dataclasses.dataclass(frozen=True)
class Slots:
    """State that is no dictionary."""

    __slots__ = ("lr",)
    lr: float

    def __getstate__(self) -> Any:
        return (None, {"lr": self.lr})


class Phase(enum.Enum):
    TRAIN = "train"


OTHERS: dict[str, Any] = {
    "Namespace": argparse.Namespace(lr=0.1, schedule=[60, 80]),
    "dict of its own": CfgNode({"model": CfgNode({"depth": 50})}),
    "state that is no dict": Slots(0.1),
    "enumeration": Phase.TRAIN,
    "instance": Loud(),
    "class": Loud,
    "class as key": {Loud: {"best": 0.5}},
    "function": torch.relu,
    "number of numpy": {"top1": np.float64(70.5), np.int64(3): np.bool_(True)},
    "array of numpy": {"history": np.arange(4.0), "names": np.array(["a"], dtype=object)},
    "generator of numpy": (np.random.RandomState(0).get_state(), np.random.default_rng(0)),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "deque": collections.deque([1.0, 2.0], maxlen=9),
    "Counter": collections.Counter("aab"),
    "path": {pathlib.PurePosixPath("x"): pathlib.PurePosixPath("/data")},
    "time": (datetime.datetime(2020, 1, 1), datetime.timedelta(1)),
    "sets": (frozenset([1]), {2}, range(3), slice(1)),
    "optimiser": torch.optim.SGD([torch.ones(1)], lr=0.1).state_dict(),
    "scheduler": torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([torch.ones(1)], lr=0.1), float),
    "random state": torch.get_rng_state(),
}


@FORMATS
@pytest.mark.parametrize("name", OTHERS)
def test_weights_beside_anything_else(name: str, new: bool, tmp_path: Path) -> None:
    weights = {"conv1.weight": torch.rand(2, 3)}
    ran.clear()
    file = saved(
        {"hyper_parameters": OTHERS[name], "state_dict": weights, "again": OTHERS[name]},
        tmp_path / "file.pth.tar",
        new,
    )
    content = read_torch_file(file)
    assert torch.equal(content["state_dict"]["conv1.weight"], weights["conv1.weight"])
    assert ran == []


def test_weights_in_a_dict_of_its_own_are_found(tmp_path: Path) -> None:
    weights = BACKBONES["r3d_tiny"](width=2)[0].state_dict()
    file = saved({"model_state": CfgNode(dict(weights))}, tmp_path / "file.pth", True)
    network, _ = BACKBONES["r3d_tiny"](width=2, weights=str(file))
    assert torch.equal(network.state_dict()["stem.0.weight"], weights["stem.0.weight"])


@FORMATS
def test_a_whole_module_is_no_file_of_weights(new: bool, tmp_path: Path) -> None:
    file = saved({"model": torch.nn.Conv3d(1, 1, 1)}, tmp_path / "file.pth", new)
    with pytest.raises(ValueError, match=r"^weights: .*file\.pth is not valid; it must "):
        BACKBONES["r3d_tiny"](width=2, weights=str(file))


# --- Hostile files --------------------------------------------------------------------------------


class Does:
    """Asks whoever loads it to call something."""

    def __init__(self, call: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.asked = (call, arguments) if state is None else (call, arguments, state)

    def __reduce__(self) -> Any:
        return self.asked


CANARY = "canary"
CALLS = {
    "os.system": Does(os.system, f"touch {CANARY}"),
    "eval": Does(builtins.eval, f"open({CANARY!r}, 'w')"),
    "exec": Does(builtins.exec, f"open({CANARY!r}, 'w')"),
    "open": Does(open, CANARY, "w"),
    "import": Does(builtins.__import__, "antigravity"),
    "Popen": Does(subprocess.Popen, ["touch", CANARY]),
    "runpy": Does(runpy._run_code, f"open({CANARY!r}, 'w')", {}),  # type: ignore[attr-defined]
    "touch": Does(Path.touch, Path(CANARY)),
    "getattr": Does(getattr, Does(builtins.__import__, "os"), "system"),
    "called": Does(operator.methodcaller("touch"), Path(CANARY)),
    "torch.load": Does(torch.load, CANARY),
    "torch.save": Does(torch.save, {}, CANARY),
    "torch.hub": Does(torch.hub.download_url_to_file, "file:///etc/hostname", CANARY),
    "torch._utils": Does(torch._utils._import_dotted_name, "os.system"),
    "numpy": Does(np.save, CANARY, 1),
    "stand-in of ours": Does(read_torch_file, CANARY),
    "in arguments": Does(argparse.Namespace, Does(os.system, f"touch {CANARY}")),
    "in state": Does(argparse.Namespace, state={"x": Does(os.system, f"touch {CANARY}")}),
    "state of a function": Does(torch._utils._rebuild_tensor_v2, state=(None, {"__code__": 1})),
    "type and state": Does(
        torch._tensor._rebuild_from_type_v2,
        Does(eval, "1"),
        argparse.Namespace,
        (),
        {"x": Does(eval, f"open({CANARY!r}, 'w')")},
    ),
}


def outcome(file: Path) -> str:
    """Loads a file as a backbone's weights, which are in it."""
    try:
        network, _ = BACKBONES["r3d_tiny"](width=2, weights=str(file))
    except ValueError as error:
        one_sentence = re.match(
            r"^weights: .* is not valid; it must be a readable file of weights \([^\n]*\)$",
            str(error),
        )
        return "refused" if one_sentence else str(error)
    assert network.state_dict()["stem.1.weight"][0] == 2
    return "loaded"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return {
        name: torch.full_like(tensor, 2)
        for name, tensor in BACKBONES["r3d_tiny"](width=2)[0].state_dict().items()
    }


@FORMATS
@pytest.mark.parametrize("name", CALLS)
def test_nothing_in_a_file_is_executed(
    name: str,
    new: bool,
    weights: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = outcome(
        saved(
            {"state_dict": weights, "other": [CALLS[name], {"x": CALLS[name]}]},
            tmp_path / "file.pth",
            new,
        )
    )
    assert not Path(CANARY).exists()
    # torch refuses whatever is of os, what calls a stand-in, and a state of what is no instance;
    # the others are stood in for.
    refused = {
        "os.system",
        "in arguments",
        "in state",
        "state of a function",
        "type and state",
        "touch",
        "called",
    }
    assert found == ("refused" if name in refused else "loaded")


def test_what_is_refused_is_said_in_one_sentence(tmp_path: Path) -> None:
    """Not torch's advice to load the file without its checks."""
    file = saved({"x": CALLS["os.system"]}, tmp_path / "file.pth", True)
    said = (
        r"\(UnpicklingError: Trying to load unsupported GLOBAL posix\.system whose module posix is"
        r" blocked\.\)$"
    )
    with pytest.raises(ValueError, match=said):
        BACKBONES["r3d_tiny"](width=2, weights=str(file))


def with_pickle(content: bytes, path: Path) -> Path:
    """A torch file with this pickle in place of its own."""
    whole = io.BytesIO()
    torch.save({}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith("data.pkl") else old.read(name))
    return path


@pytest.mark.parametrize(
    "content",
    [
        # An instance's state set on the class that stands in, and on torch's own function.
        b"\x80\x02cargparse\nNamespace\n}X\x04\x00\x00\x00nameK\x01sb.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__code__K\x01sb.",
        # What a stand-in gives is called, is made, and has no method to call.
        b"\x80\x02cargparse\nNamespace\n)R)R.",
        b"\x80\x02cargparse\nNamespace\n)\x81)\x81.",
        b"\x80\x02cbuiltins\ngetattr\ncos\nsystem\nX\x04\x00\x00\x00nameR.",
        # Names by the operations of other protocols.
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch canary\x85R.",
        b"(X\x0c\x00\x00\x00touch canaryios\nsystem\n.",
        b"(cos\nsystem\nX\x0c\x00\x00\x00touch canaryo.",
        # A name of more than one part, and one that is no name.
        b"\x80\x02cos.path\nos.system\nX\x0c\x00\x00\x00touch canary\x85R.",
        b"\x80\x02c\n\n)R.",
        b"\x80\x02c\xff\n\xfe\n)R.",
        b"\x80\x02cos system\nx\n)R.",
    ],
)
@FORMATS
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickles_by_hand(
    content: bytes, new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.pth"
    if new:
        with_pickle(content, path)
    else:
        magic, version, order = (
            torch.serialization.MAGIC_NUMBER,
            1001,
            {"protocol_version": 1001, "little_endian": True, "type_sizes": {}},
        )
        path.write_bytes(
            b"".join(pickle.dumps(part, 2) for part in (magic, version, order))
            + content
            + pickle.dumps([], 2)
        )
    with pytest.raises(
        ValueError, match=r"^weights: [^\n]*file\.pth is not valid; it must [^\n]*$"
    ):
        BACKBONES["r3d_tiny"](width=2, weights=str(path))
    assert not Path(CANARY).exists()


def hostile(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Containers, arguments, items and states of each other."""
    return st.one_of(
        st.lists(leaves, max_size=3),
        st.dictionaries(st.text(max_size=3), leaves, max_size=3),
        st.builds(CfgNode, st.dictionaries(st.text(max_size=3), leaves, max_size=2)),
        st.builds(
            Does,
            st.sampled_from(
                [argparse.Namespace, os.system, eval, torch.load, collections.OrderedDict, list]
            ),
            leaves,
        ),
        st.builds(lambda state: Does(argparse.Namespace, state=state), leaves),
        st.builds(lambda kind, items: (kind, items), st.just(Phase), leaves),
    )


LEAVES = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=5),
    st.just(np.float32(1)),
    st.sampled_from(list(CALLS.values())),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.recursive(LEAVES, hostile, max_leaves=8), new=st.booleans())
def test_hostile_files_of_any_shape(
    content: Any,
    new: bool,
    weights: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loaded without it or refused, and nothing executed."""
    monkeypatch.chdir(tmp_path)
    assert outcome(
        saved({"other": content, "state_dict": weights}, tmp_path / "file.pth", new)
    ) in ("loaded", "refused")
    assert not Path(CANARY).exists()
