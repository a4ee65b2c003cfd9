"""The CloudFormation stack of a run: plan, propose, create, delete."""

from __future__ import annotations

import getpass
import platform
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore.exceptions import WaiterError

from mlscale.environments.base import App
from mlscale.runs import MlscaleError
from mlscale_aws.account import CLOUD, Account, explained, is_gone
from mlscale_aws.observation import SERVICE, TASKS_PER_CALL, stop_reason
from mlscale_aws.settings import EcsScaling

PREFIX: Final = "mlscale-run-"
GUARD: Final = "mlscale-guard"
# Tags of everything in a stack.
RUN, OWNER, EXPIRES = "mlscale:run", "mlscale:owner", "mlscale:expires"
_POLL_S: Final = 5
_CREATED_S: Final = 900
_DELETED_S: Final = 1800
_CHANGE_SET: Final = "create"
# Statuses of stacks that are not deleted (a run's is never updated).
_THERE: Final = [
    "REVIEW_IN_PROGRESS",
    *(f"{what}_IN_PROGRESS" for what in ("CREATE", "ROLLBACK", "DELETE")),
    *(f"{what}_FAILED" for what in ("CREATE", "ROLLBACK", "DELETE")),
    *(f"{what}_COMPLETE" for what in ("CREATE", "ROLLBACK")),
]


@dataclass(frozen=True)
class Guard:
    """The roles that the account's guard (guard.yaml) provides."""

    cloudformation_role: str
    scheduler_role: str
    execution_role: str


@dataclass(frozen=True)
class Plan:
    """A stack to create."""

    name: str
    template: str
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    role: str
    expires_at: str


def read_guard(account: Account) -> Guard:
    """The guard's roles.

    Raises:
        MlscaleError: the account has no guard in this region.
    """
    try:
        roles = outputs(account, GUARD)
        return Guard(roles["CloudFormationRoleArn"], roles["SchedulerRoleArn"], roles["ExecutionRoleArn"])
    except (MlscaleError, KeyError) as error:
        if isinstance(error, MlscaleError) and not is_gone(error):
            raise
        remedy = (
            f"aws cloudformation deploy --stack-name {GUARD} --template-file {CLOUD / 'guard.yaml'} "
            "--capabilities CAPABILITY_NAMED_IAM"
        )
        raise MlscaleError("the account has no guard, or an old one", f"stack {GUARD}", remedy) from error


def plan(app: App, scaling: EcsScaling, guard: Guard, account: Account) -> Plan:
    """The stack of a run, which deletes itself ``lifetime_min`` from now."""
    expires = datetime.fromtimestamp(account.now(), UTC) + timedelta(minutes=scaling.lifetime_min)
    expires_at = f"{expires:%Y-%m-%dT%H:%M:%SZ}"
    name = f"{PREFIX}{uuid.uuid4().hex[:10]}"
    parameters = {
        "ExpiresAt": expires_at,
        "SchedulerRoleArn": guard.scheduler_role,
        "ExecutionRoleArn": guard.execution_role,
        "Image": str(scaling.image or app.image),
        "Entry": app.components[0].entry,
        "Waiting": str(scaling.max_waiting),
        "TaskCpu": str(round(1024 * scaling.cpu_cores)),
        "TaskMemory": str(scaling.memory_mib),
        "MinTasks": str(scaling.min_replicas),
        "MaxTasks": str(scaling.max_replicas),
        "TargetCpuPercent": f"{scaling.target:g}",
        "MetricPeriod": str(scaling.metric_period_s),
        "ScaleOutCooldown": str(round(scaling.out_cooldown_s)),
        "ScaleInCooldown": str(round(scaling.in_cooldown_s)),
        "LoadCpu": str(round(1024 * scaling.load_cores)),
        "LoadMemory": str(scaling.load_memory_mib),
    }
    tags = {RUN: name, OWNER: owner(account), EXPIRES: expires_at}
    return Plan(name, (CLOUD / "ecs.yaml").read_text(), parameters, tags, guard.cloudformation_role, expires_at)


def owner(account: Account) -> str:
    """The owner in the stacks' tags: user and machine, whose ledgers know the stacks in use, and AWS's name of the
    caller without that of a role's session, which may be made up each time."""
    arn = re.sub(r"(:assumed-role/.*)/.*", r"\1", account.call("sts", "get_caller_identity")["Arn"])
    return re.sub(r"[^\w .:/=+@-]", "_", f"{getpass.getuser()}@{platform.node()} {arn}")[:256]  # what a tag may hold


def propose(account: Account, plan: Plan) -> list[tuple[str, str]]:
    """Create the change set that would create the stack; of the stack, only the name exists then.

    Returns:
        (logical name, type) of every resource.
    Raises:
        MlscaleError: CloudFormation rejects it.
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
        ClientToken=plan.name,  # a request that is repeated, since its answer was lost, is then the same request
    )
    _wait(account, "change_set_create_complete", 120, StackName=plan.name, ChangeSetName=_CHANGE_SET)
    changes = account.listed(
        "cloudformation", "describe_change_set", "Changes", StackName=plan.name, ChangeSetName=_CHANGE_SET
    )
    resources = [change["ResourceChange"] for change in changes]
    return [(str(row["LogicalResourceId"]), str(row["ResourceType"])) for row in resources]


def summary(plan: Plan, resources: Sequence[tuple[str, str]], cost: str) -> str:
    """What is about to be created, for how long, and what it costs."""
    kinds = sorted({kind for _, kind in resources})
    return (
        f"stack {plan.name}: {len(resources)} resources ({', '.join(kinds)})\n"
        f"it deletes itself from {plan.expires_at} on\n{cost}"
    )


def create(account: Account, name: str) -> dict[str, str]:
    """Execute the change set, and wait until everything exists; returns the stack's outputs.

    Raises:
        MlscaleError: a resource could not be created, with why the service's tasks stopped, which no longer shows once
            the stack is deleted; the stack must still be deleted.
    """
    account.call(
        "cloudformation",
        "execute_change_set",
        StackName=name,
        ChangeSetName=_CHANGE_SET,
        DisableRollback=True,
        ClientRequestToken=name,
    )
    try:
        _wait(account, "stack_create_complete", _CREATED_S, StackName=name)
    except MlscaleError as error:
        reasons = _why_tasks_stopped(account, name)
        raise MlscaleError("; a task stopped: ".join([error.what, *reasons]), error.where, error.remedy) from error
    return outputs(account, name)


def delete(account: Account, name: str, expires_at: str, at_most_s: int = _DELETED_S) -> None:
    """Stop the load's task, which is not part of the stack; delete the stack, whatever became of that, and wait until
    it is gone. Idempotent.

    Args:
        expires_at: for the message. at_most_s: how long to wait, s.
    Raises:
        MlscaleError: the stack remains; what failed first.
    """
    first: MlscaleError | None = None
    try:
        for arn in account.listed("ecs", "list_tasks", "taskArns", cluster=name, startedBy="mlscale"):
            account.call("ecs", "stop_task", cluster=name, task=arn, reason="mlscale: the run has ended")
    except MlscaleError as error:
        first = None if is_gone(error) else error
    try:
        account.call("cloudformation", "delete_stack", StackName=name)
        _wait_deleted(account, name, at_most_s)
    except MlscaleError as error:
        cause = first or error
        raise MlscaleError(
            f"{cause.what}; stack {name} remains, and deletes itself from {expires_at} on",
            cause.where,
            f"mlscale cleanup --aws, or aws cloudformation delete-stack --stack-name {name} --region {account.region}",
        ) from cause


def outputs(account: Account, name: str) -> dict[str, str]:
    """A stack's outputs. Raises MlscaleError if there is no such stack."""
    (stack,) = account.call("cloudformation", "describe_stacks", StackName=name)["Stacks"]
    return {row["OutputKey"]: row["OutputValue"] for row in stack.get("Outputs", ())}


def _wait(account: Account, what: str, at_most_s: int, **target: str) -> None:
    """Wait for a condition. Raises MlscaleError with the stack's first failure, or why a change set failed."""
    waiter, where = account.client("cloudformation").get_waiter(what), f"stack {target['StackName']}"
    with explained(where):
        try:
            waiter.wait(**target, WaiterConfig={"Delay": _POLL_S, "MaxAttempts": at_most_s // _POLL_S})
        except WaiterError as error:
            answer = error.last_response or {}
            reason = answer.get("StatusReason")
            if "Max attempts" in str(error):
                reason = f"it is not complete after {at_most_s} s"
            what = _first_failure(account, target["StackName"], "CREATE_FAILED") or str(reason or error)
            raise MlscaleError(what, where, "see its events in the CloudFormation console") from error


def _wait_deleted(account: Account, name: str, at_most_s: int) -> None:
    """Wait for the status DELETE_COMPLETE, which only the stack's id still shows (DescribeStacks). botocore's waiter
    takes "does not exist" for it, which CloudFormation may also say of a stack that is being deleted.

    Raises:
        MlscaleError: a resource can't be deleted (the stack's own schedule keeps trying), or it takes longer.
    """
    ends_s = time.monotonic() + at_most_s
    stacks = account.listed("cloudformation", "list_stacks", "StackSummaries", StackStatusFilter=_THERE)
    for stack_id in [str(row["StackId"]) for row in stacks if row["StackName"] == name]:
        while (status := _status(account, stack_id)) != "DELETE_COMPLETE":
            if status == "DELETE_FAILED" or time.monotonic() >= ends_s:
                what = _first_failure(account, stack_id, "DELETE_FAILED") or f"its status is {status}"
                raise MlscaleError(what, f"stack {name}", "see its events in the CloudFormation console")
            time.sleep(_POLL_S)


def _status(account: Account, stack_id: str) -> str:
    try:
        (stack,) = account.call("cloudformation", "describe_stacks", StackName=stack_id)["Stacks"]
        return str(stack["StackStatus"])
    except MlscaleError as error:
        if is_gone(error):
            return "unknown"
        raise


def _why_tasks_stopped(account: Account, name: str) -> list[str]:
    """The distinct reasons; empty if AWS doesn't tell."""
    try:
        arns = account.listed(
            "ecs", "list_tasks", "taskArns", cluster=name, serviceName=SERVICE, desiredStatus="STOPPED"
        )
        tasks = (
            account.call("ecs", "describe_tasks", cluster=name, tasks=arns[:TASKS_PER_CALL])["tasks"] if arns else ()
        )
    except MlscaleError:
        return []
    return list(dict.fromkeys(stop_reason(task) for task in tasks))


def _first_failure(account: Account, name: str, status: str) -> str:
    """The resource and reason of the earliest event with ``status``; empty if there is none."""
    try:
        events: Sequence[Mapping[str, Any]] = account.listed(
            "cloudformation", "describe_stack_events", "StackEvents", StackName=name
        )
    except MlscaleError:
        return ""
    failures = [event for event in events if event.get("ResourceStatus") == status]
    if not failures:
        return ""
    first = min(failures, key=lambda event: event["Timestamp"])
    return f"{first['LogicalResourceId']} ({first['ResourceStatus']}): {first.get('ResourceStatusReason', 'no reason')}"
