"""Pushing an export to the Hugging Face Hub, against its HTTP interface on this machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from vididi import hub
from vididi.cli import main
from vididi.errors import ConfigError, TrainingError
from vididi.hub import check_repository, hub_api, hub_files, push_files, sizes_text


@dataclass
class Repositories:
    """What is on the Hub, and every request to it."""

    endpoint: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: int = 0
    tokens: set[str | None] = field(default_factory=set)
    refuses: bool = False

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if self.refuses:
            return 403, {"error": "you may not write there"}
        if path == "/api/validate-yaml":
            return 200, {}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            private = asked.get("visibility") == "private" or asked.get("private") is True
            new = name not in self.private
            self.private.setdefault(name, private)
            return (200 if new else 409), {"url": f"{self.endpoint}/{name}", "error": "is there"}
        name, _, action = path.removeprefix("/api/models/").rpartition("/main")[0].rpartition("/")
        if action == "preupload":
            asked = json.loads(body)["files"]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            return 200, {"files": [{"path": file["path"], **modes} for file in asked]}
        assert action == "commit"
        self.commits += 1
        for line in body.splitlines():
            record = json.loads(line)
            if record["key"] == "file":
                content = base64.b64decode(record["value"]["content"])
                self.files.setdefault(name, {})[record["value"]["path"]] = content
        return 200, {"commitUrl": f"{self.endpoint}/{name}/commit/0", "commitOid": "0" * 40}


@pytest.fixture
def repositories(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repositories]:
    """A Hub on this machine, for somebody who is known there."""
    pytest.importorskip("huggingface_hub")
    kept = Repositories()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.tokens.add(self.headers.get("Authorization"))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = kept.answer(self.path.partition("?")[0], body)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    kept.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", kept.endpoint)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield kept
    server.shutdown()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "out").mkdir()
    written = [tmp_path / "out" / name for name in ("e.safetensors", "e.safetensors.md")]
    written[0].write_bytes(bytes(range(256)) * 8)
    written[1].write_text("---\nlicense: other\n---\n# a card\n")
    return hub_files(written, {"backbone": {"name": "r3d_tiny"}}, tmp_path)


def test_an_export_is_pushed_in_one_commit_to_a_private_repository(
    repositories: Repositories, files: dict[str, Path]
) -> None:
    address = push_files(files, "lab/encoder-1", hub_api())
    assert address == f"{repositories.endpoint}/lab/encoder-1"
    assert repositories.private == {"lab/encoder-1": True}
    assert repositories.files["lab/encoder-1"] == {
        name: path.read_bytes() for name, path in files.items()
    }
    assert files.keys() == {"e.safetensors", "README.md", "config.json"}
    pushed = json.loads(repositories.files["lab/encoder-1"]["config.json"])
    assert pushed == {"backbone": {"name": "r3d_tiny"}}
    assert repositories.commits == 1
    assert repositories.tokens == {"Bearer hf_secret"}


def test_a_repository_that_is_there_is_written_to_and_stays_as_public_as_it_is(
    repositories: Repositories, files: dict[str, Path]
) -> None:
    repositories.private["lab/encoder-1"] = False
    push_files(files, "lab/encoder-1", hub_api())
    assert repositories.private == {"lab/encoder-1": False}
    push_files(files, "lab/encoder-2", hub_api(), private=False)
    assert repositories.private["lab/encoder-2"] is False
    assert repositories.files.keys() == {"lab/encoder-1", "lab/encoder-2"}


def test_what_the_hub_refuses_is_one_sentence(
    repositories: Repositories, files: dict[str, Path]
) -> None:
    repositories.refuses = True
    with pytest.raises(TrainingError, match=r"^--push: lab/encoder-1 cannot be written: ") as error:
        push_files(files, "lab/encoder-1", hub_api())
    assert "\n" not in str(error.value)
    assert not repositories.commits


def test_without_a_token_nothing_is_asked(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError) as error:
        hub_api()
    assert str(error.value) == (
        "--push: there is no token for the Hub; set HF_TOKEN, or run hf auth login"
    )
    assert not repositories.tokens


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vididi\[hub\]'"):
        hub_api()


@pytest.mark.parametrize("name", ["lab/encoder-1", "a/b", "Lab_1/r3d.18"])
def test_names_of_repositories(name: str) -> None:
    check_repository(name)


@pytest.mark.parametrize("name", ["", "encoder", "a/b/c", "../x", "a/", "lab/x.git", "lab/a b"])
def test_names_of_no_repository(name: str) -> None:
    with pytest.raises(ConfigError, match="it is OWNER/NAME"):
        check_repository(name)


def test_files_are_listed_with_their_sizes(files: dict[str, Path]) -> None:
    lines = sizes_text(files).splitlines()
    assert lines[0] == "e.safetensors  2 KB"
    assert lines[-1].startswith("3 files, 2.")


# --- The command ----------------------------------------------------------------------------------


class SmallEncoder:
    """What the command asks of an encoder."""

    description = {"backbone": {"name": "r3d_tiny"}}

    @classmethod
    def load(cls, path: str) -> SmallEncoder:
        return cls()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export of a few bytes: what those of encoders are tests/test_exporting.py says."""

    def write(encoder: Any, form: str, out: Path, licence: str | None) -> list[Path]:
        out.mkdir(parents=True)
        (out / "encoder.safetensors").write_bytes(b"weights")
        (out / "README.md").write_text("# a card\n")
        return [out / "encoder.safetensors", out / "README.md"]

    monkeypatch.setattr("vididi.encoders.Encoder", SmallEncoder)
    monkeypatch.setattr("vididi.exporting.export_encoder", write)


PUSH = ["export", "run", "--format", "safetensors", "--push", "lab/encoder-1"]


def test_the_command_pushes(
    exported: None, repositories: Repositories, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(PUSH) == 0
    assert repositories.files["lab/encoder-1"].keys() == {
        "encoder.safetensors",
        "README.md",
        "config.json",
    }
    assert f"pushed to {repositories.endpoint}/lab/encoder-1" in capsys.readouterr().out


def test_a_dry_run_lists_and_needs_neither_package_nor_token(
    exported: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    assert main([*PUSH, "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == [
        "encoder.safetensors",
        "README.md",
        "config.json",
        "3",
        "nothing",
    ]


def test_where_an_export_goes_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "run", "--format", "safetensors"]) == 2
    assert "--out: is missing; give PATH, or --push OWNER/NAME" in capsys.readouterr().err
    for option in ("--public", "--dry-run"):
        assert main(["export", "run", "--format", "safetensors", "--out", "x", option]) == 2
        assert f"{option}: is of --push OWNER/NAME" in capsys.readouterr().err
    assert main([*PUSH[:-1], "encoder"]) == 2
    assert "it is OWNER/NAME" in capsys.readouterr().err
