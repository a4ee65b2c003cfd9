"""An AWS account in memory, in virtual time: a mock of AWS, no account of it.

Clients are boto3's own: a request is built, signed, retried and its answer parsed by botocore; only the bytes are
answered here instead of being sent (aws_wire.py). What goes in was validated by botocore, what comes out is validated
here against the same service models, both also by enumerations, ranges and patterns, which
botocore does not check. Answers come in pages, stacks are made resource by resource in the order of their
dependencies, deleted in the reverse order, and deletion fails as AWS's does (a cluster with tasks).
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import quote

import boto3
import pytest
import yaml
from aws_wire import answer
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError
from botocore.loaders import create_loader
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape
from botocore.retries import bucket
from botocore.validate import ParamValidator

ACCOUNT: Final = "111122223333"
REGION: Final = "us-east-1"
# How long a resource takes to be made or removed.
RESOURCE_S: Final = 4.0
PAGE: Final = 3
# Reads each service's model once.
LOADER: Final = create_loader()
START: Final = datetime(2026, 11, 29, 12, 0, tzinfo=UTC).timestamp()


class Killed(BaseException):
    """The process is gone: nothing that it would still do happens."""


class Time:
    """Virtual time; whoever sleeps moves it."""

    def __init__(self) -> None:
        self.s = START

    def sleep(self, seconds: float) -> None:
        self.s += seconds

    def time(self) -> float:
        return self.s

    def condition(self, lock: threading.Lock) -> threading.Condition:
        """One whose waiting moves the time, by no less than the clock can show."""
        made = threading.Condition(lock)
        made.wait = lambda seconds: self.sleep(max(seconds, 0.001))
        return made


class _Template(yaml.SafeLoader):
    """CloudFormation's YAML: its short functions as {name: value}."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {suffix: loader.construct_mapping(node, deep=True)}


_Template.add_multi_constructor("!", _function)


@cache
def read_template(text: str) -> dict[str, Any]:
    """A template with ``!Ref X`` as {"Ref": "X"} and so on."""
    return dict(yaml.load(text, Loader=_Template))


def references(part: Any) -> Iterator[str]:
    """Names that a part of a template refers to."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key == "Ref":
                yield value
            elif key == "GetAtt":
                yield value.partition(".")[0] if isinstance(value, str) else value[0]
            elif key == "Sub":
                yield from (name.partition(".")[0] for name in re.findall(r"\$\{([^}]+)\}", str(value)))
            elif key == "DependsOn":
                yield from [value] if isinstance(value, str) else value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def dependencies(template: Mapping[str, Any]) -> dict[str, set[str]]:
    """Resource -> the resources that it needs."""
    resources = template["Resources"]
    return {name: set(references(body)) & set(resources) - {name} for name, body in resources.items()}


def in_order(template: Mapping[str, Any]) -> list[str]:
    """Resources so that each comes behind what it needs."""
    needs, order = dependencies(template), []
    while len(order) < len(needs):
        free = sorted(name for name, needed in needs.items() if name not in order and needed <= set(order))
        assert free, f"a circle among {sorted(set(needs) - set(order))}"
        order += free
    return order


@dataclass
class Task:
    """One task; moments are Unix time."""

    arn: str
    definition: str
    started_by: str
    created_at: float
    stopped_at: float | None = None
    reason: str = "Scaling activity initiated by deployment"


@dataclass
class Stack:
    """``made``: resources that exist, in the order in which they were made."""

    name: str
    template: dict[str, Any]
    parameters: dict[str, str]
    tags: dict[str, str]
    status: str = "REVIEW_IN_PROGRESS"
    made: list[str] = field(default_factory=list)
    since_s: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)


class MemoryAccount:
    """Everything that the account holds, and the calls that came.

    Attributes:
        fault: called with service, operation and parameters before a request takes effect; raises what AWS or the
            network does. loses: the same after it took effect, so that only the answer is lost.
        ahead_s: AWS's clock before this machine's. unseen_s: how long after its start a task isn't described.
        takes_s: to make or remove a resource. profiles, regions: of the clients so far.
    """

    def __init__(self, clock: Time, *, guarded: bool = True) -> None:
        self.clock = clock
        self.stacks: dict[str, Stack] = {}
        self.tasks: dict[str, Task] = {}
        self.logs: dict[str, list[tuple[float, str]]] = {}  # when a line arrives, and the line
        config = "sha256:" + 64 * "c"
        self.images: dict[str, dict[str, Any]] = {"1": {"config": {"digest": config}}}  # manifests by tag or digest
        self.blobs: dict[str, dict[str, Any]] = {
            config: {"os": "linux", "architecture": "amd64", "config": {"Labels": {"mlscale.bodies": 64 * "d"}}}
        }
        self.schema: dict[str, Any] = {"properties": {"Monitoring": {}}}
        self.desired = 1
        self.activities: list[dict[str, Any]] = []
        self.calls: list[tuple[str, str]] = []
        self.fault: Callable[[str, str, Mapping[str, Any]], None] = lambda service, operation, parameters: None
        self.loses: Callable[[str, str, Mapping[str, Any]], None] = lambda service, operation, parameters: None
        self.ahead_s = self.unseen_s = 0.0
        self.takes_s = RESOURCE_S
        self.profiles: set[str] = set()
        self.regions: set[str] = set()
        self.gone: set[str] = set()
        self.fails_to_make: str | None = None
        self.orphans: list[tuple[str, dict[str, str]]] = []
        if guarded:
            self.stacks["mlscale-guard"] = Stack("mlscale-guard", {"Resources": {}}, {}, {}, "CREATE_COMPLETE")
        self._parameters: Mapping[str, Any] = {}
        self._numbers = 0
        self._answers: dict[str, Mapping[str, Any]] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answer every client of boto3, and move time where somebody sleeps."""
        real = boto3.Session.client

        def client(session: boto3.Session, service: str, **more: Any) -> Any:
            session._session.register_component("data_loader", LOADER)
            made = real(session, service, aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="example", **more)
            self.profiles.add(session.profile_name)
            self.regions.add(made.meta.region_name)
            made.meta.events.register_last("before-parameter-build", self._asked)
            made.meta.events.register("before-send", partial(self._answer, made.meta.service_model))
            return made

        monkeypatch.setattr(boto3.Session, "client", client)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
        monkeypatch.setattr(time, "sleep", self.clock.sleep)
        monkeypatch.setattr(time, "time", self.clock.time)
        monkeypatch.setattr(time, "monotonic", self.clock.time)
        virtual = SimpleNamespace(Lock=threading.Lock, Condition=self.clock.condition)
        monkeypatch.setattr(bucket, "threading", virtual)  # botocore's own throttle

    @property
    def empty(self) -> bool:
        """Whether nothing of any run is left."""
        self._advance()
        runs = [name for name in self.stacks if name.startswith("mlscale-run-")]
        return not runs and not [task for task in self.tasks.values() if task.stopped_at is None]

    def _asked(self, params: Mapping[str, Any], **_: Any) -> None:
        self._parameters = dict(params)

    def _answer(self, api: ServiceModel, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse:
        model = api.operation_model(event_name.rpartition(".")[2])
        service, operation, parameters = api.service_name, model.name, self._parameters
        assert "Authorization" in request.headers, "every request is signed"
        if model.input_shape is not None:
            check(parameters, model.input_shape)
        self.calls.append((service, operation))
        self.clock.sleep(0.05)
        self._advance()
        respond = partial(answer, request.url, model)
        try:
            self.fault(service, operation, parameters)
            handler = getattr(self, "_" + re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower())
            parsed = self._once(parameters, lambda: dict(handler(parameters)))
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
            return respond(status, error.response, self._date())
        if model.output_shape is not None:
            report = ParamValidator().validate(parsed, model.output_shape)
            assert not report.has_errors(), f"{service} {operation}: {report.generate_report()}"
            check(parsed, model.output_shape)
        self.loses(service, operation, parameters)
        return respond(200, parsed, self._date())

    def _once(self, parameters: Mapping[str, Any], handle: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """A request with a token takes effect once; repeated, it has the same answer."""
        tokens = [
            parameters[name] for name in ("ClientToken", "ClientRequestToken", "clientToken") if name in parameters
        ]
        if not tokens:
            return handle()
        key = f"{tokens[0]} {sorted(parameters)}"
        if key not in self._answers:
            self._answers[key] = handle()
        return self._answers[key]

    def _date(self) -> str:
        return format_datetime(datetime.fromtimestamp(int(self.clock.s + self.ahead_s), UTC), usegmt=True)

    def _advance(self) -> None:
        """What has happened by now: stacks grow and shrink, expired ones are deleted every 15 minutes."""
        for stack in list(self.stacks.values()):
            expires = stack.parameters.get("ExpiresAt")
            over = expires and "Expiry" in stack.made and self.clock.s >= datetime.fromisoformat(expires).timestamp()
            if over and stack.status != "DELETE_IN_PROGRESS":
                self._begin(stack, "DELETE_IN_PROGRESS")
            while (
                self.stacks.get(stack.name) is stack
                and stack.status in ("CREATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
                and self.clock.s - stack.since_s >= self.takes_s
            ):
                stack.since_s += self.takes_s
                self._step(stack)

    def _step(self, stack: Stack) -> None:
        if stack.status == "CREATE_IN_PROGRESS":
            left = [name for name in stack.order if name not in stack.made and self._wanted(stack, name)]
            if not left:
                stack.status = "CREATE_COMPLETE"
            elif left[0] == self.fails_to_make:
                if left[0] == "Service":
                    task = self._task(stack.name, f"{stack.name}-app:1", "")
                    task.stopped_at, task.reason = (
                        self.clock.s,
                        "CannotPullContainerError: no match for platform linux/amd64",
                    )
                self._event(stack, left[0], "CREATE_FAILED", "Resource handler returned message: no more of those")
                stack.status = "CREATE_FAILED"
            else:
                stack.made.append(left[0])
                self._event(stack, left[0], "CREATE_COMPLETE", "")
                if left[0] == "Service":
                    self.desired = int(stack.parameters["MinTasks"])
                    self._fill(stack)
        elif stack.made and stack.made[-1] == "Cluster" and self._running(stack, "mlscale"):
            self._event(stack, "Cluster", "DELETE_FAILED", "The Cluster cannot be deleted while Tasks are active.")
            stack.status = "DELETE_FAILED"
        elif stack.made:
            gone = stack.made.pop()
            if gone == "Service":
                for task in self._running(stack, ""):
                    task.stopped_at = self.clock.s
        else:
            self._remove(stack)

    def _remove(self, stack: Stack) -> None:
        del self.stacks[stack.name]
        self.gone.add(stack.name)

    def _wanted(self, stack: Stack, name: str) -> bool:
        scales = stack.parameters["MinTasks"] != stack.parameters["MaxTasks"]
        return scales or stack.template["Resources"][name].get("Condition") != "Scales"

    def _begin(self, stack: Stack, status: str) -> None:
        stack.status, stack.since_s = status, self.clock.s

    def _event(self, stack: Stack, resource: str, status: str, reason: str) -> None:
        self._numbers += 1
        event = {
            "StackId": self._stack_id(stack.name),
            "EventId": str(self._numbers),
            "StackName": stack.name,
            "LogicalResourceId": resource,
            "ResourceStatus": status,
            "Timestamp": datetime.fromtimestamp(self.clock.s, UTC),
        }
        stack.events.append({**event, **({"ResourceStatusReason": reason} if reason else {})})

    def _stack_id(self, name: str) -> str:
        return f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/0"

    def _running(self, stack: Stack, started_by: str) -> list[Task]:
        mine = [task for task in self.tasks.values() if f"/{stack.name}/" in task.arn and task.stopped_at is None]
        return [task for task in mine if task.started_by == started_by]

    def _fill(self, stack: Stack) -> None:
        """Start or stop tasks of the service until there are as many as wanted."""
        running = self._running(stack, "")
        for _ in range(self.desired - len(running)):
            self._task(stack.name, f"{stack.name}-app:1", "")
        for task in running[self.desired :]:
            task.stopped_at = self.clock.s

    def _task(self, cluster: str, definition: str, started_by: str) -> Task:
        self._numbers += 1
        arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{cluster}/{self._numbers:032x}"
        self.tasks[arn] = Task(arn, definition, started_by, self.clock.s)
        return self.tasks[arn]

    def scale(self, desired: int, cause: str) -> None:
        """As Application Auto Scaling would."""
        (stack,) = [each for each in self.stacks.values() if each.name.startswith("mlscale-run-")]
        self.desired = desired
        self._fill(stack)
        self._numbers += 1
        now = datetime.fromtimestamp(self.clock.s, UTC)
        self.activities.append(
            {
                "ActivityId": str(self._numbers),
                "ServiceNamespace": "ecs",
                "ResourceId": f"service/{stack.name}/app",
                "ScalableDimension": "ecs:service:DesiredCount",
                "Description": f"Setting desired count to {desired}.",
                "Cause": cause,
                "StartTime": now,
                "EndTime": now,
                "StatusCode": "Successful",
            }
        )

    # What each operation answers.

    def _get_caller_identity(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"Account": ACCOUNT, "UserId": "AIDAEXAMPLE", "Arn": f"arn:aws:iam::{ACCOUNT}:user/student"}

    def _create_change_set(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        name = given["StackName"]
        if name in self.stacks:
            raise refused("AlreadyExistsException", f"Stack [{name}] already exists")
        parameters = {each["ParameterKey"]: each["ParameterValue"] for each in given["Parameters"]}
        template = read_template(given["TemplateBody"])
        unknown = set(parameters) ^ {
            key for key, body in template["Parameters"].items() if key in parameters or "Default" not in body
        }
        if unknown:
            raise refused("ValidationError", f"Parameters: {sorted(unknown)} do not fit the template")
        tags = {each["Key"]: each["Value"] for each in given["Tags"]}
        self.stacks[name] = Stack(name, template, parameters, tags, since_s=self.clock.s)
        self.stacks[name].order = _orders(given["TemplateBody"])
        return {"Id": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:changeSet/create/0", "StackId": self._stack_id(name)}

    def _describe_change_set(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        stack = self._stack(given["StackName"])
        ready = self.clock.s - stack.since_s >= 2 * RESOURCE_S
        names = list(stack.template["Resources"])
        changes = [
            {
                "Type": "Resource",
                "ResourceChange": {
                    "Action": "Add",
                    "LogicalResourceId": name,
                    "ResourceType": stack.template["Resources"][name]["Type"],
                },
            }
            for name in names
        ]
        page, token = self._page(changes, given.get("NextToken"))
        status = "CREATE_COMPLETE" if ready else "CREATE_IN_PROGRESS"
        return {"ChangeSetName": "create", "Status": status, "Changes": page if ready else [], **token}

    def _execute_change_set(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        stack = self._stack(given["StackName"])
        if stack.status != "REVIEW_IN_PROGRESS":
            raise refused("InvalidChangeSetStatus", "ChangeSet cannot be executed in its current status")
        self._begin(stack, "CREATE_IN_PROGRESS")
        return {}

    def _list_stacks(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        told = [self._told(stack) for stack in self.stacks.values()] + [self._told_gone(name) for name in self.gone]
        names = ("StackName", "StackId", "CreationTime", "StackStatus")
        found = [{name: each[name] for name in names} for each in told]
        found = [
            each for each in found if each["StackStatus"] in given.get("StackStatusFilter", (each["StackStatus"],))
        ]
        page, token = self._page(found, given.get("NextToken"))
        return {"StackSummaries": page, **token}

    def _describe_type(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"Schema": json.dumps(self.schema)}

    def _describe_stacks(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        if "StackName" not in given:
            self.calls.append(("cloudformation", "ListStacks"))  # a right that this needs too
        name = given.get("StackName", "").removesuffix("/0").rpartition("/")[2]
        if name in self.gone and name != given["StackName"]:  # a deleted one is known by its id alone
            return {"Stacks": [self._told_gone(name)]}
        stacks = [self._stack(name)] if name else list(self.stacks.values())
        page, token = self._page([self._told(stack) for stack in stacks], given.get("NextToken"))
        return {"Stacks": page, **token}

    def _told(self, stack: Stack) -> dict[str, Any]:
        outputs = {name: f"{name}-of-{stack.name}" for name in stack.template.get("Outputs", {})}
        if stack.name == "mlscale-guard":
            kinds = ("CloudFormation", "Scheduler", "Execution")
            outputs = {f"{kind}RoleArn": f"arn:aws:iam::{ACCOUNT}:role/mlscale-{kind.lower()}" for kind in kinds}
        return {
            "StackName": stack.name,
            "StackId": self._stack_id(stack.name),
            "CreationTime": datetime.fromtimestamp(START, UTC),
            "StackStatus": stack.status,
            "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in stack.parameters.items()],
            "Tags": [{"Key": key, "Value": value} for key, value in stack.tags.items()],
        }

    def _told_gone(self, name: str) -> dict[str, Any]:
        return self._told(Stack(name, {"Resources": {}}, {}, {}, "DELETE_COMPLETE"))

    def _describe_stack_events(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        newest_first = self._stack(given["StackName"].removesuffix("/0").rpartition("/")[2]).events[::-1]
        page, token = self._page(newest_first, given.get("NextToken"))
        return {"StackEvents": page, **token}

    def _delete_stack(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        stack = self.stacks.get(given["StackName"])
        if stack is not None and stack.status == "REVIEW_IN_PROGRESS":
            self._remove(stack)
        elif stack is not None and stack.status != "DELETE_IN_PROGRESS":
            self._begin(stack, "DELETE_IN_PROGRESS")
        return {}

    def _run_task(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        self._cluster(given["cluster"])
        if len(json.dumps(given.get("overrides", {}))) > 8192:
            raise refused("InvalidParameterException", "Container Overrides length must be at most 8192")
        if "propagateTags" in given or "tags" in given:
            self.calls.append(("ecs", "TagResource"))  # a right of its own
        task = self._task(given["cluster"], given["taskDefinition"], given["startedBy"])
        return {"tasks": [self._of_task(task)], "failures": []}

    def _stop_task(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        task = self.tasks[given["task"]]
        task.stopped_at = task.stopped_at or self.clock.s
        return {"task": self._of_task(task)}

    def _list_tasks(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        self._cluster(given["cluster"])
        mine = [task for task in self.tasks.values() if f"/{given['cluster']}/" in task.arn]
        started_by = given.get("startedBy", "" if "serviceName" in given else None)
        status = given.get("desiredStatus", "RUNNING")
        found = [
            task.arn
            for task in mine
            if (started_by is None or task.started_by == started_by)
            and (task.stopped_at is None) == (status == "RUNNING")
        ]
        page, token = self._page(found, given.get("nextToken"), key="nextToken")
        return {"taskArns": page, **token}

    def _describe_tasks(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        known = [self.tasks[arn] for arn in given["tasks"] if arn in self.tasks]
        found = [self._of_task(task) for task in known if self.clock.s - task.created_at >= self.unseen_s]
        return {"tasks": found, "failures": []}

    def _of_task(self, task: Task) -> dict[str, Any]:
        """Its moments so far: an interface after 8 s, the image from 12 to 40 s, running after 42 s."""
        ends = min(self.clock.s, task.stopped_at or self.clock.s)
        moments = {
            "createdAt": 0.0,
            "connectivityAt": 8.0,
            "pullStartedAt": 12.0,
            "pullStoppedAt": 40.0,
            "startedAt": 42.0,
        }
        told: dict[str, Any] = {
            name: datetime.fromtimestamp(task.created_at + after, UTC)
            for name, after in moments.items()
            if task.created_at + after <= ends
        }
        number = task.arn.rpartition("/")[2]
        status = "STOPPED" if task.stopped_at is not None else "RUNNING" if "startedAt" in told else "PROVISIONING"
        if task.stopped_at is not None:
            at = datetime.fromtimestamp(task.stopped_at, UTC)
            told |= {"stoppingAt": at, "stoppedAt": at, "stoppedReason": task.reason}
            told |= {"stopCode": "ServiceSchedulerInitiated" if not task.started_by else "UserInitiated"}
        address = f"10.61.0.{int(number, 16) % 200 + 4}"
        details = [{"name": "privateIPv4Address", "value": address}]
        return {
            "taskArn": task.arn,
            "taskDefinitionArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{task.definition}",
            "lastStatus": status,
            "attachments": [{"type": "ElasticNetworkInterface", "status": "ATTACHED", "details": details}],
            "containers": [{"name": "app", "runtimeId": f"{number}-1"}],
            **told,
        }

    def _describe_services(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        self._cluster(given["cluster"])
        told = [self._of_task(task) for task in self._running(self.stacks[given["cluster"]], "")]
        running = sum(task["lastStatus"] == "RUNNING" for task in told)
        counts = {"desiredCount": self.desired, "runningCount": running, "pendingCount": len(told) - running}
        return {"services": [{"serviceName": "app", **counts}], "failures": []}

    def _describe_target_health(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        found = []
        for task in self.tasks.values():
            told = self._of_task(task)
            if task.started_by or task.stopped_at is not None or "startedAt" not in told:
                continue
            state = "healthy" if self.clock.s - task.created_at > 70 else "initial"
            address = told["attachments"][0]["details"][0]["value"]
            found.append({"Target": {"Id": address, "Port": 8080}, "TargetHealth": {"State": state}})
        return {"TargetHealthDescriptions": found}

    def _describe_scaling_activities(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        page, token = self._page(self.activities[::-1], given.get("NextToken"))
        return {"ScalingActivities": page, **token}

    def _describe_alarm_history(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"AlarmHistoryItems": []}

    def _get_metric_data(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        period_s = given["MetricDataQueries"][0]["MetricStat"]["Period"]
        first, last = given["StartTime"].timestamp(), given["EndTime"].timestamp()
        begins = [k * period_s for k in range(int(first // period_s) + 1, int(last // period_s))]
        moments = [datetime.fromtimestamp(begin, UTC) for begin in begins]
        # The newest are incomplete: not all tasks have reported.
        of_begin = [(begin, self.clock.s - begin - period_s > 110) for begin in begins]
        created = [task.created_at for task in self.tasks.values() if not task.started_by]
        values = {
            "cpu": [80.0 if whole else 30.0 for _, whole in of_begin],
            "tasks": [sum(made <= begin for made in created) if whole else 1.0 for begin, whole in of_begin],
        }
        return {
            "MetricDataResults": [
                {
                    "Id": name,
                    "Label": name,
                    "Timestamps": moments,
                    "Values": numbers,
                    "StatusCode": "Complete",
                }
                for name, numbers in values.items()
            ],
            "Messages": [],
        }

    def _get_log_events(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        lines = self.logs.get(given["logStreamName"])
        if lines is None:
            raise refused("ResourceNotFoundException", "The specified log stream does not exist.")
        first = int(str(given.get("nextToken", "f/0")).partition("/")[2])
        found = [line for arrives_at, line in lines if arrives_at <= self.clock.s][first : first + PAGE]
        events = [{"timestamp": int(1000 * self.clock.s), "message": line, "ingestionTime": 0} for line in found]
        return {"events": events, "nextForwardToken": f"f/{first + len(found)}", "nextBackwardToken": "b/0"}

    def _batch_get_image(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        (wanted,) = given["imageIds"]
        manifest = self.images.get(next(iter(wanted.values())))
        if manifest is None:
            return {"images": [], "failures": [{"imageId": wanted, "failureCode": "ImageNotFound"}]}
        return {"images": [{"imageManifest": json.dumps(manifest)}], "failures": []}

    def _get_download_url_for_layer(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        content = quote(json.dumps(self.blobs[given["layerDigest"]]))
        return {"downloadUrl": f"data:application/json,{content}", "layerDigest": given["layerDigest"]}

    def _get_resources(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of the tagging API: what stacks hold, and what was orphaned."""
        (wanted,) = [each["Key"] for each in given["TagFilters"]]
        held = [
            (f"{self._stack_id(stack.name)}/{name}", stack.tags)
            for stack in self.stacks.values()
            for name in stack.made
        ]
        found = [
            {"ResourceARN": arn, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            for arn, tags in [*held, *self.orphans]
            if wanted in tags
        ]
        page, token = self._page(found, given.get("PaginationToken") or None, key="PaginationToken")
        return {"ResourceTagMappingList": page, **token}

    def _stack(self, name: str) -> Stack:
        if name not in self.stacks:
            raise refused("ValidationError", f"Stack with id {name} does not exist")
        return self.stacks[name]

    def _cluster(self, name: str) -> None:
        if name not in self.stacks or "Cluster" not in self.stacks[name].made:
            raise refused("ClusterNotFoundException", "Cluster not found.")

    def _page(self, found: list[Any], token: str | None, key: str = "NextToken") -> tuple[list[Any], dict[str, str]]:
        first = int(token or 0)
        more = {key: str(first + PAGE)} if first + PAGE < len(found) else {}
        return found[first : first + PAGE], more


def refused(code: str, message: str, status: int = 400) -> ClientError:
    """An error of AWS's."""
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Operation")


def check(value: Any, shape: Shape, where: str = "") -> None:
    """What botocore leaves unchecked: enumerations, ranges of numbers and lengths, patterns."""
    limits = shape.metadata
    if isinstance(shape, StructureShape) and isinstance(value, Mapping):
        for name, part in value.items():
            if name in shape.members:
                check(part, shape.members[name], f"{where}.{name}")
    elif isinstance(shape, ListShape):
        for number, part in enumerate(value):
            check(part, shape.member, f"{where}[{number}]")
    elif isinstance(shape, MapShape):
        for name, part in value.items():
            check(part, shape.value, f"{where}.{name}")
    if limits.get("enum"):
        assert value in limits["enum"], f"{where}: {value!r} is none of {limits['enum']}"
    if isinstance(value, str) and limits.get("pattern") and (pattern := _compiled(limits["pattern"])) is not None:
        assert pattern.search(value), f"{where}: {value!r} does not match {limits['pattern']}"
    size = value if isinstance(value, int | float) else len(value) if hasattr(value, "__len__") else None
    if size is not None:
        assert limits.get("min", size) <= size <= limits.get("max", size), f"{where}: {size} is outside its range"


@cache
def _orders(text: str) -> list[str]:
    return in_order(read_template(text))


@cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """None: it is written for Java and means nothing here."""
    try:
        return re.compile(pattern)
    except re.error:
        return None


TEMPLATES: Final = Path(__file__).parents[1] / "mlscale_aws/cloud"
