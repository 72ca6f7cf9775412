"""A protocol's settings with a key that came later, and the name of an evaluation by them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

from vididi.introduced import Introduced
from vididi.protocols import FeatureSettings
from vididi.protocols.settings import ProtocolSettings
from vididi.protocols.task import Task

CHECKSUM = "0" * 64


class Mirrored(FeatureSettings):
    mirrored: Annotated[bool, Introduced(False)] = True


def evaluation_name(settings: ProtocolSettings) -> str:
    shards: Any = SimpleNamespace(
        root="none", manifest=SimpleNamespace(source={"name": "none"}, checksum=CHECKSUM)
    )
    nothing: Any = None
    return Task("retrieval", settings, shards, nothing, nothing, nothing).name
