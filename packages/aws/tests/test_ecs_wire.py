"""What AWS and the network do to a run, on the wire: requests are signed, retried and waited for by botocore itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aws_account import ACCOUNT, REGION, MemoryAccount, Stack, Time, refused
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from ecs_runs import APP, IMAGE, SCALING, deployed, killed_run

from mlscale import MeasureOptions, measure
from mlscale.commands.cleanup import cleanup_command
from mlscale.environments import Problem
from mlscale.host.ledger import Ledger, ledger_paths
from mlscale.host.reap import cleanup as host_cleanup
from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.remote import _files, _relay_output
from mlscale.loadgen.remote_job import INSTRUCTIONS, STREAM, Instructions, tables
from mlscale.loadgen.spec import Done, LoadSpec, WorkerSpec
from mlscale.loadgen.stimulus import Tally
from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop
from mlscale.runs.schedule import Constant, Staircase, Step, Trace
from mlscale_aws.account import Account
from mlscale_aws.environment import KIND, Ecs
from mlscale_aws.image import LABEL
from mlscale_aws.leftovers import cleanup
from mlscale_aws.load_job import FargateJob

MINUTE = OpenLoop(duration_s=60, rate=Constant(rate_rps=10))
Fault = Callable[[str, str, Mapping[str, Any]], None]


def on(operation: str, error: BaseException, times: float = float("inf"), **given: str) -> Fault:
    """Raises ``error`` the first ``times`` that ``operation`` comes with these parameters."""
    left = [times]

    def fault(_: str, asked: str, parameters: Mapping[str, Any]) -> None:
        if asked == operation and given.items() <= dict(parameters).items() and left[0] > 0:
            left[0] -= 1
            raise error

    return fault


def problems(load: OpenLoop | ClosedLoop | None = None, bodies: BodySet | None = None, **changes: Any) -> list[Problem]:
    app_scaling = SCALING.model_copy(update=changes)
    environment = Ecs() if load is None else Ecs().for_load(load, bodies or a_body())
    return list(environment.preflight(APP, {"app": app_scaling}, "live"))


def a_body(size: int = 1000) -> BodySet:
    return BodySet(("a",), (b"x" * size,), ("text/plain",), None, {"bytes": size, "sha256": "d" * 64})


def job_of(stack: str) -> FargateJob:
    job = FargateJob(REGION, stack, "load:1", "subnet-a,subnet-b", "sg-1")
    job.start({"MLSCALE_LOAD": "x"})
    return job


# The load's task.


def test_a_task_that_can_t_be_seen_yet_has_not_stopped(account: MemoryAccount, ledger: Ledger, clock: Time) -> None:
    account.unseen_s = 20.0
    with deployed(ledger) as found:
        job = job_of(found.stack)
        account.logs[f"load/load/{job._task.rpartition('/')[2]}"] = [(clock.s + 100, "it sends")]
        assert next(job.lines()) == "it sends"


def stopped_load(account: MemoryAccount, stack: str, folder: Path, late_s: float) -> FargateJob:
    """A load's task that has ended; the end of its log arrives ``late_s`` after it."""
    clock, job = account.clock, job_of(stack)
    clock.sleep(60)
    (task,) = [task for task in account.tasks.values() if task.started_by]
    task.stopped_at = clock.s
    summary = Tally(MINUTE).summary(cpu_s=1.0, wall_s=60.0, aborted=None)
    for name in (STREAM, f"hops-{STREAM}"):
        (folder / name).write_bytes(hashlib.shake_256(name.encode()).digest(20_000))
    lines = [Done(summary=summary).model_dump_json(), *tables(folder)]
    account.logs[f"load/load/{job._task.rpartition('/')[2]}"] = [
        (clock.s + (late_s if number > 1 else 0.0), line) for number, line in enumerate(lines)
    ]
    return job


def test_lines_that_come_late_are_waited_for(
    account: MemoryAccount, ledger: Ledger, clock: Time, tmp_path: Path
) -> None:
    (tmp_path / "tables").mkdir()
    with deployed(ledger) as found:
        job = stopped_load(account, found.stack, tmp_path / "tables", late_s=45.0)
        stopped_s = clock.s
        last, parts = _relay_output(job)
        assert isinstance(last, Done)
        whole = dict(_files(parts))
        assert set(whole) == {STREAM, f"hops-{STREAM}"}
        assert whole[STREAM] == (tmp_path / "tables" / STREAM).read_bytes()
        assert clock.s - stopped_s < 60, "and no longer"


def test_lines_that_never_come_are_not_waited_for_without_end(
    account: MemoryAccount, ledger: Ledger, clock: Time, tmp_path: Path
) -> None:
    (tmp_path / "tables").mkdir()
    with deployed(ledger) as found:
        job = stopped_load(account, found.stack, tmp_path / "tables", late_s=1e9)
        stopped_s = clock.s
        _, parts = _relay_output(job)
        with pytest.raises(MlscaleError, match="incomplete"):
            dict(_files(parts))
        assert clock.s - stopped_s < 400


# The image, the region, and what is to be sent: refused before anything is created.


def test_an_image_that_can_t_run_says_why(account: MemoryAccount, ledger: Ledger) -> None:
    """Deleting the stack removes the tasks, and with them the reason."""
    account.fails_to_make = "Service"
    with pytest.raises(MlscaleError, match=r"Service \(CREATE_FAILED\).*CannotPullContainerError"), deployed(ledger):
        pytest.fail("it was deployed")
    assert account.empty


def test_a_stack_that_is_never_complete_says_for_how_long(account: MemoryAccount, ledger: Ledger) -> None:
    account.takes_s = 1e6
    with pytest.raises(MlscaleError, match="it is not complete after 900 s"), deployed(ledger):
        pytest.fail("it was deployed")


ARM = {"os": "linux", "architecture": "arm64"}
AMD = {"os": "linux", "architecture": "amd64"}
CONFIG = "sha256:" + 64 * "c"


@pytest.mark.parametrize(
    ("images", "config", "words"),
    [
        ({}, AMD, "there is no image 1 in mlscale-app"),
        ({"1": {"config": {"digest": CONFIG}}}, ARM, "not built for linux/amd64"),
        ({"1": {"manifests": [{"digest": "sha256:1", "platform": ARM}]}}, ARM, "not built for linux/amd64"),
        (
            {"1": {"config": {"digest": CONFIG}}},
            {**AMD, "config": {"Labels": {LABEL: "e" * 64}}},
            "does not name the files",
        ),
        ({"1": {"config": {"digest": CONFIG}}}, AMD, "does not name the files"),
    ],
)
def test_an_image_that_tasks_can_t_use_is_refused(
    account: MemoryAccount, images: dict[str, Any], config: dict[str, Any], words: str
) -> None:
    account.images, account.blobs = images, {CONFIG: config}
    (problem,) = problems(MINUTE)
    assert problem.fatal
    assert words in problem.what
    assert ("files" in words) == (f"--label {LABEL}={'d' * 64}" in problem.remedy)


def test_an_image_for_several_platforms_with_the_right_files_is_taken(account: MemoryAccount) -> None:
    several = [{"digest": "sha256:1", "platform": ARM}, {"digest": "sha256:2", "platform": AMD}]
    account.images = {"1": {"manifests": several}, "sha256:2": {"config": {"digest": CONFIG}}}
    account.blobs = {CONFIG: {**AMD, "config": {"Labels": {LABEL: "d" * 64}}}}
    assert problems(MINUTE) == []


@pytest.mark.parametrize(
    "image", [IMAGE.replace(ACCOUNT, "999988887777"), IMAGE.replace("mlscale-app", "app"), "docker.io/library/python:3"]
)
def test_an_image_that_the_guard_s_role_can_t_pull_or_nobody_can_look_at_is_refused(
    account: MemoryAccount, image: str
) -> None:
    (problem,) = problems(image=image)
    assert problem.fatal
    assert "this account's repositories mlscale-* alone" in problem.what


def test_a_region_without_metrics_of_20_s_is_refused(account: MemoryAccount) -> None:
    account.schema = {"properties": {"LaunchType": {}}}
    (problem,) = problems()
    assert "--arm shipped" in problem.remedy
    assert problems(metric_period_s=60) == []


def test_a_load_that_outlives_the_stack_is_refused(account: MemoryAccount) -> None:
    longer = [each for each in problems(MINUTE.model_copy(update={"duration_s": 3000.0})) if each.fatal]
    assert [each.remedy for each in longer] == ["set lifetime_min=63, or shorten the load"]


@pytest.mark.parametrize(("steps", "fits"), [(600, True), (1200, False)])
def test_a_schedule_that_no_task_can_be_told_is_refused(
    account: MemoryAccount, ledger: Ledger, tmp_path: Path, steps: int, fits: bool
) -> None:
    """RunTask takes 8192 characters: that would be noticed after the deployment."""
    rates = np.random.default_rng(1).uniform(1, 50, steps)
    stairs = Staircase(steps=tuple(Step(start_s=k, rate_rps=round(float(rate), 2)) for k, rate in enumerate(rates)))
    load = OpenLoop(duration_s=float(steps), rate=stairs)
    assert ["characters at most" in each.what for each in problems(load)] == ([] if fits else [True])
    sent = LoadSpec(url="http://internal-balancer.us-east-1.elb.amazonaws.com/decode", schedule=load, bodies=tmp_path)
    spec = WorkerSpec(load=sent, worker=0, stream=tmp_path / "requests.arrows")
    told = Instructions(spec=spec, zero_at=1.7e9, start_s=180.0, bodies_sha256="d" * 64, warm_up=True)
    with deployed(ledger) as found, nullcontext() if fits else pytest.raises(MlscaleError, match="8192"):
        FargateJob(REGION, found.stack, "load:1", "subnet-a,subnet-b", "sg-1").start({INSTRUCTIONS: told.encode()})


def test_the_budget_covers_what_the_load_costs(account: MemoryAccount) -> None:
    """At 10,000 connections a second the load balancer costs ten times all else."""
    heavy = MINUTE.model_copy(update={"duration_s": 1800.0, "rate": Constant(rate_rps=10_000)})
    assert [each.where for each in problems(heavy) if each.fatal] == ["--scaling budget_usd"]


def test_a_recorded_trace_is_refused_before_anything_is_created(account: MemoryAccount, tmp_path: Path) -> None:
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies/a.txt").write_text("a")
    recorded = OpenLoop(duration_s=60, rate=Trace(file=str(tmp_path / "trace.csv")))
    quiet = MeasureOptions(quiet_at_most_s=0)
    with pytest.raises(MlscaleError, match="a recorded trace can't be sent from elsewhere"):
        measure(Ecs(), APP, recorded, bodies=tmp_path / "bodies", out=tmp_path / "run", scaling=SCALING, options=quiet)
    assert ("cloudformation", "CreateChangeSet") not in account.calls


# What could cost, or stay behind.


def test_a_stack_is_deleted_even_if_its_tasks_can_t_be_listed(account: MemoryAccount, ledger: Ledger) -> None:
    with deployed(ledger):
        account.fault = on("ListTasks", refused("AccessDeniedException", "not authorized"))
    assert account.empty
    assert not ledger.open_entries


def test_what_remains_is_said_with_what_failed_first(account: MemoryAccount, ledger: Ledger) -> None:
    """The load can't be stopped, and a cluster with a task can't be deleted."""

    def left() -> None:
        with deployed(ledger) as found:
            job_of(found.stack)
            account.fault = on("StopTask", refused("AccessDeniedException", "no stop"))

    remains = r"no stop; stack mlscale-run-\w+ remains, and deletes itself from 2026-11-29T13:\d\d"
    with pytest.raises(MlscaleError, match=remains) as caught:
        left()
    assert "aws cloudformation delete-stack --stack-name mlscale-run-" in caught.value.remedy
    assert ("cloudformation", "DeleteStack") in account.calls
    assert ledger.open_entries


def test_the_run_s_own_error_comes_first(account: MemoryAccount, ledger: Ledger) -> None:
    said: list[str] = []

    def failing() -> None:
        with deployed(ledger, said):
            account.fault = on("DeleteStack", refused("AccessDenied", "no deletion"))
            raise ValueError("the load fell behind")

    with pytest.raises(ValueError, match="fell behind"):
        failing()
    assert "remains" in said[-1]


def left_for_later(clock: Time) -> tuple[list[str], float]:
    """What a local run says of ledgers that others left, and how long that takes, s."""
    said: list[str] = []
    began_s = clock.s
    host_cleanup(reapers={KIND: Ecs().reap}, unreachable=lambda error: said.append(str(error)))
    return said, clock.s - began_s


def test_an_account_out_of_reach_stops_no_local_run(account: MemoryAccount, ledger: Ledger, clock: Time) -> None:
    stack = killed_run(account, ledger)
    ledger.close()
    for error, words in (
        (refused("ExpiredToken", "expired", 403), "expired"),
        (EndpointConnectionError(endpoint_url="https://sts"), "can't be reached"),
    ):
        account.fault = on("GetCallerIdentity", error)
        (said,), _ = left_for_later(clock)
        assert stack in said
        assert words in said
        assert "\n" not in said
        assert list(ledger_paths()), "it stays for a later cleanup"


def test_a_deletion_that_never_ends_delays_no_local_run(account: MemoryAccount, ledger: Ledger, clock: Time) -> None:
    stack = killed_run(account, ledger)
    ledger.close()
    account.takes_s = 1e6
    (said,), took_s = left_for_later(clock)
    assert f"stack {stack} remains" in said
    assert took_s < 60
    account.takes_s = 4.0
    clock.sleep(300)
    assert left_for_later(clock)[0] == []
    assert account.empty
    assert not list(ledger_paths())


def test_a_run_s_profile_and_region_are_used_for_its_removal(
    account: MemoryAccount, clock: Time, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile lab]\nregion = eu-central-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    ledger = Ledger.create("run")
    killed_run(account, ledger)
    (entry,) = ledger.open_entries
    assert (entry.identity["profile"], entry.identity["region"]) == ("lab", REGION)
    monkeypatch.delenv("AWS_PROFILE")
    ledger.close()
    account.profiles.clear()
    left_for_later(clock)
    assert account.profiles == {"lab"}


def test_a_stack_that_doesn_t_exist_for_a_moment_is_waited_for(account: MemoryAccount, ledger: Ledger) -> None:
    """The name is unknown three times, as it may be anywhere in a distributed system, while the stack is deleted."""
    with deployed(ledger) as found:
        gone = refused("ValidationError", f"Stack with id {found.stack} does not exist")
        account.fault = on("DescribeStacks", gone, times=3)
    assert account.empty, "the ledger says so"
    assert not ledger.open_entries


@pytest.mark.parametrize("operation", ["CreateChangeSet", "ExecuteChangeSet", "RunTask", "DeleteStack"])
def test_an_answer_that_is_lost_is_asked_for_again(account: MemoryAccount, ledger: Ledger, operation: str) -> None:
    account.loses = on(operation, ReadTimeoutError(endpoint_url="https://aws"), times=1)
    with deployed(ledger) as found:
        job_of(found.stack).stop()
        assert sum(task.started_by != "" for task in account.tasks.values()) == 1
    assert account.empty


def test_throttling_ends(account: MemoryAccount, ledger: Ledger) -> None:
    account.fault = on("DescribeChangeSet", refused("Throttling", "Rate exceeded"), times=5)
    with deployed(ledger):
        pass
    assert account.empty


@pytest.mark.parametrize(("ahead_s", "words"), [(1200.0, "20 min behind"), (-1200.0, "20 min ahead"), (0.0, "expired")])
def test_a_wrong_clock_is_not_expired_credentials(account: MemoryAccount, ahead_s: float, words: str) -> None:
    account.ahead_s = ahead_s
    account.fault = on("GetCallerIdentity", refused("SignatureDoesNotMatch", "Signature expired: 20261129T1140", 403))
    with pytest.raises(MlscaleError, match=words):
        Account(REGION).number()


def test_cleanup_looks_into_every_region_that_a_ledger_names(account: MemoryAccount, ledger: Ledger) -> None:
    ledger.intend(KIND, account=ACCOUNT, region="eu-central-1", stack="mlscale-run-x")
    ledger.close()
    cleanup()
    assert account.regions >= {REGION, "eu-central-1"}


def test_a_stack_of_eks_that_nobody_tagged_is_seen(account: MemoryAccount) -> None:
    for name, expires in (("late", "2026-11-29T10:00:00Z"), ("running", "2026-11-29T14:00:00Z")):
        stack = Stack(f"mlscale-run-{name}", {"Resources": {}}, {"ExpiresAt": expires}, {}, "CREATE_COMPLETE")
        account.stacks[stack.name] = stack
    assert cleanup() == [
        f"removed aws-stack: mlscale-run-late in {REGION}",
        f"not removed, since nobody's: mlscale-run-running in {REGION}, expires 2026-11-29T14:00:00Z",
    ]


def test_a_stack_that_can_t_be_deleted_keeps_no_other_from_it(account: MemoryAccount, ledger: Ledger) -> None:
    """Nor a region that doesn't answer: what failed is said once the rest is gone."""
    first, _ = (killed_run(account, ledger) for _ in range(2))
    ledger.intend(KIND, account=ACCOUNT, region="ap-east-1", stack="mlscale-run-elsewhere")
    ledger.close()
    refuses = on("DeleteStack", refused("AccessDenied", "no deletion"), StackName=first)
    unknown = on("DescribeStacks", refused("UnrecognizedClientException", "region not enabled", 403), times=1)

    def fault(*asked: Any) -> None:
        unknown(*asked)  # of ap-east-1, which comes first
        refuses(*asked)

    account.fault = fault
    with pytest.raises(MlscaleError, match=rf"expired or wrong.*no deletion.*{first} remains"):
        cleanup()
    assert set(account.stacks) == {"mlscale-guard", first}


def test_cleanup_of_the_account_waits_for_what_the_ledger_s_only_requests(
    account: MemoryAccount, ledger: Ledger
) -> None:
    stack = killed_run(account, ledger)
    ledger.close()
    said = cleanup_command("0s", aws=True).splitlines()
    assert [line.partition(":")[0] for line in said] == ["left for later", "removed aws-stack"]
    assert all(stack in line for line in said)
    assert account.empty
    assert stack in cleanup_command("0s"), "the ledger follows"
    assert cleanup_command("0s") == "nothing to remove"
