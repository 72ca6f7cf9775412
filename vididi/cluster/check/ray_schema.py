"""What Ray itself says of a cluster file, in the words of its writer: its schema, its defaults and
its own checks. Nothing is started and no cloud is asked.

Ray depends on jsonschema (Ray 2.60's own requirements), so vididi need not.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import ray.autoscaler
from jsonschema import Draft7Validator, ValidationError
from ray.autoscaler._private.providers import _NODE_PROVIDERS
from ray.autoscaler._private.util import prepare_config, validate_config

from vididi.cluster.check.cluster_file import PROBLEM, WARNING, ClusterFile, Where, hint_at, section
from vididi.values import shown

# Ray's own for tests and for other programs; nobody brings a cluster up with them.
_NOT_FOR_FILES = ("readonly", "fake_multinode", "fake_multinode_docker", "kuberay", "spark")
PROVIDERS = sorted(set(_NODE_PROVIDERS) - set(_NOT_FOR_FILES))
LEGACY = {
    "head_node": "node types: `available_node_types` and `head_node_type`",
    "worker_nodes": "node types: `available_node_types`",
    "min_workers": "`min_workers` of a node type",
}
# Keys without which Ray stops with a traceback, or later on the cloud, though its schema does not
# ask for them.
NEEDED = {
    "aws": ("region",),
    "gcp": ("region", "availability_zone", "project_id"),
    "local": ("head_ip", "worker_ips"),
}
_KINDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping of keys to values",
    "null": "null",
}


def check_schema(read: ClusterFile) -> bool:
    """Add what Ray would refuse; returns whether Ray takes the file, so that the rest of it can be
    looked at.
    """
    before = len(read.findings)
    _check_provider(read)
    for error in sorted(_validator().iter_errors(read.config), key=lambda e: [*map(str, e.path)]):
        _say(read, error)
    if not _problems(read, before):
        _check_shape(read)
    if not _problems(read, before):
        _check_as_ray_does(read)
    return not _problems(read, before)


def _problems(read: ClusterFile, since: int) -> bool:
    return any(finding.level == PROBLEM for finding in read.findings[since:])


def _validator() -> Draft7Validator:
    path = Path(str(ray.autoscaler.__file__)).with_name("ray-schema.json")
    return Draft7Validator(json.loads(path.read_text()))


def _check_provider(read: ClusterFile) -> None:
    if "provider" not in read.config:
        return  # the schema says so
    if not isinstance(read.config["provider"], dict) or "type" not in read.provider:
        return
    if read.kind not in PROVIDERS:
        read.say(
            PROBLEM,
            ("provider", "type"),
            f"Ray has no provider {read.kind!r}{hint_at(read.kind, PROVIDERS)}",
            f"Choose one of {', '.join(PROVIDERS)}.",
        )
        return
    for key in NEEDED.get(read.kind, ()):
        managed = key in ("head_ip", "worker_ips") and "coordinator_address" in read.provider
        if not managed and read.provider.get(key) in (None, "", []):
            read.say(
                PROBLEM,
                ("provider", key),
                f"provider {read.kind} has no `{key}`, without which `ray up` ends",
                f"Add `{key}` under `provider`.",
            )


def _say(read: ClusterFile, error: ValidationError) -> None:
    where: Where = tuple(error.absolute_path)
    rule, wanted, value = error.validator, error.validator_value, error.instance
    if rule == "additionalProperties":
        _say_unknown(read, where, error)
    elif rule == "required":
        _say_missing(read, where, error)
    elif rule == "type":
        kinds = [wanted] if isinstance(wanted, str) else list(wanted)
        due = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
        read.say(PROBLEM, where, f"this must be {due}, and is {_kind(value)}", _retype(value, due))
    elif rule == "minimum":
        read.say(PROBLEM, where, f"this must be at least {wanted}, and is {value}", "Raise it.")
    else:
        read.say(PROBLEM, where, error.message, "Ray's schema asks for it.")


def _say_unknown(read: ClusterFile, where: Where, error: ValidationError) -> None:
    known = list(error.schema.get("properties", {}))
    for key in error.instance:
        if key in known:
            continue
        if not where and key in LEGACY:
            if key == "min_workers":  # of the local provider it counts; of others Ray drops it
                if read.kind != "local":
                    read.say(
                        WARNING,
                        (key,),
                        "Ray drops this `min_workers` and starts no worker for it",
                        f"Write {LEGACY[key]}.",
                    )
                continue
            advice = f"Cluster files of Ray 2 have {LEGACY[key]}."
            read.say(PROBLEM, (key,), f"`{key}` was of Ray 1", advice)
            continue
        read.say(
            PROBLEM,
            (*where, str(key)),
            f"Ray knows no key `{key}` here{hint_at(str(key), known)}",
            f"Known here: {', '.join(sorted(known))}.",
        )


def _say_missing(read: ClusterFile, where: Where, error: ValidationError) -> None:
    for key in error.validator_value:  # type: ignore[union-attr]
        if key in error.instance:
            continue
        if where and where[0] == "available_node_types" and key == "resources":
            if read.kind == "aws":  # Ray asks AWS what the machine has
                continue
            advice = "Write what the machine has, as in `resources: {CPU: 48, GPU: 4}`."
        elif key == "cluster_name":
            advice = "Name the cluster: clusters of one name and region are one cluster."
        else:
            advice = "Add it; ray_cluster.yaml has one to look at."
        read.say(PROBLEM, where, f"there is no `{key}`, which Ray needs", advice)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {shown(value)}"
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _retype(value: Any, due: str) -> str:
    if value is None:
        return "Write a value after the colon, or take the key out."
    if isinstance(value, str) and "number" in due:
        return "Write the number without quotes and without a unit."
    return f"Write {due}."


# --- What Ray's checks are of, in other words -----------------------------------------------------


def _check_shape(read: ClusterFile) -> None:
    types = read.node_types
    if types and read.kind == "local":
        text = "machines that are there already have no node types"
        advice = "Take `available_node_types` out; `head_ip` and `worker_ips` list them."
        read.say(PROBLEM, ("available_node_types",), text, advice)
        return
    if types and "head_node_type" not in read.config:
        text = "there is no `head_node_type`, which says which of the node types is the head"
        read.say(PROBLEM, ("available_node_types",), text, f"Name one of {', '.join(types)}.")
    elif types and read.head not in types:
        text = f"{read.head!r} is none of the node types{hint_at(read.head, types)}"
        read.say(PROBLEM, ("head_node_type",), text, f"Name one of {', '.join(types)}.")
    least = sum(node.get("min_workers", 0) for node in types.values())
    most = read.config.get("max_workers", 2)  # 2 is Ray's default
    if least > most:
        text = f"the node types start {least} workers at least, and all may be {most}"
        read.say(PROBLEM, ("max_workers",), text, "Raise it, or lower a `min_workers`.")
    docker = section(read.config, "docker")
    image = docker.get("image") or (docker.get("head_image") and docker.get("worker_image"))
    if image and not docker.get("container_name"):
        text = "an image is named and no `container_name`"
        read.say(PROBLEM, ("docker",), text, "Add one, such as `container_name: ray`.")
    elif docker.get("container_name") and not image:
        text = "a container is named, and no image for both head and workers"
        read.say(PROBLEM, ("docker",), text, "Add `image`, or take `docker` out.")
    _check_zones(read)


def _check_zones(read: ClusterFile) -> None:
    region, zones = read.provider.get("region"), read.provider.get("availability_zone")
    if not region or not isinstance(zones, str) or read.kind not in ("aws", "gcp"):
        return
    for zone in filter(None, (part.strip() for part in zones.split(","))):
        if not zone.startswith(region):
            text = f"{zone} is no zone of region {region}"
            read.say(PROBLEM, ("provider", "availability_zone"), text, "Name zones of it.")


# --- Ray's own checks -----------------------------------------------------------------------------


def _check_as_ray_does(read: ClusterFile) -> None:
    """Have Ray fill in its defaults and check the file, as `ray up` does before it asks a cloud."""
    config = copy.deepcopy(read.config)
    if read.kind == "aws":
        for node in section(config, "available_node_types").values():
            node.setdefault("resources", {})
    try:
        with _quiet() as printed:
            prepared = prepare_config(config)
            validate_config(prepared)
    except ValidationError as error:
        _say(read, error)
    except click.ClickException as error:
        read.say(PROBLEM, _named(read, str(error)), _said(printed.getvalue(), error), _LOOK)
    except (ValueError, RuntimeError, AssertionError) as error:
        read.say(PROBLEM, _named(read, str(error)), " ".join(str(error).split()), _LOOK)
    except (KeyError, AttributeError, TypeError) as error:
        text = f"Ray cannot read the file as it is ({type(error).__name__}: {error})"
        read.say(PROBLEM, (), text, _LOOK)
    else:
        if "ssh_user" not in section(prepared, "auth"):
            advice = "Write `auth: {ssh_user: ubuntu}`, or whoever the image lets in."
            read.say(PROBLEM, ("auth",), "there is no `ssh_user` to log in with", advice)


_LOOK = "This is what Ray says of it; ray_cluster.yaml has a file that it takes."


def _said(printed: str, error: click.ClickException) -> str:
    """What Ray printed before it stopped, without its decoration."""
    text = " ".join(printed.split()) or error.message
    return text.partition("PANIC")[2].strip(" :") or text


def _named(read: ClusterFile, message: str) -> Where:
    """The top-level key that a message names, the longest first."""
    named = [key for key in read.config if f"`{key}`" in message or f" {key} " in message]
    return (max(named, key=len),) if named else ()


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    printed, logger = io.StringIO(), logging.getLogger("ray.autoscaler")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield printed
    finally:
        logger.setLevel(level)
