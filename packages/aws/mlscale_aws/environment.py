"""The environment ``ecs``: containers on Fargate, scaled by Application Auto Scaling's target tracking.

Built from AWS's documentation and service models (see docs/aws.md); it has never run on AWS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar, Final

from mlscale.environments.base import App, Look, Problem, Scaling, raise_fatal
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.runs import Level, MlscaleError, Mode
from mlscale_aws.settings import EcsScaling

if TYPE_CHECKING:
    from mlscale_aws.account import Account
    from mlscale_aws.deployed import EcsDeployed

KIND: Final = "aws-stack"
_DOCUMENT: Final = "docs/aws.md"


class Ecs:
    """Amazon ECS under target tracking.

    Args:
        say: called with what is about to be created and its maximum cost.
    """

    name: ClassVar[str] = "ecs"
    look: ClassVar[Look] = Look("Amazon ECS", "Amazon ECS", "#CC79A7", "^", 5)
    level: ClassVar[Level] = "container+machine"
    modes: ClassVar[frozenset[Mode]] = frozenset({"live"})
    settings: ClassVar[type[Scaling]] = EcsScaling
    ledger_kinds: ClassVar[frozenset[str]] = frozenset({KIND})

    def __init__(self, say: Callable[[str], object] = lambda text: sys.stderr.write(text + "\n")) -> None:
        self._say = say

    def arm(self, arm: str) -> EcsScaling:
        """The settings of an arm: shipped, matched, static-min, static-max (METHOD §4)."""
        return EcsScaling.of_arm(arm)

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """What would prevent a run. Creates nothing; reads the caller's identity and the account's guard."""
        problems = list(_problems(app, scalings))
        if any(problem.fatal for problem in problems):
            return problems
        try:
            from mlscale_aws.stack import read_guard

            account = _account(scalings)
            account.number()
            read_guard(account)
            problems += _budget_problems(_scaling(scalings), account.region)
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
        from mlscale_aws.run_cost import ecs_cost

        raise_fatal(self.preflight(app, scalings, mode))
        scaling, account = _scaling(scalings), _account(scalings)
        number, guard = account.number(), stack.read_guard(account)
        plan = stack.plan(app, scaling, guard, account)
        cost = ecs_cost(scaling, account.region)
        identity = {"account": number, "region": account.region, "stack": plan.name}
        entry = ledger.intend(KIND, **identity)
        try:
            resources = stack.propose(account, plan)
            self._say(stack.summary(plan, resources, cost.table()))
            outputs = stack.create(account, plan.name)
            facts = {
                **identity,
                "resources": [f"{name}: {kind}" for name, kind in resources],
                "cost_at_most_usd": round(cost.usd, 4),
                "prices": cost.date,
                "expires_at": plan.parameters["ExpiresAt"],
                "load": {"remote": f"Fargate task, {scaling.load_cores:g} vCPU"},
                "clock_within_s": account.skew.within_s,
                "template": "ecs.yaml",
            }
            versions = {name: version(name) for name in ("boto3", "botocore")}
            component, url = app.components[0].name, outputs["Url"] + PATH
            yield EcsDeployed(account, plan.name, component, scaling, outputs, url, facts, versions)
        finally:
            stack.delete(account, plan.name)
            ledger.done(entry)

    def reap(self, entry: LedgerEntry) -> None:
        """Delete the stack that ``entry`` names.

        Raises:
            MlscaleError: the credentials are another account's, or a resource can't be deleted.
        """
        from mlscale_aws import stack
        from mlscale_aws.account import Account

        identity = entry.identity
        account = Account(identity["region"])
        number = account.number()
        if number != identity["account"]:
            what = f"these are credentials of account {number}, the stack is in {identity['account']}"
            raise MlscaleError(
                what, f"stack {identity['stack']}", "set AWS_PROFILE to that account, or let the stack expire"
            )
        stack.delete(account, identity["stack"])


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


def _budget_problems(scaling: EcsScaling, region: str) -> Iterator[Problem]:
    from mlscale_aws.run_cost import ecs_cost

    cost = ecs_cost(scaling, region)
    if scaling.budget_usd is not None and cost.usd > scaling.budget_usd:
        what = f"the run may cost {cost.usd:.2f} USD, the budget is {scaling.budget_usd:.2f}"
        yield Problem(what, "--scaling budget_usd", "raise it, or lower lifetime_min or max_replicas")


def _scaling(scalings: Mapping[str, Scaling]) -> EcsScaling:
    (scaling,) = scalings.values()
    assert isinstance(scaling, EcsScaling)
    return scaling


def _account(scalings: Mapping[str, Scaling]) -> Account:
    from mlscale_aws.account import Account

    return Account(_scaling(scalings).region)
