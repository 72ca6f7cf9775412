"""What only AWS knows of a cluster file: whether machines, roles, buckets and quotas are there.
Reads, makes nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from vididi.cluster.check.cluster_file import NOTE, PROBLEM, WARNING, ClusterFile, section
from vididi.cluster.check.node_types import Node, nodes_of

# EC2's quotas of vCPUs by the first letters of a family, as their names begin in Service Quotas: on
# demand, and spot.
_QUOTAS = {
    ("g", "gr", "vt"): ("Running On-Demand G and VT", "All G and VT Spot"),
    ("p",): ("Running On-Demand P ", "All P"),
    ("inf",): ("Running On-Demand Inf", "All Inf Spot"),
    ("trn",): ("Running On-Demand Trn", "All Trn Spot"),
    ("a", "c", "d", "h", "i", "m", "r", "t", "z"): (
        "Running On-Demand Standard",
        "All Standard",
    ),
}


def ask(read: ClusterFile, buckets: list[str], session: Any = None) -> None:
    """Add what AWS says. Needs boto3 and credentials.

    Args:
        buckets: names of buckets that the nodes are to use.
        session: of boto3; by default one of the file's region.
    """
    if read.kind != "aws":
        text = "--ask knows AWS alone; nothing was asked"
        read.say(NOTE, ("provider", "type"), text)
        return
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return  # said already
    session = session or boto3.Session(region_name=read.provider.get("region"))
    for question in (_identity, _machines, _profiles, _buckets):
        try:
            if question is _buckets:
                _buckets(read, session, buckets)
            else:
                question(read, session)  # type: ignore[call-arg]
        except (BotoCoreError, ClientError) as error:
            about = question.__name__.strip("_")
            read.say(
                PROBLEM if question is _identity else WARNING,
                ("provider",),
                f"AWS did not tell of {about}: {' '.join(str(error).split())}",
                "Look at credentials, region and permissions.",
            )
            if question is _identity:
                return


def _identity(read: ClusterFile, session: Any) -> None:
    known = session.client("sts").get_caller_identity()
    read.say(NOTE, ("provider",), f"AWS knows you as {known['Arn']}")


def _machines(read: ClusterFile, session: Any) -> None:
    nodes = [node for node in nodes_of(read) if node.machine]
    ec2 = session.client("ec2")
    names = sorted({node.machine for node in nodes})
    found: dict[str, Any] = {}
    pages = ec2.get_paginator("describe_instance_types").paginate(
        Filters=[{"Name": "instance-type", "Values": names}]
    )
    for page in pages:
        found |= {one["InstanceType"]: one for one in page["InstanceTypes"]}
    offered = ec2.describe_instance_type_offerings(
        Filters=[{"Name": "instance-type", "Values": names}]
    )
    there = {one["InstanceType"] for one in offered["InstanceTypeOfferings"]}
    for node in nodes:
        if node.machine not in found or node.machine not in there:
            read.say(
                PROBLEM,
                ("available_node_types", node.name, "node_config", "InstanceType"),
                f"{read.provider.get('region')} has no machines {node.machine}",
                "Take another region or machine.",
            )
    cpus = {name: one["VCpuInfo"]["DefaultVCpus"] for name, one in found.items()}
    _quotas(read, session, nodes, cpus)


def _profiles(read: ClusterFile, session: Any) -> None:
    from botocore.exceptions import ClientError

    iam = session.client("iam")
    for name, node in read.node_types.items():
        profile = section(section(node, "node_config"), "IamInstanceProfile").get("Name")
        if not profile:
            continue
        where = ("available_node_types", name, "node_config", "IamInstanceProfile")
        try:
            got = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            text = f"your account has no instance profile {profile}"
            read.say(PROBLEM, where, text, "Make it: docs/cluster.md, Roles.")
            continue
        if not got["Roles"]:
            read.say(PROBLEM, where, f"instance profile {profile} has no role", "Add one to it.")


def _buckets(read: ClusterFile, session: Any, buckets: list[str]) -> None:
    from botocore.exceptions import ClientError

    for bucket in buckets:
        try:
            session.client("s3").head_bucket(Bucket=bucket)
        except ClientError as error:
            said = {"404": "there is no bucket", "403": "you may not use the bucket"}
            told = said.get(error.response["Error"]["Code"])
            if told is None:
                raise
            read.say(PROBLEM, (), f"{told} {bucket}", "Make it, or correct its name.")


# --- Quotas ---------------------------------------------------------------------------------------


def quota_names(machine: str, spot: bool) -> str:
    """How the name of the quota begins that a machine's vCPUs count against; empty if none is
    known.
    """
    family = machine.partition(".")[0]
    letters = family[: next((i for i, c in enumerate(family) if c.isdigit()), len(family))]
    for families, names in _QUOTAS.items():
        if letters in families:
            return names[spot]
    return ""


def _quotas(read: ClusterFile, session: Any, nodes: list[Node], cpus: dict[str, int]) -> None:
    wanted: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        if node.at_most and node.machine in cpus and (name := quota_names(node.machine, node.spot)):
            wanted[name].append(node)
    quotas = list(_listed(read, session))
    for name, group in wanted.items():
        values = [quota["Value"] for quota in quotas if quota["QuotaName"].startswith(name)]
        if not values:
            text = f"no quota that begins with {name!r} was told"
            read.say(NOTE, ("provider",), text, "Look at Service Quotas, EC2, in AWS's console.")
            continue
        value = max(values)
        one = min(cpus[node.machine] for node in group)
        most = sum(cpus[node.machine] * node.at_most for node in group)
        where = ("available_node_types", group[-1].name)
        have = f"your quota {name!r} is {value:g} vCPUs"
        if value < one:
            text = f"{have}, and one {group[0].machine} has {one}"
            read.say(PROBLEM, where, text, "Ask for more in Service Quotas; it takes days.")
        elif value < most:
            fit = math.floor(value / one)
            text = f"{have}, which is {fit} of up to {sum(n.at_most for n in group)} machines"
            read.say(WARNING, where, text, "Ask for more, or lower `max_workers`.")


def _listed(read: ClusterFile, session: Any) -> Iterator[dict[str, Any]]:
    from botocore.exceptions import BotoCoreError, ClientError

    quotas = session.client("service-quotas")
    token: dict[str, str] = {}
    try:
        while True:
            page = quotas.list_service_quotas(ServiceCode="ec2", **token)
            yield from page["Quotas"]
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}
    except (BotoCoreError, ClientError) as error:
        text = f"AWS did not tell your quotas: {' '.join(str(error).split())}"
        read.say(WARNING, ("provider",), text, "Allow servicequotas:ListServiceQuotas.")
