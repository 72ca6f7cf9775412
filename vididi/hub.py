"""Exported encoders on the Hugging Face Hub (the extra ``hub``). ``HF_ENDPOINT`` and ``HF_TOKEN``
hold, as for its own programs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vididi.errors import ConfigError, TrainingError
from vididi.exporting import CARD
from vididi.values import cut
from vididi.words import counted, size_text

HUB_CONFIG = "config.json"  # by which the Hub counts downloads
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"


def hub_files(
    written: Sequence[Path], description: Mapping[str, Any], folder: Path
) -> dict[str, Path]:
    """What is pushed of an export, by its name in the repository: its files, the card as README.md,
    and config.json.

    Args:
        written: the files of the export, the card last.
        description: of the encoder (vididi.description), which config.json holds. It has no path of
            this machine, which a run's config.yaml may have.
        folder: config.json is written there.
    """
    config = folder / HUB_CONFIG
    config.write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")
    *files, card = written
    return {**{path.name: path for path in files}, CARD: card, HUB_CONFIG: config}


def sizes_text(files: Mapping[str, Path]) -> str:
    """A line for each file with its size, and one for all."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    width = max(map(len, sizes))
    lines = [f"{name:{width}}  {size_text(size)}" for name, size in sizes.items()]
    return "\n".join([*lines, f"{counted(len(sizes), 'file')}, {size_text(sum(sizes.values()))}"])


def check_repository(repository: str) -> None:
    """Raise ConfigError if no repository of the Hub can have this name."""
    name = repository.rpartition("/")[2]
    if not re.fullmatch(rf"{_PART}/{_PART}", repository) or name.endswith((".git", ".", "-")):
        raise ConfigError(
            f"--push: {cut(repository)!r} is not valid; it is OWNER/NAME, of letters, digits, '-',"
            " '_' and '.'"
        )


def hub_api() -> Any:
    """The Hub's interface, for somebody who is known there.

    Raises:
        ConfigError: the package is not installed, or there is no token.
    """
    if find_spec("huggingface_hub") is None:
        raise ConfigError(
            "--push: needs the package huggingface_hub, which is not installed: pip install"
            " 'vididi[hub]'"
        )
    from huggingface_hub import HfApi, get_token

    token = get_token()
    if not token:
        raise ConfigError(
            "--push: there is no token for the Hub; set HF_TOKEN, or run hf auth login"
        )
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)


def push_files(files: Mapping[str, Path], repository: str, api: Any, private: bool = True) -> str:
    """Upload files in one commit; returns the repository's address.

    Args:
        files: by their names in the repository, which is made where it is missing; one that is
            there stays as public or private as it is.
        api: a huggingface_hub.HfApi.

    Raises:
        TrainingError: the Hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    # Its errors of connections are of the client of HTTP that a version of it has.
    away: tuple[type[Exception], ...] = (HfHubHTTPError, OSError, ValueError)
    if find_spec("httpx") is not None:
        import httpx

        away = (*away, httpx.HTTPError)
    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path))
        for name, path in files.items()
    ]
    try:
        address = api.create_repo(repository, private=private, repo_type="model", exist_ok=True)
        api.create_commit(
            repository, operations, commit_message="Encoder, by vididi export", repo_type="model"
        )
    except away as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainingError(f"--push: {repository} cannot be written: {cut(reason)}") from None
    return str(address)
