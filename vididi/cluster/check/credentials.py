"""What `ray up` needs of this machine: keys, credentials, a token, programs and files. Looked for
without the network.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from vididi.cluster.check.cluster_file import (
    NOTE,
    PROBLEM,
    WARNING,
    ClusterFile,
    Where,
    on_this_machine,
    section,
)

TOKEN = ".ray/auth_token"
OLD_AUTOSCALER = "RAY_UP_enable_autoscaler_v2"  # Ray's own spelling


def check_machine(read: ClusterFile) -> None:
    """Add what is missing on this machine."""
    for program in ("ssh", "rsync"):
        if shutil.which(program) is None:
            read.say(PROBLEM, (), f"`{program}` is not installed here", f"Install {program}.")
    _check_key(read)
    _check_file_mounts(read)
    _check_token(read)
    if read.kind == "aws":
        _check_aws(read)
    elif read.kind == "gcp":
        _check_gcp(read)
    elif read.kind == "local":
        _check_addresses(read)
    elif read.kind:
        read.say(NOTE, ("provider",), f"credentials of {read.kind} are not looked for here")


# --- SSH ------------------------------------------------------------------------------------------


def _check_key(read: ClusterFile) -> None:
    auth = section(read.config, "auth")
    key, where = auth.get("ssh_private_key"), ("auth", "ssh_private_key")
    if not isinstance(key, str):
        if read.kind == "local":
            text = "without a key, the head cannot log in to the workers"
            read.say(WARNING, ("auth",), text, "Name a key that lets into all machines.")
        return
    path = on_this_machine(key)
    if not path.is_file():
        text = f"there is no key {key}" if not path.exists() else f"{key} is no file"
        advice = f"Name one that is there, or make it: ssh-keygen -t ed25519 -f {key}"
        read.say(PROBLEM, where, text, advice)
        return
    if (mode := path.stat().st_mode & 0o777) & 0o077:
        text = f"{key} has mode {mode:o}, and ssh refuses a key that others may read"
        read.say(PROBLEM, where, text, f"chmod 600 {key}")
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        read.say(PROBLEM, where, f"{key} cannot be read as a key", "Name a private key.")
        return
    _check_content(read, where, key, content)
    if read.kind == "aws":
        _check_key_names(read)


def _check_content(read: ClusterFile, where: Where, key: str, content: str) -> None:
    if content.startswith(("ssh-", "ecdsa-", "sk-")):
        text = f"{key} is the public half of a key"
        read.say(PROBLEM, where, text, f"Name the private half: {key.removesuffix('.pub')}")
    elif "PRIVATE KEY" not in content:
        read.say(PROBLEM, where, f"{key} is no private key", "Name one.")
    elif _has_passphrase(content):
        text = f"{key} has a passphrase, which nobody types on the head"
        read.say(WARNING, where, text, "Take a key without one for the cluster.")


def _has_passphrase(content: str) -> bool:
    if "ENCRYPTED" in content:
        return True
    if "OPENSSH" not in content:
        return False
    try:  # magic, then the length and name of the cipher
        raw = base64.b64decode("".join(content.splitlines()[1:-1]))
    except ValueError:
        return False
    magic = b"openssh-key-v1\0"
    return raw.startswith(magic) and raw[len(magic) + 4 :][:4] != b"none"


def _check_key_names(read: ClusterFile) -> None:
    for name, node in read.node_types.items():
        config = section(node, "node_config")
        if "KeyName" not in config and "UserData" not in config:
            read.say(
                PROBLEM,
                ("available_node_types", name, "node_config"),
                f"`auth` names a key, and node type `{name}` has no `KeyName`",
                "Write the name that the key pair has in EC2; or take `ssh_private_key` out, and"
                " Ray makes a pair.",
            )


# --- Files and token ------------------------------------------------------------------------------


def _check_file_mounts(read: ClusterFile) -> None:
    user = str(section(read.config, "auth").get("ssh_user", "ubuntu"))
    for target, source in section(read.config, "file_mounts").items():
        where = ("file_mounts", str(target))
        if not isinstance(source, str):
            read.say(PROBLEM, where, "a mount names a file or folder of this machine", "Name it.")
            continue
        if not on_this_machine(source).exists() and not str(target).endswith(TOKEN):
            text = f"there is no {source} here, which is to travel to the nodes"
            read.say(PROBLEM, where, text, "Paths are from where `ray up` is started.")
        home = re.match(r"/home/([^/]+)/", str(target))
        if home and home[1] != user:
            text = f"this goes to the home of {home[1]}, and `ssh_user` is {user}"
            read.say(PROBLEM, where, text, f"Write /home/{user}/, here and in the commands.")
        if source in (".", "./") and not Path("run_sweep.py").is_file():
            text = f"the working folder ({Path.cwd()}) travels, and it is no clone of vididi"
            read.say(PROBLEM, where, text, "Start in the root of a clone.")
        elif source in (".", "./") and Path(".venv").is_dir():
            text = "`ray up` reads all of .venv here before it copies anything"
            read.say(WARNING, where, text, "Start in a clone without a .venv.")


def _check_token(read: ClusterFile) -> None:
    starts = {
        key: [where for where, text in read.commands(key) if _starts_with_token(text)]
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
    }
    head, worker = starts.values()
    if not head:
        if read.config.get("head_start_ray_commands"):
            text = "Ray starts without a token, and who reaches its ports can run code there"
            advice = "Write RAY_AUTH_MODE=token before `ray start`, as ray_cluster.yaml does."
            read.say(WARNING, ("head_start_ray_commands",), text, advice)
        return
    if not worker and read.config.get("worker_start_ray_commands"):
        text = "the head asks for a token, and workers start without RAY_AUTH_MODE=token"
        read.say(PROBLEM, ("worker_start_ray_commands",), text, "Write it before `ray start`.")
    mounts = section(read.config, "file_mounts")
    mounted = {target: source for target, source in mounts.items() if str(target).endswith(TOKEN)}
    if not mounted:
        text = "Ray asks for a token, and none travels to the nodes"
        advice = f"Mount it, as in /home/ubuntu/{TOKEN}: ~/{TOKEN}"
        read.say(PROBLEM, ("file_mounts",), text, advice)
    for target, source in mounted.items():
        path, where = on_this_machine(str(source)), ("file_mounts", str(target))
        generate = "Make one: ray get-auth-token --generate"
        if not path.is_file():
            read.say(PROBLEM, where, f"there is no token at {source} yet", generate)
        elif not path.read_bytes().strip():
            read.say(PROBLEM, where, f"the token at {source} is empty", generate)
        elif path.stat().st_mode & 0o077:
            text = f"others on this machine may read the token at {source}"
            read.say(WARNING, where, text, f"chmod 600 {source}")


def _starts_with_token(command: str) -> bool:
    return "ray start" in command and "RAY_AUTH_MODE=token" in command.partition("ray start")[0]


# --- Clouds ---------------------------------------------------------------------------------------


def _check_aws(read: ClusterFile) -> None:
    where = ("provider", "type")
    if importlib.util.find_spec("boto3") is None:
        read.say(
            PROBLEM, where, "boto3 is not installed, by which Ray asks AWS", "pip install boto3"
        )
        return
    if section(read.provider, "aws_credentials"):
        return
    from botocore.credentials import create_credential_resolver
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    login = "Give them: aws configure, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    try:
        resolver = create_credential_resolver(Session())
        # These ask the network; on a machine of AWS's they may find something.
        for name in ("iam-role", "container-role"):
            resolver.remove(name)
        found = resolver.load_credentials()
    except BotoCoreError as error:
        read.say(PROBLEM, where, f"AWS credentials here: {_sentence(error)}", login)
        return
    if found is None and not Path("/sys/hypervisor/uuid").exists() and not _on_ec2():
        read.say(PROBLEM, where, "there are no AWS credentials on this machine", login)


def _on_ec2() -> bool:
    """Whether this machine is of EC2, whose role Ray would find by the network."""
    vendor = Path("/sys/devices/virtual/dmi/id/board_vendor")
    return vendor.is_file() and "Amazon" in vendor.read_text(errors="replace")


def _check_gcp(read: ClusterFile) -> None:
    where = ("provider", "type")
    if importlib.util.find_spec("googleapiclient") is None:
        text = "google-api-python-client is not installed, by which Ray asks Google Cloud"
        read.say(PROBLEM, where, text, "pip install google-api-python-client")
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name := str(read.config.get("cluster_name"))):
        text = f"{name!r} cannot be a label of Google Cloud"
        advice = "Take small letters, digits, - and _, a letter first."
        read.say(PROBLEM, ("cluster_name",), text, advice)
    if "gcp_credentials" in read.provider:
        return
    login = "gcloud auth application-default login"
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    config = os.environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud"
    path = on_this_machine(named or f"{config}/application_default_credentials.json")
    if not path.is_file():
        text = f"there are no Google Cloud credentials: {path} is not there"
        source = "GOOGLE_APPLICATION_CREDENTIALS names it. " if named else ""
        read.say(PROBLEM, where, text, f"{source}Make them: {login}")
        return
    try:
        fits = "type" in json.loads(path.read_text())
    except (ValueError, TypeError):
        fits = False
    if not fits:
        read.say(PROBLEM, where, f"{path} is no file of credentials", f"Make it: {login}")


def _sentence(error: Any) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _check_addresses(read: ClusterFile) -> None:
    addresses = read.provider.get("worker_ips")
    listed = [str(address) for address in addresses] if isinstance(addresses, list) else []
    for place, address in enumerate(listed):
        where = ("provider", "worker_ips", place)
        if "FILL" in address:
            continue
        if address in listed[:place]:
            read.say(PROBLEM, where, f"{address} is listed twice", "List each machine once.")
        if address == read.provider.get("head_ip"):
            text = f"{address} is the head too, and one machine runs one Ray of the cluster"
            read.say(PROBLEM, where, text, "Take it out here, or make another the head.")
    if os.environ.get(OLD_AUTOSCALER) != "0":
        read.say(
            WARNING,
            ("provider", "type"),
            "version 2 of Ray's autoscaler, the default, starts no worker of this provider",
            f"export {OLD_AUTOSCALER}=0 before `ray up`.",
        )
