"""Finds and removes runs' leftovers in an AWS account by the names and tags of their stacks, without a ledger."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from mlscale.host.ledger import ledger_paths, read_ledger
from mlscale_aws.account import Account
from mlscale_aws.environment import KIND
from mlscale_aws.stack import EXPIRES, OWNER, PREFIX, RUN, delete, owner


def cleanup() -> list[str]:
    """`remove_leftovers` in the account of the current credentials (the entry point of ``mlscale cleanup --aws``)."""
    ledgers = filter(None, map(read_ledger, ledger_paths()))
    entries = [entry for ledger in ledgers for entry in ledger.open_entries]
    return remove_leftovers(Account(), {str(entry.identity["stack"]) for entry in entries if entry.kind == KIND})


def remove_leftovers(account: Account, living: Collection[str]) -> list[str]:
    """Delete stacks of runs: one's own that no run on this machine is using, and others' that should have expired.

    Args:
        living: stacks that runs on this machine are using.
    Returns:
        A line for each deleted stack, and for each expired tagged resource whose stack is gone.
    Raises:
        MlscaleError: a stack could not be deleted.
    """
    report, kept, me = list[str](), set[str](), owner(account)
    for stack in account.listed("cloudformation", "describe_stacks", "Stacks"):
        name = str(stack["StackName"])
        tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", ())}
        removable = tags.get(OWNER) == me or (EXPIRES in tags and _has_expired(account, tags[EXPIRES]))
        if not name.startswith(PREFIX):
            continue
        if name in living or not removable:
            kept.add(name)
        else:
            delete(account, name)
            report.append(f"removed {KIND}: {name} in {account.region}")
    tagged = account.listed(
        "resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", TagFilters=[{"Key": RUN}]
    )
    for resource in tagged:
        tags = {tag["Key"]: tag["Value"] for tag in resource.get("Tags", ())}
        if tags.get(RUN) not in kept and _has_expired(account, tags.get(EXPIRES, "")):
            report.append(f"still tagged, though its stack is gone: {resource['ResourceARN']}")
    return report


def _has_expired(account: Account, expires: str) -> bool:
    """Of tagged resources, only expired ones count, since the tagging API lists deleted ones for a while."""
    try:
        return datetime.fromisoformat(expires).timestamp() < account.now()
    except ValueError:
        return True
