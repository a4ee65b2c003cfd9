"""What files say about how an application is scaled (YAML or JSON): a HorizontalPodAutoscaler, KEDA's ScaledObject, a
Deployment, a NodePool, a Serve config, and those that mlscale writes itself.

A field that changes the number of replicas and cannot be simulated is an error; others are ignored, and said.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from mlscale import environments
from mlscale.environments.kubernetes.hpa import quantity
from mlscale.environments.machine_types import catalogue
from mlscale.errors import MlscaleError
from mlscale_twin.strategy.daily import Clock, Daily
from mlscale_twin.strategy.strategies import MOST_REPLICAS

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_MINIMUM: Final = "minimum.csv"
_REMEDY: Final = "write --today ENVIRONMENT:KEY=VALUE,..., or remove it from a copy of the file"
# What the API server fills in (pkg/apis/autoscaling/v2/defaults.go), and the twin has.
_RATES: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "scaleUp": (
        {"type": "Percent", "value": 100, "periodSeconds": 15},
        {"type": "Pods", "value": 4, "periodSeconds": 15},
    ),
    "scaleDown": ({"type": "Percent", "value": 100, "periodSeconds": 15},),
}
# Target of a HorizontalPodAutoscaler that names no metric, %, and most replicas of a ScaledObject and of Ray Serve's
# num_replicas: auto.
_CPU_PERCENT: Final = 80
_MOST_BY_DEFAULT: Final = 100


class _Fields(dict[str, Any]):
    """Fields of a mapping in a file, which are taken out as they are read; what is left over is not understood."""

    def __init__(self, content: object, file: str, path: str = "") -> None:
        if not isinstance(content, Mapping):
            raise MlscaleError(f"{path or 'it'} is not a mapping", file, _REMEDY)
        super().__init__(content)
        self.file, self.path = file, path

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def unclear(self, name: str, why: str) -> MlscaleError:
        return MlscaleError(f"{self.at(name)} {why}", self.file, _REMEDY)

    def one(self, name: str) -> _Fields:
        return _Fields(self.pop(name, None) or {}, self.file, self.at(name))

    def many(self, name: str) -> list[_Fields]:
        given = self.pop(name, None) or []
        if not isinstance(given, list):
            raise self.unclear(name, "is not a list")
        return [_Fields(each, self.file, f"{self.at(name)}[{number}]") for number, each in enumerate(given)]

    def number(self, name: str, default: float | None = None) -> float:
        """A number, also as text or as a Kubernetes quantity."""
        value = self.pop(name, default)
        if value is None:
            raise self.unclear(name, "is missing")
        try:
            if math.isfinite(number := quantity(value)):
                return number
        except (ValueError, TypeError):
            pass
        raise self.unclear(name, f"is {value!r}, not a number")

    def ends(self, *named: str) -> None:
        """Raise MlscaleError if more is left than what is ``named``, which scales nothing."""
        for name in self:
            if name not in named:
                raise self.unclear(name, "is not understood")


@dataclass
class Found:
    """What was read so far. ``replicas``: of a Deployment, which counts where nothing scales it; ``held``: the target
    of a route that holds requests while nothing runs."""

    environment: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    scaler: str = ""
    replicas: int | None = None
    held: float | None = None
    daily: list[Daily] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def runs_on(self, environment: str, file: str) -> None:
        """Where it runs; eks and keda say more than k3s."""
        order = ("k3s", "keda", "eks")
        if self.environment in order and environment in order:
            self.environment = max(self.environment, environment, key=order.index)
        elif not self.environment:
            self.environment = environment
        elif self.environment != environment:
            raise MlscaleError(f"it is of {environment}, the rest of {self.environment}", file, "name one setting")

    def scaled_by(self, what: str, file: str) -> None:
        if self.scaler:
            raise MlscaleError(f"a {what}, but {self.scaler} scales the replicas already", file, "name one setting")
        self.scaler = f"a {what}"

    def bounds(self, least: float, most: float, where: str) -> None:
        if most > MOST_REPLICAS:
            self.notes.append(f"{where} is {most:g}: at most {MOST_REPLICAS} are simulated")
        self.settings |= {"min_replicas": int(least), "max_replicas": int(min(most, MOST_REPLICAS))}


def files_of(path: Path) -> list[Path]:
    """A file, or those of a folder that may say something."""
    if not path.is_dir():
        return [path]
    return [each for each in sorted(path.iterdir()) if each.suffix in _SUFFIXES or each.name == _MINIMUM]


def read_file(file: Path, found: Found) -> None:
    """Adds what the file says.

    Raises:
        MlscaleError: it can't be read, or a field that cannot be simulated.
    """
    try:
        text = file.read_text()
        if file.name == _MINIMUM:
            _minimum_csv(text, found)
            return
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        what = " ".join(str(getattr(error, "problem", None) or getattr(error, "strerror", None) or error).split())
        raise MlscaleError(f"it can't be read: {what}", str(file), "name a YAML or JSON file") from error
    if not documents:
        raise MlscaleError("it is empty", str(file), "name a file with an autoscaler's settings")
    for document in (_Fields(each, str(file)) for each in documents):
        for each in document.many("items") if document.get("kind") == "List" else [document]:
            _read_document(each, found)


def _read_document(document: _Fields, found: Found) -> None:
    kind = str(document.pop("kind", ""))
    controller = environments.get("torchserve").settings.model_fields
    if "applications" in document:
        _serve(document, found)
    elif kind in _KINDS or (not kind and "template" in _mapping(document.get("spec"))):
        _KINDS[kind or "Deployment"](document.one("spec"), found)
        document.ends("apiVersion", "metadata", "status")
    elif kind and "apiVersion" in document:
        found.notes.append(f"{document.file}: {kind} scales no replicas, ignored")
    elif "max_replicas" in document and document.keys() <= controller.keys():
        found.runs_on("torchserve", document.file)
        found.settings |= document
    else:
        what = f"unknown content ({', '.join(map(str, list(document)[:3])) or 'nothing'})"
        remedy = "name a HorizontalPodAutoscaler, ScaledObject, Deployment or Serve config, or ENVIRONMENT:KEY=VALUE"
        raise MlscaleError(what, document.file, remedy)


def _mapping(content: object) -> Mapping[str, Any]:
    return content if isinstance(content, Mapping) else {}


def _hpa(spec: _Fields, found: Found) -> None:
    """autoscaling/v2, or v1."""
    found.runs_on("k3s", spec.file)
    found.scaled_by("HorizontalPodAutoscaler", spec.file)
    found.bounds(spec.number("minReplicas", 1), spec.number("maxReplicas"), spec.at("maxReplicas"))
    percent = spec.number("targetCPUUtilizationPercentage", _CPU_PERCENT)
    for number, metric in enumerate(spec.many("metrics")):
        resource = metric.one("resource")
        target = resource.one("target")
        kind = str(metric.get("type"))
        if number or (kind, resource.get("name"), target.get("type")) != ("Resource", "cpu", "Utilization"):
            name = resource.get("name") or metric.one(kind.lower()).one("metric").get("name", "")
            raise MlscaleError(
                f"{metric.path} ({kind} {name}) is not understood: one metric is, CPU's Utilization",
                spec.file,
                "if it is of requests in flight, write --today k3s:metric=in_flight,target_in_flight=N,max_replicas=N",
            )
        percent = target.number("averageUtilization")
    _behaviour(spec.one("behavior"), found)
    spec.ends("scaleTargetRef")
    found.settings |= {"metric": "cpu", "target_cpu_percent": round(percent)}


def _behaviour(behaviour: _Fields, found: Found) -> None:
    names = {"scaleUp": "upscale_stabilisation_s", "scaleDown": "downscale_stabilisation_s"}
    for direction, name in names.items():
        side = behaviour.one(direction)
        if "stabilizationWindowSeconds" in side:
            found.settings[name] = int(side.number("stabilizationWindowSeconds"))
        rates = [json.dumps(each, sort_keys=True) for each in side.pop("policies", None) or _RATES[direction]]
        if sorted(rates) != sorted(json.dumps(each, sort_keys=True) for each in _RATES[direction]):
            raise side.unclear("policies", "is not understood: Kubernetes' own rates are simulated")
        if side.pop("selectPolicy", "Max") != "Max":
            raise side.unclear("selectPolicy", "is not understood: Max is simulated")
        side.ends()
    behaviour.ends()


def _scaled_object(spec: _Fields, found: Found) -> None:
    """KEDA's (keda.sh/v1alpha1)."""
    found.scaled_by("ScaledObject", spec.file)
    least, most = spec.number("minReplicaCount", 0), spec.number("maxReplicaCount", _MOST_BY_DEFAULT)
    own = {"polling_interval_s": "pollingInterval", "cooldown_s": "cooldownPeriod"}
    given = {name: int(spec.number(key)) for name, key in own.items() if key in spec}
    found.runs_on("keda" if given or least == 0 else "k3s", spec.file)
    found.bounds(least, most, spec.at("maxReplicaCount"))
    found.settings |= given
    advanced = spec.one("advanced")
    hpa = advanced.one("horizontalPodAutoscalerConfig")
    _behaviour(hpa.one("behavior"), found)
    hpa.ends("name")
    advanced.ends("restoreToOriginalReplicaCount")
    metrics = 0
    for trigger in spec.many("triggers"):
        kind, metadata = str(trigger.pop("type", "")), trigger.one("metadata")
        if kind == "cron":
            found.daily.append(_cron(metadata))
            continue
        metrics += 1
        if kind not in _TRIGGERS or metrics > 1:
            why = f"({kind}) is not understood: one of {', '.join(_TRIGGERS)} is, and cron"
            remedy = "if it counts requests in flight, write --today keda:metric=in_flight,target_in_flight=N,..."
            raise MlscaleError(f"{trigger.path} {why}", spec.file, remedy)
        if trigger.pop("metricType", _TRIGGERS[kind]) != _TRIGGERS[kind]:
            raise trigger.unclear("metricType", f"is not understood: {_TRIGGERS[kind]} is")
        _TRIGGER[kind](metadata, found)
    if not metrics:
        raise spec.unclear("triggers", "names no metric, only times of day" if found.daily else "is missing")
    held = found.settings["metric"] == "in_flight" and "target_in_flight" not in found.settings
    if held != (least == 0):
        raise spec.unclear(
            "minReplicaCount", f"is {least:g}: 0 goes with a trigger external-push, and nothing else does"
        )
    ignored = [name for name in ("fallback", "initialCooldownPeriod") if name in spec]
    found.notes += [f"{spec.at(name)} is ignored" for name in ignored if name == "fallback"]
    spec.ends("scaleTargetRef", *ignored)


def _gauge(metadata: _Fields, found: Found) -> None:
    location = str(metadata.get("valueLocation", "?"))
    if metadata.get("aggregateFromKubeServiceEndpoints") == "true" and metadata.get("aggregationType") != "sum":
        raise metadata.unclear("aggregationType", "is not understood: sum is")
    found.settings |= {"metric": "in_flight", "target_in_flight": metadata.number("targetValue")}
    if location.isidentifier():
        found.settings["in_flight_metric"] = location
    found.notes.append(f"{metadata.at('valueLocation')}: {location} is taken for requests in flight")


def _cpu(metadata: _Fields, found: Found) -> None:
    if metadata.get("type", "Utilization") != "Utilization":
        raise metadata.unclear("type", "is not understood: Utilization is")
    found.settings |= {"metric": "cpu", "target_cpu_percent": round(metadata.number("value"))}


def _interceptor(_: _Fields, found: Found) -> None:
    found.settings["metric"] = "in_flight"


# Of ScaledObjects: how each is compared with its target, and what reads it.
_TRIGGERS: Final = {"metrics-api": "AverageValue", "cpu": "Utilization", "external-push": "AverageValue"}
_TRIGGER: Final[Mapping[str, Callable[[_Fields, Found], None]]] = {
    "metrics-api": _gauge,
    "cpu": _cpu,
    "external-push": _interceptor,
}


def _cron(metadata: _Fields) -> Daily:
    times = []
    for name in ("start", "end"):
        text = metadata.pop(name, "")
        try:
            times.append(Clock.of(str(text)))
        except ValueError as error:
            raise metadata.unclear(name, f"is {text!r}: minute, hour and days of the week are understood") from error
    zone = metadata.pop("timezone", "")
    try:
        replicas = round(metadata.number("desiredReplicas"))
        return Daily(times[0], times[1], ZoneInfo(str(zone)), replicas)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise metadata.unclear("timezone", f"is {zone!r}, which is none, such as Europe/Berlin") from error


def _route(spec: _Fields, found: Found) -> None:
    """KEDA's HTTP add-on's (http.keda.sh)."""
    found.held = spec.one("scalingMetric").one("concurrency").number("targetValue")


def _deployment(spec: _Fields, found: Found) -> None:
    """Or a patch of it."""
    replicas = round(spec.number("replicas", 1))
    pod = spec.one("template").one("spec")
    containers = pod.many("containers")
    chosen = [each for each in containers if each.get("name") == "app"] or containers
    if pod.get("priorityClassName") and chosen and "pause" in str(chosen[0].get("image")):
        found.settings["buffer_replicas"] = replicas
        return
    if len(chosen) != 1:
        raise pod.unclear("containers", f"has {len(chosen)}, of which none is called app: the twin's pods have one")
    found.runs_on("k3s", spec.file)
    found.replicas = replicas
    resources = chosen[0].one("resources")
    requests, limits = resources.one("requests"), resources.one("limits")
    limits_given = set(limits)
    for name, setting, unit in (("cpu", "cpu_cores", 1.0), ("memory", "memory_mib", 2.0**20)):
        sizes = {each.number(name) / unit for each in (requests, limits) if name in each}
        if len(sizes) > 1:
            raise resources.unclear(f"requests.{name}", "is not the limit: a replica has one size in the simulation")
        if sizes:
            found.settings[setting] = round(sizes.pop()) if name == "memory" else sizes.pop()
    if "cpu_cores" in found.settings and "cpu" not in limits_given:
        found.notes.append(f"{resources.at('limits.cpu')} is missing: simulated with a limit as large as the request")
    found.settings["readiness_period_s"] = round(chosen[0].one("readinessProbe").number("periodSeconds", 10))
    found.settings["grace_s"] = round(pod.number("terminationGracePeriodSeconds", 30))


def _node_pool(spec: _Fields, found: Found) -> None:
    """Karpenter's."""
    found.runs_on("eks", spec.file)
    limits, disruption = spec.one("limits"), spec.one("disruption")
    for requirement in spec.one("template").one("spec").many("requirements"):
        if requirement.get("key") == "node.kubernetes.io/instance-type" and requirement.get("operator") == "In":
            found.settings["machine_types"] = tuple(map(str, requirement.get("values") or ()))
    known = catalogue().types
    types = found.settings.get("machine_types", ())
    if not types or not known.keys() >= set(types):
        raise spec.unclear("template.spec.requirements", f"name no types of machines out of {', '.join(known)}")
    if "memory" in limits:
        smallest_mib = min(known[name].memory_mib for name in types)
        found.settings["max_machines"] = int(limits.number("memory") / 2**20 / smallest_mib)
    limits.ends()
    found.settings["consolidation"] = disruption.get("consolidationPolicy", "WhenEmptyOrUnderutilized")
    after = re.fullmatch(r"(\d+)(s|m|h)", str(disruption.get("consolidateAfter", "0s")))
    if after is None:
        raise disruption.unclear("consolidateAfter", "is not understood: a number of s, m or h is")
    found.settings["consolidate_after_s"] = int(after[1]) * {"s": 1, "m": 60, "h": 3600}[after[2]]


_KINDS: Final[Mapping[str, Callable[[_Fields, Found], None]]] = {
    "HorizontalPodAutoscaler": _hpa,
    "ScaledObject": _scaled_object,
    "InterceptorRoute": _route,
    "Deployment": _deployment,
    "NodePool": _node_pool,
}


def _serve(document: _Fields, found: Found) -> None:
    """A config file of Ray Serve, with one deployment."""
    applications = document.many("applications")
    deployments = [each for application in applications for each in application.many("deployments")]
    if len(deployments) != 1:
        raise document.unclear("applications", f"has {len(deployments)} deployments: the twin has one")
    (deployment,) = deployments
    found.runs_on("rayserve", document.file)
    found.scaled_by("Serve config", document.file)
    number, auto = deployment.pop("num_replicas", None), deployment.one("autoscaling_config")
    if number == "auto":
        found.bounds(
            auto.number("min_replicas", 1), auto.number("max_replicas", _MOST_BY_DEFAULT), auto.at("max_replicas")
        )
    elif number is not None:
        deployment["num_replicas"] = number
        replicas = deployment.number("num_replicas")
        found.bounds(replicas, replicas, deployment.at("num_replicas"))
    elif auto:
        found.bounds(auto.number("min_replicas", 1), auto.number("max_replicas", 1), auto.at("max_replicas"))
    else:
        raise deployment.unclear(
            "autoscaling_config", "is missing, and num_replicas too: what the code says is not known"
        )
    known = environments.get("rayserve").settings.model_fields
    router = deployment.one("request_router_config")
    for fields in (auto, router, deployment):
        found.settings |= {
            name: fields.pop(name) for name in list(fields) if name in known and fields[name] is not None
        }
    resources = deployment.one("ray_actor_options")
    if "num_cpus" in resources:
        found.settings["cpu_cores"] = resources.number("num_cpus")
    resources.ends("memory", "runtime_env", "object_store_memory")
    auto.ends(*(name for name in auto if auto[name] is None), "initial_replicas")
    router.ends(*(name for name in router if router[name] is None))
    deployment.ends("name", "user_config", "logging_config", "placement_group_bundles", "placement_group_strategy")
    found.notes += [
        f"{each.at(name)} is ignored" for each in (auto, deployment, resources) for name in each if name != "name"
    ]


def _minimum_csv(text: str, found: Found) -> None:
    """Replicas at least from a time of day on, in UTC, which `mlscale_twin.strategy.paste` writes for Ray Serve."""
    rows = [line.split(",") for line in text.split()[1:]]
    clocks = [Clock(int(time[3:]), int(time[:2])) for time, _ in rows]
    for (start, end), (_, least) in zip(pairwise([*clocks, *clocks[:1]]), rows, strict=True):
        found.daily.append(Daily(start, end, UTC, int(least)))
