"""ECS against an account in memory (aws_account.py): what is made, observed and removed, whatever happens between."""

from __future__ import annotations

import getpass
import itertools
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aws_account import REGION, TEMPLATES, Killed, MemoryAccount, Stack, Time, refused
from ecs_runs import APP, SCALING, Kill, Stop, deployed, killed_run, reaped
from parliament import analyze_policy_string

from mlscale.host.ledger import Ledger
from mlscale.runs import Event, MlscaleError, Observation, ReplicaSample, ResourceSample, RunClock
from mlscale.runs.clock import Skew
from mlscale_aws.account import Account
from mlscale_aws.environment import KIND, Ecs
from mlscale_aws.leftovers import remove_leftovers
from mlscale_aws.stack import EXPIRES, OWNER, RUN


def test_a_run_s_stack_is_shown_made_and_removed(account: MemoryAccount, ledger: Ledger) -> None:
    said: list[str] = []
    with deployed(ledger, said) as found:
        (name,) = [name for name in account.stacks if name.startswith("mlscale-run-")]
        stack = account.stacks[name]
        assert stack.made[0] == "Expiry"
        assert stack.tags["mlscale:run"] == name
        assert stack.parameters["ExpiresAt"].startswith("2026-11-29T13:0"), "an hour later"
        assert (stack.parameters["TaskCpu"], stack.parameters["TaskMemory"]) == ("256", "512")
        assert found.url.endswith("/decode")
        assert found.facts["expires_at"] == stack.parameters["ExpiresAt"]
        assert found.facts["clock_within_s"] < 1.5
        assert [entry.identity["stack"] for entry in ledger.open_entries] == [name]
    assert name in said[0]
    assert "AWS::ECS::Service" in said[0]
    assert "USD" in said[0]
    assert account.empty
    assert not ledger.open_entries


def test_nothing_is_made_without_a_budget_that_covers_it(account: MemoryAccount, ledger: Ledger) -> None:
    for budget, words in ((None, "without a budget"), (0.01, "may cost")):
        scaling = SCALING.model_copy(update={"budget_usd": budget})
        with pytest.raises(MlscaleError, match=words), deployed(ledger, scaling=scaling):
            pytest.fail("it was deployed")
    assert account.empty
    assert not [operation for _, operation in account.calls if operation.startswith("Create")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"launch": "ec2"}, "only be simulated"),
        ({"metric": "in_flight", "metric_period_s": 60}, "custom metric"),
        ({"out_datapoints": 1}, "chooses the datapoints"),
    ],
)
def test_what_aws_or_this_version_lacks_is_said(account: MemoryAccount, changes: Mapping[str, Any], words: str) -> None:
    problems = Ecs().preflight(APP, {"app": SCALING.model_copy(update=dict(changes))}, "live")
    assert any(words in problem.what for problem in problems)
    assert not account.calls


def test_an_account_without_a_guard_is_told_how_to_get_one(clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    MemoryAccount(clock, guarded=False).install(monkeypatch)
    (problem,) = Ecs().preflight(APP, {"app": SCALING}, "live")
    assert "no guard" in problem.what
    assert "cloud/guard.yaml" in problem.remedy


def test_what_happens_is_observed(account: MemoryAccount, ledger: Ledger, clock: Time) -> None:
    with deployed(ledger) as found:
        clock.sleep(120)  # of which CPU is known
        run_clock = RunClock(origin_s=clock.s)
        object.__setattr__(
            run_clock, "wall_start", run_clock.wall_start.fromtimestamp(clock.s, run_clock.wall_start.tzinfo)
        )
        stop = Stop(clock, 200)
        seen: list[Observation] = []
        scaled = False
        for observation in found.observe(run_clock, stop):
            seen.append(observation)
            if not scaled and clock.s - run_clock.wall_start.timestamp() > 33:
                scaled = True
                account.scale(3, "monitor alarm TargetTracking-AlarmHigh in state ALARM triggered policy cpu")
    events = [each for each in seen if isinstance(each, Event)]
    (decision,) = [event for event in events if event.kind == "scale_decision"]
    assert (decision.detail["from"], decision.detail["to"]) == (1, 3)
    assert "AlarmHigh" in decision.detail["reason"]
    assert 33 < decision.t_s < 36, "between two looks at the activities"
    kinds = ["replica_created", "replica_scheduled", "replica_started", "replica_ready"]
    for subject in {event.subject for event in events if event.kind == "replica_created"}:
        mine = {event.kind: event.t_s for event in events if event.subject == subject}
        assert sorted(mine, key=lambda kind: mine[kind]) == kinds
        assert mine["replica_started"] - mine["replica_created"] == pytest.approx(42, abs=0.1)
    started = next(event for event in events if event.kind == "replica_started")
    assert started.detail["pull_s"] == pytest.approx(28)
    assert started.detail["replica_id"].endswith("-1")
    samples = [each for each in seen if isinstance(each, ReplicaSample)]
    assert (samples[0].desired, samples[-1].desired, samples[-1].ready) == (1, 3, 3)
    assert any(sample.starting == 2 for sample in samples)
    usage = [each for each in seen if isinstance(each, ResourceSample)]
    assert {round(each.cpu_cores, 3) for each in usage} == {0.2, 0.6}, "80 % of 0.25 vCPU a task: only complete values"
    assert len({each.t_s for each in usage}) == len(usage), "each period once"


def test_a_resource_that_can_t_be_made_is_named_and_nothing_is_left(account: MemoryAccount, ledger: Ledger) -> None:
    account.fails_to_make = "Balancer"
    with pytest.raises(MlscaleError, match=r"Balancer \(CREATE_FAILED\): .*no more of those"), deployed(ledger):
        pytest.fail("it was deployed")
    assert account.empty
    assert not ledger.open_entries


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.proof)])
def test_killed_at_any_call_one_cleanup_empties_the_account(
    clock: Time, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, every: int
) -> None:
    """From the first call of deploy to the last one of teardown; the ledger alone says what there was."""
    for number in itertools.count(1, every):
        with monkeypatch.context() as patched:
            account = MemoryAccount(clock)
            account.install(patched)
            patched.setenv("XDG_STATE_HOME", str(tmp_path / f"state-{number}"))
            ledger, done = Ledger.create("run"), False
            killing = Kill(number)
            account.fault = killing
            try:
                with deployed(ledger) as found:
                    for _ in found.observe(RunClock(origin_s=clock.s), Stop(clock, 5)):
                        pass
                    account._run_task(_a_load(found))
                done = True
            except Killed:
                pass
            account.fault = lambda service, operation, parameters: None
            for entry in ledger.open_entries:
                assert entry.kind == KIND
                reaped(entry, clock)
            assert account.empty, f"after a kill at call {number}: {killing.at}"
        if done:
            break
    assert number > 25, "that many calls were tried"


def _a_load(found: Any) -> Mapping[str, Any]:
    return {"cluster": found.stack, "taskDefinition": "load:1", "startedBy": "mlscale"}


def test_a_stack_whose_laptop_died_deletes_itself(account: MemoryAccount, ledger: Ledger, clock: Time) -> None:
    """A load's task that still runs holds the cluster; the next try, once it has ended, removes the rest."""
    try:
        with deployed(ledger) as found:
            account._run_task(_a_load(found))
            account.fault = Kill(1)
            raise Killed
    except Killed:
        account.fault = lambda service, operation, parameters: None
    assert not account.empty
    clock.sleep(61 * 60)
    for _ in range(20):
        clock.sleep(60)
        account._advance()
    assert not account.empty, "the load's task runs still"
    for task in account.tasks.values():
        task.stopped_at = clock.s
    for _ in range(20):
        clock.sleep(60)
        account._advance()
    assert account.empty
    Ecs().reap(ledger.open_entries[0])


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("ExpiredToken", 403, "expired or wrong"),
        ("AccessDeniedException", 403, "not allowed"),
        ("ThrottlingException", 400, "throttling"),
        ("InternalFailure", 500, "AWS failed"),
        ("ServiceUnavailable", 503, "AWS failed"),
    ],
)
def test_errors_of_aws_s_are_one_sentence_and_leave_the_ledger_true(
    account: MemoryAccount, ledger: Ledger, code: str, status: int, words: str
) -> None:
    def fault(service: str, operation: str, parameters: Mapping[str, Any]) -> None:
        if operation == "DescribeServices":
            raise refused(code, "told by AWS", status)

    def observed() -> None:
        with deployed(ledger) as found:
            account.fault = fault
            list(found.observe(RunClock(), threading.Event()))

    with pytest.raises(MlscaleError, match=words):
        observed()
    account.fault = lambda service, operation, parameters: None
    for entry in ledger.open_entries:
        reaped(entry, account.clock)
    assert account.empty


def test_another_account_s_credentials_remove_nothing(account: MemoryAccount, ledger: Ledger) -> None:
    entry = ledger.intend(KIND, account="999988887777", region=REGION, stack="mlscale-run-x")
    with pytest.raises(MlscaleError, match="credentials of account 111122223333"):
        Ecs().reap(entry)


def test_the_user_policy_allows_what_is_called_and_nothing_else(
    account: MemoryAccount, ledger: Ledger, clock: Time
) -> None:
    from mlscale_aws.load_job import FargateJob

    with deployed(ledger) as found:
        for _ in found.observe(RunClock(origin_s=clock.s), Stop(clock, 5)):
            pass
        job = FargateJob(REGION, found.stack, "load:1", "subnet-a,subnet-b", "sg-1")
        job.start({"MLSCALE_LOAD": "x"})
        job.stop()
        with pytest.raises(MlscaleError, match="wrote nothing"):
            list(job.lines())
    account.fails_to_make = "Vpc"
    with pytest.raises(MlscaleError), deployed(ledger):
        pytest.fail("it was deployed")
    remove_leftovers(Account(REGION), living=())
    called = {ACTIONS.get(service, service) + ":" + operation for service, operation in account.calls}
    policy = json.loads((TEMPLATES / "user-policy.json").read_text())
    allowing = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
    allowed = {action for statement in allowing for action in _listed(statement["Action"])}
    assert allowed >= USED_ELSEWHERE
    assert called - {"sts:GetCallerIdentity"} == allowed - USED_ELSEWHERE, "everybody may ask who they are"
    everywhere = [
        each["Action"] for each in policy["Statement"] if each["Resource"] == "arn:aws:cloudformation:*:*:stack/*/*"
    ]
    assert everywhere == ["cloudformation:DescribeStacks"], "as listing them asks for"


# Rights that the calls above pass on, and that `aws eks update-kubeconfig` and `mlscale prices --refresh` need.
USED_ELSEWHERE = {"iam:PassRole", "eks:DescribeCluster", "pricing:GetProducts", "ec2:DescribeSpotPriceHistory"}
# Where a service's prefix in policies is not its name in boto3.
ACTIONS = {"elbv2": "elasticloadbalancing", "resourcegroupstaggingapi": "tag"}


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def test_no_action_is_a_pattern_and_what_can_be_narrowed_is() -> None:
    """By the actions' own rules: those that know no resources are asked of "*"."""
    policy = json.loads((TEMPLATES / "user-policy.json").read_text())
    for statement in (each for each in policy["Statement"] if each["Effect"] == "Allow"):
        assert not [action for action in _listed(statement["Action"]) if "*" in action]
        if "*" in _listed(statement["Resource"]):
            assert all(
                action.partition(":")[2].startswith(("Describe", "Get", "List"))
                for action in _listed(statement["Action"])
            )


def test_parliament_finds_nothing_but_two_lists() -> None:
    """Tasks are listed in a run's own cluster only (a condition, which parliament does not weigh); alarm histories can
    only be listed for the account."""
    findings = analyze_policy_string((TEMPLATES / "user-policy.json").read_text()).findings
    assert {(finding.issue, *finding.detail) for finding in findings} == {
        ("RESOURCE_STAR", "cloudwatch:DescribeAlarmHistory"),
        ("RESOURCE_STAR", "ecs:ListTasks"),
    }


def test_how_far_clocks_are_apart_is_bounded_by_each_answer() -> None:
    from datetime import UTC, datetime

    at = datetime(2026, 11, 29, 12, 0, 5, tzinfo=UTC)
    first = Skew().narrowed(at, at.timestamp() - 10.2, at.timestamp() - 10.0)
    assert (first.low_s, first.high_s) == (pytest.approx(10.0), pytest.approx(11.2))
    second = first.narrowed(at, at.timestamp() - 9.6, at.timestamp() - 9.5)
    assert (second.low_s, second.high_s) == (pytest.approx(10.0), pytest.approx(10.6))
    assert second.within_s == pytest.approx(0.3)
    jumped = second.narrowed(at, at.timestamp() - 99.0, at.timestamp() - 98.9)
    assert jumped.low_s == pytest.approx(98.9)
    assert Skew().middle_s == 0.0


def test_cleanup_finds_one_s_own_stacks_without_a_ledger(account: MemoryAccount, ledger: Ledger, clock: Time) -> None:
    """Not those that a run is using, other people's only once expired; what is tagged and has no stack any more is
    named."""
    names = [killed_run(account, ledger) for _ in range(4)]
    account.stacks["mlscale-run-eks"] = Stack("mlscale-run-eks", {"Resources": {}}, {}, {}, "CREATE_COMPLETE")
    for name in (names[1], names[3]):
        account.stacks[name].tags[OWNER] = getpass.getuser()  # also somebody's on another machine
    account.stacks[names[3]].parameters["ExpiresAt"] = "2026-01-01T00:00:00Z"
    account.stacks[names[3]].made.remove("Expiry")  # else it would be gone already
    account.orphans.append(
        ("arn:aws:ec2:us-east-1:1:vpc/vpc-1", {RUN: "mlscale-run-gone", EXPIRES: "2026-01-01T00:00:00Z"})
    )
    account.orphans.append(
        ("arn:aws:ecs:us-east-1:1:task-definition/x:1", {RUN: "mlscale-run-gone", EXPIRES: "2026-01-01T00:00:00Z"})
    )
    account.orphans.append(
        ("arn:aws:ec2:us-east-1:1:vpc/vpc-2", {RUN: "mlscale-run-late", EXPIRES: "2999-01-01T00:00:00Z"})
    )
    said = remove_leftovers(Account(REGION), living={names[2]})
    assert said == [
        f"removed aws-stack: {names[0]} in {REGION}",
        f"removed aws-stack: {names[3]} in {REGION}",
        f"not removed, since nobody's: mlscale-run-eks in {REGION}, expires never",
        "still tagged, though its stack is gone: arn:aws:ec2:us-east-1:1:vpc/vpc-1",
    ]
    assert set(account.stacks) == {"mlscale-guard", "mlscale-run-eks", *names[1:3]}
    assert remove_leftovers(Account(REGION), living={names[2]}) == said[2:], "a second one finds nothing more to remove"
