"""Prepared data in an object store, against a local server that speaks S3."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vididi.cli import main
from vididi.data.plan import PretrainPlan, frame_counts
from vididi.data.shards import ShardSet
from vididi.data.storage import RemotePath, as_folder, upload
from vididi.data.stream import local_stream
from vididi.errors import DataError
from vididi.experiment import ensure_prepared

server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of an empty bucket; the endpoint comes from the environment, as it does for users of a store of their own."""
    import boto3

    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    endpoint = "http://{}:{}".format(*running.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="clips")
        yield "s3://clips"
    running.stop()


@pytest.fixture(scope="module")
def remote(bucket: str, make_config: Callable[..., Any]) -> ShardSet:
    """The tiny set, prepared into the bucket."""
    return ensure_prepared(make_config(), as_folder(f"{bucket}/sets/tiny"))


def test_a_set_in_a_store_is_the_one_on_disk(remote: ShardSet, tiny_shards: ShardSet) -> None:
    assert isinstance(remote.root, RemotePath)
    assert remote.manifest == tiny_shards.manifest
    assert remote.index.equals(tiny_shards.index)


def test_it_streams_the_same_batches(remote: ShardSet, tiny_shards: ShardSet) -> None:
    plan = PretrainPlan(remote.rows("train"), frame_counts(remote), 4, 2, 8, 2, seed=0)
    for ours, expected in zip(local_stream(remote)(plan, 1), local_stream(tiny_shards)(plan, 1), strict=True):
        np.testing.assert_array_equal(ours.clips, expected.clips)


def test_it_travels_to_other_processes_by_name_only(remote: ShardSet) -> None:
    remote.root.is_file()  # connects
    assert pickle.loads(pickle.dumps(remote)).index.equals(remote.index)


def test_what_is_there_is_not_prepared_again(remote: ShardSet, make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vididi.experiment.upload", lambda *_, **__: pytest.fail("uploaded again"))
    assert ensure_prepared(make_config(), as_folder(str(remote.root))).manifest == remote.manifest


def test_an_upload_that_was_cut_short_goes_on_and_ends_with_the_manifest(bucket: str, tiny_shards: ShardSet) -> None:
    place = RemotePath(f"{bucket}/sets/cut")
    filesystem, root = place.place
    filesystem.create_dir(root, recursive=True)
    with filesystem.open_output_stream(f"{root}/index.parquet") as file:
        file.write(b"half of it")
    with pytest.raises(DataError, match=r"no manifest\.json"):
        ShardSet.open(place)
    upload(Path(str(tiny_shards.root)), place, last="manifest.json")
    assert ShardSet.open(place).index.equals(tiny_shards.index)


def test_the_commands_take_a_uri(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--set", "train=6", "--set", "test=3", "--set", "size=32", "--set", "frames=16", "--short-side", "16"]
    assert main(["prepare", "motion", "--out", f"{bucket}/sets/motion", *options]) == 0
    assert f"in {bucket}/sets/motion" in capsys.readouterr().out
    assert ShardSet.open(RemotePath(f"{bucket}/sets/motion")).manifest.videos == {"train": 6, "test": 3}


def test_paths_and_uris_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert as_folder("sets/tiny") == tmp_path / "sets" / "tiny"
    assert as_folder("s3://bucket/a") == RemotePath("s3://bucket/a")
    with pytest.raises(DataError, match=r"ftp://host/a: 'ftp' is not a known scheme; it is a path, or one of s3://, gs://"):
        as_folder("ftp://host/a")


def test_names_below_a_uri_keep_its_query() -> None:
    assert str(RemotePath("s3://bucket/a/?scheme=http") / "b.parquet") == "s3://bucket/a/b.parquet?scheme=http"
    assert (RemotePath("s3://bucket/a?scheme=http") / "b").name == "b"
