"""A strategy's settings as files that its framework accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, NamedTuple

import yaml

from mlscale import environments
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.environments.kubernetes.manifests import autoscaler, resource_requests, route
from mlscale.environments.kubernetes.node_pool import node_pool
from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.environments.machine_types import catalogue
from mlscale_twin.strategy.strategies import Strategy

_DAY_MIN: Final = 1440
# Of the machines that may be removed at a time, as Karpenter has it by default.
_DISRUPTED: Final = "10%"


class FromClock(NamedTuple):
    """From this minute of the day on, in UTC, there are at least so many replicas."""

    minute: int
    least: int

    @property
    def time(self) -> str:
        """Such as "07:45"."""
        return f"{self.minute // 60:02d}:{self.minute % 60:02d}"

    @property
    def cron(self) -> str:
        """Its minute and hour, as cron has them."""
        return f"{self.minute % 60} {self.minute // 60}"


def settings_files(strategy: Strategy, begins: datetime | None = None) -> dict[str, str]:
    """File name -> text. A minimum that changes with the time of day is part of the platform's own file where it has
    schedules, else minimum.csv: of a day after the trace.

    Args:
        begins: the trace's first second, in UTC if it names no time zone; None: midnight.
    """
    levels = {least for _, least in strategy.next_minimums}
    if len(levels) == 1:  # it never changes
        scaling = {**strategy.scaling, "min_replicas": max(strategy.scaling["min_replicas"], *levels)}
        strategy = replace(strategy, scaling=scaling, next_minimums=())
    return _FILES_OF[strategy.environment](strategy, daily_minimums(strategy, begins))


def daily_minimums(strategy: Strategy, begins: datetime | None) -> list[FromClock]:
    """The minimum by the time of day; empty: it never changes. It rises in the minute before its time and falls in the
    one after it."""
    if not strategy.next_minimums:
        return []
    first = begins or datetime(1970, 1, 1, tzinfo=UTC)
    first = first.astimezone(UTC) if first.tzinfo else first
    first_s = first.hour * 3600 + first.minute * 60 + first.second
    levels = [strategy.next_minimums[-1], *strategy.next_minimums]  # the day before ends as this one does
    found: dict[int, int] = {}
    for (_, before), (from_s, least) in pairwise(levels):
        rounded = math.floor if least > before else math.ceil
        if least != before:
            found[rounded((first_s + from_s) / 60) % _DAY_MIN] = least
    return [FromClock(minute, found[minute]) for minute in sorted(found)]


def _torchserve(strategy: Strategy, _: list[FromClock]) -> dict[str, str]:
    """For mlscale's worker controller (``mlscale measure torchserve --scaling KEY=VALUE``)."""
    return {"worker-controller.json": _json(strategy.scaling)}


def _rayserve(strategy: Strategy, day: list[FromClock]) -> dict[str, str]:
    """A deployment in a Serve config file (``serve deploy``); Serve has no schedules."""
    scaling = strategy.scaling
    auto = {
        name: scaling[name]
        for name in (
            "min_replicas", "max_replicas", "target_ongoing_requests", "upscale_delay_s", "downscale_delay_s",
            "look_back_period_s", "metrics_interval_s", "upscaling_factor", "downscaling_factor",
        )
    }  # fmt: skip
    if scaling["min_replicas"] == 0:
        auto["downscale_to_zero_delay_s"] = scaling["downscale_to_zero_delay_s"]
    deployment = {
        "name": "app",
        "max_ongoing_requests": scaling["max_ongoing_requests"],
        "max_queued_requests": scaling["max_queued_requests"],
        "request_router_config": {
            name: scaling[name] for name in ("initial_backoff_s", "backoff_multiplier", "max_backoff_s")
        },
        "ray_actor_options": {"num_cpus": scaling["cpu_cores"]},
        "autoscaling_config": auto,
    }
    application = {"name": "app", "import_path": "my_module:app", "route_prefix": "/", "deployments": [deployment]}
    files = {"serve.yaml": yaml.safe_dump({"applications": [application]}, sort_keys=False)}
    if day:
        files["minimum.csv"] = "\n".join(["utc,min_replicas", *(f"{at.time},{at.least}" for at in day)]) + "\n"
    return files


def _kubernetes(strategy: Strategy, day: list[FromClock]) -> dict[str, str]:
    """What scales a Deployment called ``app`` in the namespace default, as mlscale itself applies it: hpa.yaml, or
    scaledobject.yaml for KEDA, with cron triggers for a minimum that changes; neither for a fixed number. A patch of
    what else was simulated of the Deployment; and the machines, and the room that is kept free on them, where those
    scale."""
    settings = environments.get(strategy.environment).settings.model_validate(dict(strategy.scaling))
    assert isinstance(settings, KubernetesScaling)
    resources = resource_requests(settings)
    container = {
        "name": "app",
        "resources": {"requests": resources, "limits": dict(resources)},
        "readinessProbe": {"periodSeconds": settings.readiness_period_s},
    }
    pod = {"terminationGracePeriodSeconds": settings.grace_s, "containers": [container]}
    number = {"replicas": settings.max_replicas} if settings.fixed else {}
    manifests: dict[str, Any] = {}
    if not settings.fixed:
        scaler = autoscaler("app", settings, "default", more_triggers=_cron_triggers(day, settings.min_replicas))
        name = "hpa" if scaler["kind"] == "HorizontalPodAutoscaler" else "scaledobject"
        manifests[f"{name}.yaml"] = scaler
        if settings.min_replicas == 0:
            manifests["route.yaml"] = route("app", settings, {"hosts": ["*"]})
    manifests["deployment-patch.yaml"] = {"spec": {**number, "template": {"spec": pod}}}
    if settings.max_replicas > 1:
        manifests["pdb.yaml"] = {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "app"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "app"}}},
        }
    if isinstance(settings, MachineScaling):
        memory_mib = {name: machine.memory_mib for name, machine in catalogue().types.items()}
        pool = node_pool("app", settings, memory_mib, settings.node_class, None)
        # Without mlscale's labels: it deletes what bears them.
        pool = {**pool, "metadata": {"name": "app"}}
        pool["spec"]["disruption"]["budgets"] = [{"nodes": _DISRUPTED}]
        manifests["nodepool.yaml"] = pool
        if settings.buffer_replicas:
            manifests["buffer.yaml"] = _buffer(settings.buffer_replicas, resources)
    return {name: yaml.safe_dump(manifest, sort_keys=False) for name, manifest in manifests.items()}


def _cron_triggers(day: list[FromClock], least: int) -> list[dict[str, Any]]:
    """KEDA's: between two times of every day it wants so many replicas. The HPA takes the most that any trigger
    wants."""
    return [
        {
            "type": "cron",
            "metadata": {
                "timezone": "UTC",
                "start": f"{at.cron} * * *",
                "end": f"{until.cron} * * *",
                "desiredReplicas": str(at.least),
            },
        }
        for at, until in pairwise([*day, *day[:1]])
        if at.least > least
    ]


def _buffer(replicas: int, requests: Mapping[str, str]) -> dict[str, Any]:
    """Idle pods as large as a replica, preempted at once when one needs their room."""
    priority = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "app-buffer"},
        "value": -10,
        "preemptionPolicy": "Never",
    }
    labels = {"role": "app-buffer"}
    pod = {
        "priorityClassName": "app-buffer",
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {"name": "pause", "image": "registry.k8s.io/pause:3.10", "resources": {"requests": dict(requests)}}
        ],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app-buffer"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }
    return {"apiVersion": "v1", "kind": "List", "items": [priority, deployment]}


def _ecs(strategy: Strategy, day: list[FromClock]) -> dict[str, str]:
    """The size of a task; how many of a service run, if that never changes, else scalable target and policies for a
    CloudFormation template. ECS forecasts by itself."""
    scaling = strategy.scaling
    task = {
        "family": "app",
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": str(round(1024 * scaling["cpu_cores"])),
        "memory": str(scaling["memory_mib"]),
        "containerDefinitions": [{"name": "app", "image": "IMAGE", "essential": True}],
    }
    files = {"task-definition.json": _json(task)}
    if strategy.is_constant:
        service = {"cluster": "CLUSTER", "service": "SERVICE", "desiredCount": scaling["max_replicas"]}
        return {"service.json": _json(service), **files}
    tracking: dict[str, Any] = {
        "TargetValue": scaling["target"],
        "ScaleOutCooldown": round(scaling["out_cooldown_s"]),
        "ScaleInCooldown": round(scaling["in_cooldown_s"]),
    }
    name = "ECSServiceAverageCPUUtilization" + ("HighResolution" if scaling["metric_period_s"] == 20 else "")
    tracking["PredefinedMetricSpecification"] = {"PredefinedMetricType": name}
    target = {
        "ServiceNamespace": "ecs",
        "ScalableDimension": "ecs:service:DesiredCount",
        "ResourceId": "service/CLUSTER/SERVICE",
        "MinCapacity": scaling["min_replicas"],
        "MaxCapacity": scaling["max_replicas"],
    }
    if day and strategy.policy == "scheduled":
        target["ScheduledActions"] = [
            {
                "ScheduledActionName": f"from-{at.minute:04d}",
                "Schedule": f"cron({at.cron} * * ? *)",
                "Timezone": "UTC",
                "ScalableTargetAction": {"MinCapacity": at.least},
            }
            for at in day
        ]
    resources = {
        "ScalableTarget": {"Type": "AWS::ApplicationAutoScaling::ScalableTarget", "Properties": target},
        "ScalingPolicy": _ecs_policy("TargetTrackingScaling", tracking),
    }
    if strategy.policy == "predictive":
        pair = {"PredefinedMetricType": "ECSServiceCPUUtilization"}
        metric = {"TargetValue": scaling["target"], "PredefinedMetricPairSpecification": pair}
        forecast = {"MetricSpecifications": [metric], "Mode": "ForecastAndScale"}
        resources["PredictivePolicy"] = _ecs_policy("PredictiveScaling", forecast)
    return {"scaling.yaml": yaml.safe_dump({"Resources": resources}, sort_keys=False), **files}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(dict(content), indent=1) + "\n"


def _ecs_policy(kind: str, configuration: Mapping[str, Any]) -> dict[str, Any]:
    properties = {
        "PolicyName": f"advised-{kind}",
        "PolicyType": kind,
        "ScalingTargetId": {"Ref": "ScalableTarget"},
        f"{kind}PolicyConfiguration": configuration,
    }
    return {"Type": "AWS::ApplicationAutoScaling::ScalingPolicy", "Properties": properties}


_FILES_OF: Final[Mapping[str, Callable[[Strategy, list[FromClock]], dict[str, str]]]] = {
    "torchserve": _torchserve,
    "rayserve": _rayserve,
    "k3s": _kubernetes,
    "keda": _kubernetes,
    "eks": _kubernetes,
    "ecs": _ecs,
}
