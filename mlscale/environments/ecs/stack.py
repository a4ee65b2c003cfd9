"""One run as one CloudFormation stack: proposed, created, deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import WaiterError

from mlscale.environments.ecs.account import Account, explained, is_gone
from mlscale.runs import MlscaleError

PREFIX: Final = "mlscale-run-"
GUARD: Final = "mlscale-guard"
_POLL_S: Final = 5
_CREATED_S: Final = 900
_DELETED_S: Final = 1800
_CHANGE_SET: Final = "create"
_FAILED: Final = frozenset({"CREATE_FAILED", "DELETE_FAILED"})


@dataclass(frozen=True)
class Guard:
    """What the account's guard (cloud/guard.yaml) provides."""

    cloudformation_role: str
    scheduler_role: str
    execution_role: str


@dataclass(frozen=True)
class Plan:
    """A stack that is to be."""

    name: str
    template: str
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    role: str


def read_guard(account: Account) -> Guard:
    """The guard's roles.

    Raises:
        MlscaleError: the account has no guard in this region.
    """
    try:
        found = outputs(account, GUARD)
        return Guard(found["CloudFormationRoleArn"], found["SchedulerRoleArn"], found["ExecutionRoleArn"])
    except (MlscaleError, KeyError) as error:
        if isinstance(error, MlscaleError) and not is_gone(error):
            raise
        remedy = (
            f"aws cloudformation deploy --stack-name {GUARD} --template-file cloud/guard.yaml "
            "--capabilities CAPABILITY_NAMED_IAM"
        )
        raise MlscaleError("the account has no guard, or an old one", f"stack {GUARD}", remedy) from error


def propose(account: Account, plan: Plan) -> list[tuple[str, str]]:
    """Make the change set that creates the stack; nothing is created yet but the stack's name.

    Returns:
        (logical name, type) of every resource.
    Raises:
        MlscaleError: CloudFormation refuses it.
    """
    account.call(
        "cloudformation",
        "create_change_set",
        StackName=plan.name,
        ChangeSetName=_CHANGE_SET,
        ChangeSetType="CREATE",
        TemplateBody=plan.template,
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in plan.parameters.items()],
        Tags=[{"Key": key, "Value": value} for key, value in plan.tags.items()],
        RoleARN=plan.role,
    )
    _wait(account, "change_set_create_complete", 120, StackName=plan.name, ChangeSetName=_CHANGE_SET)
    named = {"StackName": plan.name, "ChangeSetName": _CHANGE_SET}
    changes = account.listed("cloudformation", "describe_change_set", "Changes", **named)
    resources = [change["ResourceChange"] for change in changes]
    return [(str(each["LogicalResourceId"]), str(each["ResourceType"])) for each in resources]


def create(account: Account, name: str) -> dict[str, str]:
    """Carry the change set out, and wait until everything is there; returns the stack's outputs.

    Raises:
        MlscaleError: a resource could not be made; the stack is then still to be deleted.
    """
    account.call(
        "cloudformation", "execute_change_set", StackName=name, ChangeSetName=_CHANGE_SET, DisableRollback=True
    )
    _wait(account, "stack_create_complete", _CREATED_S, StackName=name)
    return outputs(account, name)


def delete(account: Account, name: str) -> None:
    """Delete the stack and wait until it is gone. One that is not there is gone.

    Raises:
        MlscaleError: something of it can't be deleted; its own schedule goes on trying.
    """
    account.call("cloudformation", "delete_stack", StackName=name)
    _wait(account, "stack_delete_complete", _DELETED_S, StackName=name)


def outputs(account: Account, name: str) -> dict[str, str]:
    """Of a stack. Raises MlscaleError where there is none."""
    (found,) = account.call("cloudformation", "describe_stacks", StackName=name)["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", ())}


def left_over(account: Account) -> list[str]:
    """Names of the stacks of runs that exist."""
    stacks = account.listed("cloudformation", "describe_stacks", "Stacks")
    return sorted(str(each["StackName"]) for each in stacks if str(each["StackName"]).startswith(PREFIX))


def _wait(account: Account, what: str, at_most_s: int, **named: str) -> None:
    """Raises MlscaleError, with the first event of the stack that failed."""
    waiter = account.client("cloudformation").get_waiter(what)
    try:
        with explained(f"stack {named['StackName']}"):
            waiter.wait(**named, WaiterConfig={"Delay": _POLL_S, "MaxAttempts": at_most_s // _POLL_S})
    except MlscaleError as error:
        if not isinstance(error.__cause__, WaiterError):
            raise
        failed = _first_failure(account, named["StackName"]) or _reason(error.__cause__) or error.what
        raise MlscaleError(
            failed, f"stack {named['StackName']}", "see its events in the CloudFormation console"
        ) from error


def _first_failure(account: Account, name: str) -> str:
    """The oldest failure's resource and reason; empty where there is none."""
    try:
        events: Sequence[Mapping[str, Any]] = account.listed(
            "cloudformation", "describe_stack_events", "StackEvents", StackName=name
        )
    except MlscaleError:
        return ""
    failures = [event for event in events if event.get("ResourceStatus") in _FAILED]
    if not failures:
        return ""
    first = min(failures, key=lambda event: event["Timestamp"])
    return f"{first['LogicalResourceId']} ({first['ResourceStatus']}): {first.get('ResourceStatusReason', 'no reason')}"


def _reason(error: WaiterError) -> str:
    """What a change set's answer says of its failure."""
    found = error.last_response or {}
    return str(found.get("StatusReason", ""))
