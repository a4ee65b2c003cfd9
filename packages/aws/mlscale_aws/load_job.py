"""The load of a run on ECS: a task in the run's stack, which reports what it sent through its log."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mlscale.runs import MlscaleError
from mlscale.runs.info import ClockOffset
from mlscale_aws.account import Account, is_gone
from mlscale_aws.observation import stop_reason

# From requesting the task until it can send, s: Fargate's start (53 to 62 s with an image of 413 MB), the application's
# image, imports, every body sent twice.
LEAD_S: Final = 180.0
# Of ecs.yaml.
CONTAINER: Final = "load"
_POLL_S: Final = 2.0
# How long after a task's end its last log lines may arrive, s (assumed; the reader stops once it has everything).
_LOG_LAG_S: Final = 300.0


class FargateJob:
    """See `mlscale.loadgen.remote.RemoteJob`, which opens it with arguments from a command line."""

    warms_up = True
    clock_within_s = math.inf

    def __init__(self, region: str, stack: str, definition: str, subnets: str, group: str) -> None:
        self._account = Account(region)
        self._stack, self._definition = stack, definition
        self._network = {
            "awsvpcConfiguration": {
                "subnets": subnets.split(","),
                "securityGroups": [group],
                "assignPublicIp": "ENABLED",
            }
        }
        self._account.number()
        self._task = ""
        self._stopped = False

    def clock(self) -> ClockOffset:
        """AWS's, by the dates of its answers."""
        skew = self._account.skew
        return ClockOffset(machine="AWS", ahead_s=skew.middle_s, within_s=skew.within_s)

    def send_bodies(self, bodies: Path) -> None:
        """They are in the application's image."""

    def start(self, environment: Mapping[str, str]) -> None:
        """Raises MlscaleError if AWS refuses the task or has no capacity."""
        variables = [{"name": name, "value": value} for name, value in environment.items()]
        answer = self._account.call(
            "ecs",
            "run_task",
            cluster=self._stack,
            taskDefinition=self._definition,
            launchType="FARGATE",
            count=1,
            networkConfiguration=self._network,
            overrides={"containerOverrides": [{"name": CONTAINER, "environment": variables}]},
            startedBy="mlscale",
        )
        if not answer.get("tasks"):
            reasons = ", ".join(str(failure.get("reason")) for failure in answer.get("failures", ()))
            what = f"the load's task was not started: {reasons or 'no reason given'}"
            raise MlscaleError(what, self._stack, "try again, or raise the quota")
        self._task = str(answer["tasks"][0]["taskArn"])

    def lines(self) -> Iterator[str]:
        """Raises MlscaleError if the task ended without any output."""
        stream = f"{CONTAINER}/{CONTAINER}/{self._task.rpartition('/')[2]}"
        token: dict[str, str] = {}
        ends_s, any_output = math.inf, False
        while True:
            lines, token, more = self._read(stream, token)
            for line in lines:
                any_output = True
                yield line
            if more:
                continue
            if ends_s == math.inf and (task := self._describe()).get("lastStatus") == "STOPPED":
                # One that never started has no log.
                ends_s = time.monotonic() + (_LOG_LAG_S if "startedAt" in task else 0.0)
            if time.monotonic() >= ends_s:
                break
            time.sleep(_POLL_S)
        if not any_output:
            raise MlscaleError(
                f"the load's task wrote nothing: {stop_reason(self._describe())}",
                self._stack,
                "see the task in the ECS console",
            )

    def stop(self) -> None:
        """SIGTERM to the worker; `lines` still returns what it reports afterwards."""
        if self._task and not self._stopped:
            self._stopped = True
            self._account.call("ecs", "stop_task", cluster=self._stack, task=self._task, reason="mlscale: load stopped")

    def _read(self, stream: str, token: dict[str, str]) -> tuple[list[str], dict[str, str], bool]:
        """Lines from ``token`` on, the next token, and whether there may be more. A stream that does not exist yet has
        no lines. (get_log_events has no paginator: CloudWatch repeats the token at the end of the stream.)"""
        try:
            answer = self._account.call(
                "logs", "get_log_events", logGroupName=self._stack, logStreamName=stream, startFromHead=True, **token
            )
        except MlscaleError as error:
            if is_gone(error):
                return [], token, False
            raise
        next_token = {"nextToken": str(answer["nextForwardToken"])}
        lines = [str(event["message"]) for event in answer["events"]]
        return lines, next_token, next_token != token

    def _describe(self) -> Mapping[str, Any]:
        """The task; empty until it is visible: RunTask is eventually consistent (its API reference)."""
        answer = self._account.call("ecs", "describe_tasks", cluster=self._stack, tasks=[self._task])
        return dict(answer["tasks"][0]) if answer["tasks"] else {}
