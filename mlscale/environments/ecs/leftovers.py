"""What runs have left in an AWS account, found without a ledger: by their stacks' names and their tags."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from mlscale.environments.ecs import owner, remove
from mlscale.environments.ecs.account import Account
from mlscale.environments.ecs.stack import PREFIX

RUN, OWNER, EXPIRES = "mlscale:run", "mlscale:owner", "mlscale:expires"


def remove_leftovers(account: Account, living: Collection[str]) -> list[str]:
    """Delete this user's stacks of runs that have expired, or that no run on this machine is using.

    Args:
        living: stacks that runs on this machine are using.
    Returns:
        A line for each stack that was deleted, and for each resource that is still tagged as a run's whose stack is
        gone.
    Raises:
        MlscaleError: a stack could not be deleted.
    """
    said = []
    for stack in account.listed("cloudformation", "describe_stacks", "Stacks"):
        name = str(stack["StackName"])
        tags = {each["Key"]: each["Value"] for each in stack.get("Tags", ())}
        if not name.startswith(PREFIX) or name in living or tags.get(OWNER) != owner():
            continue
        remove(account, name)
        said.append(f"removed aws-stack: {name} in {account.region}")
    left = {str(each["StackName"]) for each in account.listed("cloudformation", "describe_stacks", "Stacks")}
    tagged = account.listed(
        "resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", TagFilters=[{"Key": RUN}]
    )
    for resource in tagged:
        tags = {each["Key"]: each["Value"] for each in resource.get("Tags", ())}
        if tags.get(RUN) not in left and _is_over(tags.get(EXPIRES, "")):
            said.append(f"still tagged, though its stack is gone: {resource['ResourceARN']}")
    return said


def _is_over(expires: str) -> bool:
    """The tagging API forgets deleted resources late: only what has expired counts."""
    try:
        return datetime.fromisoformat(expires) < datetime.now(UTC)
    except ValueError:
        return True
