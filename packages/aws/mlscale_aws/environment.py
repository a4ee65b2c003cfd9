"""The environment ``ecs``: containers on Fargate, scaled by Application Auto Scaling's target tracking.

Built from AWS's documentation and service models (see docs/aws.md); it has never run on AWS.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar, Final

from mlscale.environments.base import App, Look, Problem, Scaling, raise_fatal
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.reap import TargetUnreachable
from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.remote import refuse_local_files
from mlscale.runs import ClosedLoop, Level, MlscaleError, Mode, OpenLoop
from mlscale_aws.settings import EcsScaling

if TYPE_CHECKING:
    from mlscale_aws.account import Account
    from mlscale_aws.deployed import EcsDeployed
    from mlscale_aws.run_cost import Cost

KIND: Final = "aws-stack"
_DOCUMENT: Final = "docs/aws.md"
# What a stack's life must hold beside the load, s: creating it, idling, and the load's log (assumed).
_AROUND_S: Final = 600.0
# Characters that RunTask's overrides may hold (its API reference), and room for all but the schedule, some 500.
_OVERRIDES_CHARS: Final = 8192
_AROUND_CHARS: Final = 2048


class Ecs:
    """Amazon ECS under target tracking.

    Args:
        say: called with what is about to be created, its cost, and what remains if it could not be removed.
        load: what will be sent (`for_load`); None: not known yet.
    """

    name: ClassVar[str] = "ecs"
    look: ClassVar[Look] = Look("Amazon ECS", "Amazon ECS", "#CC79A7", "^", 5)
    level: ClassVar[Level] = "container+machine"
    modes: ClassVar[frozenset[Mode]] = frozenset({"live"})
    settings: ClassVar[type[Scaling]] = EcsScaling
    ledger_kinds: ClassVar[frozenset[str]] = frozenset({KIND})

    def __init__(
        self,
        say: Callable[[str], object] = lambda text: sys.stderr.write(text + "\n"),
        load: tuple[ClosedLoop | OpenLoop, BodySet] | None = None,
    ) -> None:
        self._say, self._load = say, load

    def for_load(self, schedule: ClosedLoop | OpenLoop, bodies: BodySet) -> Ecs:
        """The same, once it is known what will be sent: that has a cost, and may be refused by `preflight`."""
        return Ecs(self._say, (schedule, bodies))

    def arm(self, arm: str) -> EcsScaling:
        """The settings of an arm: shipped, matched, static-min, static-max (METHOD §4)."""
        return EcsScaling.of_arm(arm)

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """What would prevent a run. Creates nothing; reads the account's guard, the image and what CloudFormation
        knows."""
        problems = list(_problems(app, scalings))
        if any(problem.fatal for problem in problems):
            return problems
        try:
            from mlscale_aws.image import image_problems
            from mlscale_aws.stack import read_guard

            scaling, account = _scaling(scalings), _account(scalings)
            account.number()
            read_guard(account)
            problems += self._load_problems(scaling)
            problems += _monitoring_problems(scaling, account)
            digest = self._load and str(self._load[1].facts["sha256"])
            problems += image_problems(account, str(scaling.image or app.image), digest)
            problems += self._budget_problems(scaling, account.region)
        except MlscaleError as error:
            problems.append(Problem(error.what, error.where, error.remedy))
        return problems

    def start_up_s(self, scaling: Scaling) -> float:
        """How long after a load step a new task may be ready: the alarm's periods and one for the metric to arrive,
        60 s for the task and, with ``launch`` "ec2", 120 s for an instance (both assumed)."""
        assert isinstance(scaling, EcsScaling)
        machine_s = 120.0 if scaling.launch == "ec2" else 0.0
        return scaling.metric_period_s * (scaling.out_datapoints + 1) + 60.0 + machine_s

    @contextmanager
    def deploy(
        self, app: App, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger, warm_up: Sequence[bytes]
    ) -> Iterator[EcsDeployed]:
        """A stack for this run (ecs.yaml), deleted on leaving, or by itself after ``lifetime_min``.

        ``warm_up`` is not used: the application can't be reached from outside the stack, so the load's task sends every
        body twice before it starts (`remote_job`).

        Raises:
            MlscaleError: a preflight problem, or the stack could not be created.
        """
        from mlscale.environments.kubernetes.manifests import PATH
        from mlscale_aws import stack
        from mlscale_aws.deployed import EcsDeployed

        raise_fatal(self.preflight(app, scalings, mode))
        scaling, account = _scaling(scalings), _account(scalings)
        number, guard = account.number(), stack.read_guard(account)
        plan = stack.plan(app, scaling, guard, account)
        cost = self._cost(scaling, account.region)
        identity = {"account": number, "region": account.region, "stack": plan.name, "expires_at": plan.expires_at}
        entry = ledger.intend(KIND, **identity, profile=account.profile)
        try:
            resources = stack.propose(account, plan)
            self._say(stack.summary(plan, resources, cost.table()))
            outputs = stack.create(account, plan.name)
            facts = {
                **identity,
                "resources": [f"{name}: {kind}" for name, kind in resources],
                f"cost_{'at_most' if cost.bounded else 'about'}_usd": round(cost.usd, 4),
                "prices": cost.date,
                "load": {"remote": f"Fargate task, {scaling.load_cores:g} vCPU"},
                "clock_within_s": account.skew.within_s,
                "template": "ecs.yaml",
            }
            versions = {name: version(name) for name in ("boto3", "botocore")}
            component, url = app.components[0].name, outputs["Url"] + PATH
            yield EcsDeployed(account, plan.name, component, scaling, outputs, url, facts, versions)
        except BaseException:
            try:
                stack.delete(account, plan.name, plan.expires_at)
                ledger.done(entry)
            except MlscaleError as left:  # the run's own error comes first
                self._say(str(left))
            raise
        stack.delete(account, plan.name, plan.expires_at)
        ledger.done(entry)

    def reap(self, entry: LedgerEntry) -> None:
        """Request the deletion of the stack that ``entry`` names, with the profile and in the region of its run; it is
        not waited for, since any run on this machine calls this first.

        Raises:
            TargetUnreachable: it is not gone yet, or these credentials don't reach it; it deletes itself in the end.
        """
        from mlscale_aws import stack
        from mlscale_aws.account import Account

        identity = entry.identity
        where = f"stack {identity['stack']}"
        try:
            account = Account(identity["region"], identity.get("profile"))
            number = account.number()
            if number != identity["account"]:
                what = f"these are credentials of account {number}, the stack is in {identity['account']}"
                raise MlscaleError(what, where, "set AWS_PROFILE to that account, or let the stack expire")
            stack.delete(account, identity["stack"], identity.get("expires_at", "its expiry"), at_most_s=0)
        except MlscaleError as error:
            raise TargetUnreachable(error.what, where, error.remedy) from error

    def _cost(self, scaling: EcsScaling, region: str) -> Cost:
        from mlscale_aws.run_cost import Traffic, ecs_cost

        traffic = Traffic.of(self._load[0], self._load[1].facts["bytes"]) if self._load else None
        return ecs_cost(scaling, region, traffic)

    def _budget_problems(self, scaling: EcsScaling, region: str) -> Iterator[Problem]:
        cost = self._cost(scaling, region)
        if scaling.budget_usd is not None and cost.usd > scaling.budget_usd:
            what = f"the run may cost {cost.usd:.2f} USD, the budget is {scaling.budget_usd:.2f}"
            yield Problem(what, "--scaling budget_usd", "raise it, or lower lifetime_min, max_replicas or the load")

    def _load_problems(self, scaling: EcsScaling) -> Iterator[Problem]:
        """Raises MlscaleError for a recorded trace."""
        from mlscale_aws.load_job import LEAD_S

        if self._load is None:
            return
        schedule = self._load[0]
        refuse_local_files(schedule)
        needed_min = math.ceil((_AROUND_S + LEAD_S + schedule.duration_s) / 60)
        if needed_min > scaling.lifetime_min:
            what = f"the stack deletes itself after {scaling.lifetime_min} min; the load needs it for {needed_min}"
            yield Problem(what, "--scaling lifetime_min", f"set lifetime_min={needed_min}, or shorten the load")
        chars = len(base64.b64encode(gzip.compress(schedule.model_dump_json().encode())))
        most = _OVERRIDES_CHARS - _AROUND_CHARS
        if chars > most:
            what = f"a task is told its schedule in {most} characters at most; compressed, this one has {chars}"
            yield Problem(what, "--schedule", "use fewer steps, of some 15 characters each")


def _problems(app: App, scalings: Mapping[str, Scaling]) -> Iterator[Problem]:
    if len(app.components) > 1:
        yield Problem("partitioned applications are not supported on ECS yet", "--partitioned", "measure it whole")
        return
    scaling = _scaling(scalings)
    if scaling.launch != "fargate":
        yield Problem("EC2 capacity providers can only be simulated yet", "--scaling launch", "set launch=fargate")
    if scaling.metric != "cpu":
        yield Problem("custom metrics can only be simulated yet", "--scaling metric", "set metric=cpu")
    for name in ("out_datapoints", "in_datapoints"):
        if getattr(scaling, name) != EcsScaling.model_fields[name].default:
            yield Problem("AWS chooses the datapoints of its alarms itself", f"--scaling {name}", "leave it out")
    if not (scaling.image or app.image):
        yield Problem("no image given", "--scaling image", f"set image=REGISTRY/NAME:TAG, see {_DOCUMENT}")
    if scaling.budget_usd is None:
        yield Problem("nothing is created without a budget", "--scaling budget_usd", f"set one, see {_DOCUMENT}")


def _monitoring_problems(scaling: EcsScaling, account: Account) -> Iterator[Problem]:
    """Metrics of 20 s are a property of services since June 2026, which the region may lack."""
    if scaling.metric_period_s == 20:
        known = account.call("cloudformation", "describe_type", Type="RESOURCE", TypeName="AWS::ECS::Service")
        if "Monitoring" not in json.loads(known["Schema"])["properties"]:
            what = f"CloudFormation knows no metrics of 20 s in {account.region}"
            yield Problem(what, "--scaling metric_period_s", "use --arm shipped, whose metrics are of 60 s")


def _scaling(scalings: Mapping[str, Scaling]) -> EcsScaling:
    (scaling,) = scalings.values()
    assert isinstance(scaling, EcsScaling)
    return scaling


def _account(scalings: Mapping[str, Scaling]) -> Account:
    from mlscale_aws.account import Account

    return Account(_scaling(scalings).region)
