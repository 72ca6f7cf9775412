"""Machines that share an object store, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def machine(folder: Path) -> Iterator[None]:
    """A machine whose disk is ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDIDI_CACHE", str(folder))
        yield


def objects(uri: str) -> dict[str, bytes]:
    """The objects below a place, without the empty ones that stand for folders."""
    import boto3

    bucket, _, folder = uri.removeprefix("s3://").partition("/")
    store = boto3.client("s3")
    listed = store.list_objects_v2(Bucket=bucket, Prefix=f"{folder}/").get("Contents", [])
    names = [entry["Key"] for entry in listed if not entry["Key"].endswith("/")]
    return {
        name.removeprefix(f"{folder}/"): store.get_object(Bucket=bucket, Key=name)["Body"].read()
        for name in names
    }


def put(uri: str, content: bytes) -> None:
    import boto3

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=content)
