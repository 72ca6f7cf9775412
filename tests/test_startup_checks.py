"""What a machine must have, and who asks for it."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vididi import startup_checks
from vididi.cli import main
from vididi.config import build_config
from vididi.errors import ResourceError
from vididi.startup_checks import (
    SESSION,
    SOCKET_PATH,
    check_data,
    check_loopback,
    check_open_files,
    check_python,
    check_shared_memory,
    check_temporary,
    check_version,
    check_writable,
    checks_of_ray,
    folder_for_sockets,
    refuse,
    warn_of_backbone,
)


def test_a_socket_s_path_may_be_as_long_as_is_said(tmp_path: Path) -> None:
    os.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("x" * SOCKET_PATH)
    with (
        socket.socket(socket.AF_UNIX) as one,
        pytest.raises(OSError, match="AF_UNIX path too long"),
    ):
        one.bind("x" * (SOCKET_PATH + 1))


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_sockets_of_a_deep_temporary_folder_go_to_a_short_one(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    deep = tmp_path / ("d" * (SOCKET_PATH - SESSION))
    deep.mkdir()
    monkeypatch.setenv(variable, str(deep))
    assert folder_for_sockets() == Path("/tmp")
    monkeypatch.setenv(variable, "/var/tmp")
    assert folder_for_sockets() == Path("/var/tmp")


def test_where_no_folder_is_short_enough_this_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = Path("/" + "d" * (SOCKET_PATH - SESSION))
    monkeypatch.setattr(startup_checks, "_temporary_folders", lambda: [deep])
    assert check_temporary().level == "problem"
    with pytest.raises(ResourceError, match=r"sockets: /d+: not writable, or longer.*RAY_TMPDIR"):
        refuse(checks_of_ray())


def test_without_an_ipv4_address_of_its_own_a_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """192.0.2.1 is of no machine: it is for documentation (RFC 5737)."""
    assert check_loopback().level == "ok"
    found = check_loopback("192.0.2.1")
    assert found.level == "problem"
    assert "ip address add 192.0.2.1/8 dev lo" in found.text
    monkeypatch.setattr(startup_checks, "check_loopback", lambda: found)
    with pytest.raises(ResourceError, match=r"^loopback: 192\.0\.2\.1 is not to be had"):
        refuse(checks_of_ray())


@pytest.mark.parametrize(("hard", "level"), [(512, "problem"), (4096, "warning"), (65536, "ok")])
def test_few_open_files(hard: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, hard))
    assert check_open_files().level == level


@pytest.mark.parametrize(("free", "level"), [(2**26, "warning"), (2**31, "ok")])
def test_little_shared_memory(
    free: int, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert check_shared_memory(tmp_path).level == level
    assert check_shared_memory(tmp_path / "none").level == "warning"


def test_folders_that_cannot_be_made_or_are_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    found = check_writable("runs", tmp_path / "file" / "runs", "give another")
    assert (found.level, "is not a folder; give another" in found.text) == ("problem", True)
    assert not (tmp_path / "new").exists()
    assert check_writable("runs", tmp_path / "new" / "runs", "", disk=1).level == "ok"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "is not writable" in check_writable("runs", tmp_path / "new", "").text
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    assert check_writable("runs", tmp_path, "").level == "warning"


def test_data_that_is_not_there_or_empty(tmp_path: Path) -> None:
    assert check_data(tmp_path / "none").level == "problem"
    assert check_data(tmp_path).level == "problem"
    (tmp_path / "a.mp4").touch()
    assert check_data(tmp_path).level == "ok"


def test_versions_are_those_that_the_package_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_python().level == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert check_python().level == "problem"
    monkeypatch.undo()
    monkeypatch.setattr(startup_checks, "requires", lambda _: ["torch<2,>=1", "nothere>1"])
    assert check_version("torch").level == "problem"
    assert "is missing; pip install 'nothere>1'" in check_version("nothere").text


def test_a_torchvision_of_another_torch_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.ops

    assert startup_checks.check_operators().level == "ok"

    def broken(*_: Any) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    found = startup_checks.check_operators()
    assert (found.level, "torchvision::nms does not exist" in found.text) == ("problem", True)


def test_the_command_says_each_thing_and_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDIDI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").touch()
    arguments = ["doctor", "--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for name in ("python", "torch", "ray", "operators", "decoder", "gpu", "sockets", "open files"):
        assert f" {name}: " in out, name
    assert out.endswith("0 problems\n")
    assert not (tmp_path / "runs").exists()
    assert main([*arguments, "--data", str(tmp_path / "none")]) == 1
    assert "problem  data: " in capsys.readouterr().out


def test_a_sweep_is_refused_for_the_same_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import run_sweep
    from tests.tiny_sweep import BASE

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDIDI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(f"name: tiny\n{BASE}\narms:\n  one: {{}}\nseeds: [0]\n")
    (tmp_path / "file").touch()
    assert run_sweep.main(["tiny.yaml", "--runs", "file/runs"]) == 2
    assert "error: runs: " in capsys.readouterr().err
    monkeypatch.setattr(startup_checks, "_temporary_folders", lambda: [Path("/" + "d" * 60)])
    assert run_sweep.main(["tiny.yaml"]) == 2
    assert "error: sockets: " in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()  # nothing was prepared in vain


def test_a_backbone_that_is_left_out_without_a_gpu_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import run_sweep

    said = warn_of_backbone(build_config({}), gpu=False)
    assert "r3d_18, at clip.size 112, and no GPU trains it: about 76.8 s of one core" in said
    assert "set backbone.name: r3d_tiny" in said
    long = warn_of_backbone(build_config({}), gpu=False, videos=600)
    assert "for each step of 64 videos, 3.2 days for 400 epochs of 600 videos; set back" in long
    few = build_config({"training": {"epochs": 1, "batch_size": 2}})
    assert warn_of_backbone(few, gpu=False, videos=600) != ""
    assert warn_of_backbone(few, gpu=False, videos=200) == ""  # 100 steps of 2.4 s
    half = warn_of_backbone(build_config({"clip": {"size": 56}}), gpu=False)
    assert "about 19.2 s of one core" in half
    assert warn_of_backbone(build_config({}), gpu=True) == ""
    assert warn_of_backbone(build_config({"backbone": {"name": "r3d_18"}}), gpu=False) == ""

    monkeypatch.chdir(tmp_path)
    text = "name: tiny\narms:\n  one: {}\n  two: {order: 1}\nseeds: [0]\n"
    (tmp_path / "bare.yaml").write_text(text)
    (tmp_path / "named.yaml").write_text(f"base: {{backbone: r3d_18}}\n{text}")
    (tmp_path / "gpu.yaml").write_text(f"resources: {{gpus_per_worker: 1}}\n{text}")
    for name, times in (("bare", 1), ("named", 0), ("gpu", 0)):
        assert run_sweep.main([f"{name}.yaml", "--dry-run"]) == 0
        assert capsys.readouterr().out.count("warning: backbone: is left out") == times, name
