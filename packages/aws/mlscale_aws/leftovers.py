"""Finds and removes runs' leftovers in an AWS account by the names and tags of their stacks, without a ledger."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from mlscale.host.ledger import ledger_paths, read_ledger
from mlscale.runs import MlscaleError
from mlscale_aws.account import Account
from mlscale_aws.environment import KIND
from mlscale_aws.stack import EXPIRES, OWNER, PREFIX, RUN, delete, owner


def cleanup() -> list[str]:
    """`remove_leftovers` in the account of the current credentials (the entry point of ``mlscale cleanup --aws``), in
    their region and in each that a ledger here names."""
    ledgers = list(filter(None, map(read_ledger, ledger_paths())))
    stacks = [(ledger, entry.identity) for ledger in ledgers for entry in ledger.open_entries if entry.kind == KIND]
    living = {str(identity["stack"]) for ledger, identity in stacks if ledger.owner.alive()}
    report, failures = list[str](), list[MlscaleError]()
    for region in sorted({Account().region, *(str(identity["region"]) for _, identity in stacks)}):
        try:
            report += remove_leftovers(Account(region), living)
        except MlscaleError as error:
            failures.append(error)
    _raise_all(failures)
    return report


def remove_leftovers(account: Account, living: Collection[str]) -> list[str]:
    """Delete stacks of runs: one's own that no run on this machine is using, and others' that should have expired.

    Args:
        living: stacks that runs on this machine are using.
    Returns:
        A line for each deleted stack, for each that nobody's tags claim (of EKS, docs/aws.md), and for each expired
        tagged resource whose stack is gone.
    Raises:
        MlscaleError: a stack could not be deleted (the others were).
    """
    report, kept, me = list[str](), set[str](), owner(account)
    failures: list[MlscaleError] = []
    for stack in account.listed("cloudformation", "describe_stacks", "Stacks"):
        name = str(stack["StackName"])
        if not name.startswith(PREFIX):
            continue
        tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", ())}
        given = {each["ParameterKey"]: each.get("ParameterValue", "") for each in stack.get("Parameters", ())}
        expires = given.get("ExpiresAt", "")
        removable = tags.get(OWNER) == me or (expires != "" and _has_expired(account, expires))
        if name in living or not removable:
            kept.add(name)
            if OWNER not in tags:
                report.append(f"not removed, since nobody's: {name} in {account.region}, expires {expires or 'never'}")
        else:
            try:
                delete(account, name, expires or "its expiry")
                report.append(f"removed {KIND}: {name} in {account.region}")
            except MlscaleError as error:
                failures.append(error)
    _raise_all(failures)
    tagged = account.listed(
        "resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", TagFilters=[{"Key": RUN}]
    )
    for resource in tagged:
        tags = {tag["Key"]: tag["Value"] for tag in resource.get("Tags", ())}
        # Task definitions stay for ever, INACTIVE and free of charge (ECS's DeregisterTaskDefinition).
        lasting = ":task-definition/" in resource["ResourceARN"]
        if not lasting and tags.get(RUN) not in kept and _has_expired(account, tags.get(EXPIRES, "")):
            report.append(f"still tagged, though its stack is gone: {resource['ResourceARN']}")
    return report


def _raise_all(failures: Sequence[MlscaleError]) -> None:
    if failures:
        first, *others = failures
        raise MlscaleError("; ".join([first.what, *map(str, others)]), first.where, first.remedy)


def _has_expired(account: Account, expires: str) -> bool:
    """Of tagged resources, only expired ones count, since the tagging API lists deleted ones for a while."""
    try:
        return datetime.fromisoformat(expires).timestamp() < account.now()
    except ValueError:
        return True
