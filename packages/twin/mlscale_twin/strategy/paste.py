"""A strategy's settings as files that its framework accepts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml

from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.environments.kubernetes.manifests import autoscaler, resource_requests
from mlscale.environments.kubernetes.node_pool import node_pool
from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.environments.machine_types import catalogue
from mlscale_twin.strategy.strategies import Strategy


def settings_files(strategy: Strategy) -> dict[str, str]:
    """File name -> text. A minimum that changes is a table of its own, since each platform sets one differently: of a
    day, from the time of day at which the trace begins. ECS forecasts itself."""
    files = _FILES_OF[strategy.environment](strategy.scaling)
    if strategy.environment == "ecs" and strategy.policy == "predictive":
        files["scaling.yaml"] = _ecs(strategy.scaling, predictive=True)["scaling.yaml"]
    elif strategy.next_minimums:
        rows = [f"{from_s:.0f},{least}" for from_s, least in strategy.next_minimums]
        files["minimum.csv"] = "\n".join(["from_s,min_replicas", *rows]) + "\n"
    return files


def _torchserve(scaling: Mapping[str, Any]) -> dict[str, str]:
    """For mlscale's worker controller (``mlscale measure torchserve --scaling KEY=VALUE``)."""
    return {"worker-controller.json": json.dumps(dict(scaling), indent=1) + "\n"}


def _rayserve(scaling: Mapping[str, Any]) -> dict[str, str]:
    """A deployment in a Serve config file (``serve deploy``)."""
    auto = {
        name: scaling[name]
        for name in (
            "min_replicas", "max_replicas", "target_ongoing_requests", "upscale_delay_s", "downscale_delay_s",
            "look_back_period_s", "metrics_interval_s", "upscaling_factor", "downscaling_factor",
        )
    }  # fmt: skip
    deployment = {
        "name": "app",
        "max_ongoing_requests": scaling["max_ongoing_requests"],
        "max_queued_requests": scaling["max_queued_requests"],
        "ray_actor_options": {"num_cpus": scaling["cpu_cores"]},
        "autoscaling_config": auto,
    }
    application = {"name": "app", "import_path": "my_module:app", "route_prefix": "/", "deployments": [deployment]}
    return {"serve.yaml": yaml.safe_dump({"applications": [application]}, sort_keys=False)}


def _kubernetes(scaling: Mapping[str, Any]) -> dict[str, str]:
    """What scales a Deployment called ``app`` in the namespace default, as mlscale itself applies it: hpa.yaml, or
    scaledobject.yaml for KEDA; a patch of what else was simulated of the Deployment; and the machines, and the room
    that is kept free on them, where those scale."""
    kind = MachineScaling if "machine_types" in scaling else KubernetesScaling
    settings = kind.model_validate(dict(scaling))
    requests = resource_requests(settings)
    container = {
        "name": "app",
        "resources": {"requests": requests, "limits": {"cpu": requests["cpu"]}},
        "readinessProbe": {"periodSeconds": settings.readiness_period_s},
    }
    patch = {"terminationGracePeriodSeconds": settings.grace_s, "containers": [container]}
    scaler = autoscaler("app", settings, "default")
    manifests: dict[str, Any] = {f"{'hpa' if settings.metric == 'cpu' else 'scaledobject'}.yaml": scaler}
    if isinstance(settings, MachineScaling):
        memory_mib = {name: machine.memory_mib for name, machine in catalogue().types.items()}
        pool = node_pool("app", settings, memory_mib, settings.node_class, None)
        # Without mlscale's labels: it deletes what bears them.
        manifests["nodepool.yaml"] = {**pool, "metadata": {"name": "app"}}
        if settings.buffer_replicas:
            manifests["buffer.yaml"] = _buffer(settings.buffer_replicas, requests)
    manifests["deployment-patch.yaml"] = {"spec": {"template": {"spec": patch}}}
    return {name: yaml.safe_dump(manifest, sort_keys=False) for name, manifest in manifests.items()}


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


def _ecs(scaling: Mapping[str, Any], *, predictive: bool = False) -> dict[str, str]:
    """Scalable target and policies of a service, for a CloudFormation template."""
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
    resources = {
        "ScalableTarget": {"Type": "AWS::ApplicationAutoScaling::ScalableTarget", "Properties": target},
        "ScalingPolicy": _ecs_policy("TargetTrackingScaling", tracking),
    }
    if predictive:
        pair = {"PredefinedMetricType": "ECSServiceCPUUtilization"}
        metric = {"TargetValue": scaling["target"], "PredefinedMetricPairSpecification": pair}
        forecast = {"MetricSpecifications": [metric], "Mode": "ForecastAndScale"}
        resources["PredictivePolicy"] = _ecs_policy("PredictiveScaling", forecast)
    return {"scaling.yaml": yaml.safe_dump({"Resources": resources}, sort_keys=False)}


def _ecs_policy(kind: str, configuration: Mapping[str, Any]) -> dict[str, Any]:
    properties = {
        "PolicyName": f"advised-{kind}",
        "PolicyType": kind,
        "ScalingTargetId": {"Ref": "ScalableTarget"},
        f"{kind}PolicyConfiguration": configuration,
    }
    return {"Type": "AWS::ApplicationAutoScaling::ScalingPolicy", "Properties": properties}


_FILES_OF: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, str]]]] = {
    "torchserve": _torchserve,
    "rayserve": _rayserve,
    "k3s": _kubernetes,
    "eks": _kubernetes,
    "ecs": _ecs,
}
