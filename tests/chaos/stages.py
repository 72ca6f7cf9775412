"""What a sweep runs on where a fault needs more than this machine: a cluster, a store, a clock."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
BUCKET = "chaos"


@dataclass
class Stage:
    """What a sweep runs on.

    Attributes:
        arguments: of its command, for it.
        environment: of its processes.
        resources: of its cells, as YAML.
        state: the file by which a fault acts on it.
        node: the mark of the processes of a second node.
        fetch: what brings the run folders into a folder where they do not lie on this disk.
    """

    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    resources: str = "{}"
    state: Path | None = None
    node: str | None = None
    fetch: Callable[[Path], None] = lambda folder: None


@contextmanager
def _serving(script: str, *arguments: str, **environment: str) -> Iterator[str]:
    """A script at work that says a line when it is ready, and ends with its standard input."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / script), *arguments],
        env={**os.environ, **KEYS, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def plain(place: Path) -> Iterator[Stage]:
    """This machine."""
    yield Stage()


@contextmanager
def watched(place: Path) -> Iterator[Stage]:
    """This machine, with hangs that are seen soon."""
    yield Stage(resources="{hang_s: 4}")


@contextmanager
def two_nodes(place: Path) -> Iterator[Stage]:
    """A cluster of a head and one more node."""
    mark, temporary = f"{os.getpid()}-{place.name}", tempfile.mkdtemp(dir="/tmp")
    try:
        with _serving("two_nodes.py", mark, RAY_TMPDIR=temporary) as address:
            yield Stage(("--address", address), node=mark)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def store(place: Path) -> Iterator[Stage]:
    """Run folders in an object store."""
    state = place / "store-is"
    state.write_text("well")
    with _serving("store.py", BUCKET, str(state)) as address:

        def fetch(folder: Path) -> None:
            import boto3

            client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret")  # fmt: skip
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
                for entry in page.get("Contents", []):
                    if not entry["Key"].endswith("/"):
                        path = folder / entry["Key"].removeprefix(f"{place.name}/")
                        path.parent.mkdir(parents=True, exist_ok=True)
                        client.download_file(BUCKET, entry["Key"], str(path))

        runs = f"s3://{BUCKET}/{place.name}/runs"
        yield Stage(
            ("--runs", runs), {**KEYS, "AWS_ENDPOINT_URL": address}, state=state, fetch=fetch
        )


@contextmanager
def clock(place: Path) -> Iterator[Stage]:
    """This machine, with a clock that can be set."""
    state = place / "clock"
    state.write_bytes(struct.pack("d", 0.0))
    path = os.pathsep.join([str(HERE / "clock"), str(HERE.parents[1])])
    yield Stage(environment={"CHAOS_CLOCK": str(state), "PYTHONPATH": path}, state=state)


StageOf = Callable[[Path], AbstractContextManager[Stage]]
