"""An application deployed on ECS: where load goes, and what is observed (contract: `Deployed`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mlscale.environments.base import ObservationLost
from mlscale.loadgen.remote import prefix
from mlscale.runs import MlscaleError, Observation, RunClock
from mlscale_aws.account import Account
from mlscale_aws.load_job import LEAD_S
from mlscale_aws.observation import SERVICE, TASKS_PER_CALL, ServiceWatch
from mlscale_aws.settings import EcsScaling

_STATE_S: Final = 2.0
_DECISIONS_S: Final = 10.0
_METRICS_S: Final = 20.0
# How far back CloudWatch is asked.
_METRICS_LATE: Final = timedelta(minutes=5)
# How long after a period's end its values are taken, s: tasks report separately and late, so a mean is incomplete at
# first, and each period is taken once.
_METRICS_SETTLED_S: Final = 120.0


@dataclass(frozen=True)
class EcsDeployed:
    """See `mlscale.environments.base.Deployed`. ``outputs``: the stack's."""

    account: Account
    stack: str
    component: str
    scaling: EcsScaling
    outputs: Mapping[str, str]
    url: str
    facts: Mapping[str, Any]
    versions: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def load_prefix(self) -> Sequence[str]:
        """argv prefix by which a task next to the application sends the load."""
        return prefix(
            "mlscale_aws.load_job:FargateJob",
            LEAD_S,
            region=self.account.region,
            stack=self.stack,
            definition=self.outputs["LoadDefinitionArn"],
            subnets=self.outputs["SubnetIds"],
            group=self.outputs["LoadGroupId"],
        )

    def observe(self, clock: RunClock, stop: threading.Event) -> Iterator[Observation]:
        """Poll AWS until ``stop`` is set, then once more for values that arrive late; the CPU of the last two minutes
        stays unknown.

        Raises:
            ObservationLost: AWS no longer answers.
        """
        zero_at = clock.wall_start.timestamp() + self.account.skew.middle_s
        watch = ServiceWatch(self.component, zero_at, self.account.skew.within_s, self.scaling.min_replicas)
        next_s = dict.fromkeys((_STATE_S, _DECISIONS_S, _METRICS_S), time.monotonic())
        since_s = 0.0
        try:
            while not stop.is_set():
                now_s = time.monotonic()
                if now_s >= next_s[_STATE_S]:
                    yield from self._state(watch, since_s or _STATE_S)
                    since_s, next_s[_STATE_S] = time.monotonic() - now_s + _STATE_S, now_s + _STATE_S
                if now_s >= next_s[_DECISIONS_S]:
                    next_s[_DECISIONS_S] = now_s + _DECISIONS_S
                    yield from self._decisions(watch, zero_at)
                if now_s >= next_s[_METRICS_S]:
                    next_s[_METRICS_S] = now_s + _METRICS_S
                    yield from self._usage(watch, zero_at)
                stop.wait(max(0.0, next_s[_STATE_S] - time.monotonic()))
            yield from self._state(watch, _STATE_S)
            yield from self._decisions(watch, zero_at)
            yield from self._usage(watch, zero_at)
        except MlscaleError as error:
            raise ObservationLost(error.what, error.where, "the run can't be completed; repeat it") from error

    def _state(self, watch: ServiceWatch, since_s: float) -> Iterator[Observation]:
        call, at = self.account.call, self.account.now()
        arns = [
            arn
            for status in ("RUNNING", "STOPPED")
            for arn in self.account.listed(
                "ecs", "list_tasks", "taskArns", cluster=self.stack, serviceName=SERVICE, desiredStatus=status
            )
        ]
        for first in range(0, len(arns), TASKS_PER_CALL):
            described = call("ecs", "describe_tasks", cluster=self.stack, tasks=arns[first : first + TASKS_PER_CALL])
            yield from watch.tasks(described["tasks"])
        group = self.outputs["TargetGroupArn"]
        health = call("elbv2", "describe_target_health", TargetGroupArn=group)["TargetHealthDescriptions"]
        yield from watch.targets(health, at, since_s)
        (service,) = call("ecs", "describe_services", cluster=self.stack, services=[SERVICE])["services"]
        yield watch.replicas(service, health, at)

    def _decisions(self, watch: ServiceWatch, zero_at: float) -> Iterator[Observation]:
        yield from watch.activities(
            self.account.listed(
                "application-autoscaling",
                "describe_scaling_activities",
                "ScalingActivities",
                ServiceNamespace="ecs",
                ResourceId=f"service/{self.stack}/{SERVICE}",
                ScalableDimension="ecs:service:DesiredCount",
                IncludeNotScaledActivities=True,
            )
        )
        items = self.account.listed(
            "cloudwatch",
            "describe_alarm_history",
            "AlarmHistoryItems",
            HistoryItemType="StateUpdate",
            StartDate=datetime.fromtimestamp(zero_at, UTC) - timedelta(hours=1),
        )
        prefix = f"TargetTracking-service/{self.stack}/"
        yield from watch.alarms([item for item in items if str(item["AlarmName"]).startswith(prefix)])

    def _usage(self, watch: ServiceWatch, zero_at: float) -> Iterator[Observation]:
        period_s = self.scaling.metric_period_s
        dimensions = [{"Name": "ClusterName", "Value": self.stack}, {"Name": "ServiceName", "Value": SERVICE}]
        metric = {"Namespace": "AWS/ECS", "MetricName": "CPUUtilization", "Dimensions": dimensions}
        end = datetime.fromtimestamp(self.account.now(), UTC)
        start = max(datetime.fromtimestamp(zero_at, UTC) - timedelta(minutes=2), end - _METRICS_LATE)
        results = self.account.listed(
            "cloudwatch",
            "get_metric_data",
            "MetricDataResults",
            MetricDataQueries=[
                {"Id": "cpu", "MetricStat": {"Metric": metric, "Period": period_s, "Stat": "Average"}},
                {"Id": "tasks", "MetricStat": {"Metric": metric, "Period": period_s, "Stat": "SampleCount"}},
            ],
            StartTime=start,
            EndTime=end,
        )
        by_id = {str(row["Id"]): dict(zip(row["Timestamps"], row["Values"], strict=True)) for row in results}
        settled = end - timedelta(seconds=period_s + _METRICS_SETTLED_S)
        for moment, percent in by_id.get("cpu", {}).items():
            if moment <= settled:
                tasks = round(by_id.get("tasks", {}).get(moment, 1.0))
                yield from watch.usage(moment, percent, period_s, self.scaling.cpu_cores, tasks)
