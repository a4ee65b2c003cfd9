"""Random situations for the HorizontalPodAutoscaler, as JSON for upstream's code and as objects for ours.

Times are multiples of half a second, so that edges are met exactly and both sides can hold them; values crowd around
the target's tolerance. What Kubernetes' API would refuse (negative requests) is in, where its code has an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from mlscale_twin.policies.hpa.calculator import Proposal, ReplicaCalculator, Tolerances
from mlscale_twin.policies.hpa.observed import Container, MetricError, Pod, PodMetric, PodMetrics, ReadyCondition

Json = dict[str, Any]
METHODS: Final = ("resource", "raw-resource", "pods", "object", "object-per-pod", "external", "external-per-pod")
PHASES: Final = ("Running",) * 12 + ("Pending", "Pending", "Failed", "Succeeded", "Unknown")
INITIAL_S, DELAY_S = 300.0, 30.0


def situations(count: int, seed: int) -> Iterator[Json]:
    """Questions to the ReplicaCalculator: seven methods in turn."""
    rng = np.random.default_rng([seed, 1])
    for number in range(count):
        yield _situation(rng, METHODS[number % len(METHODS)])


def _situation(rng: np.random.Generator, method: str) -> Json:
    resource = str(rng.choice(["cpu", "cpu", "memory"])) if "resource" in method else "flights"
    current = int(rng.integers(0 if rng.random() < 0.2 else 1, 9))
    pods = [pod(rng, f"p{number}") for number in range(int(rng.integers(0 if rng.random() < 0.1 else 1, 8)))]
    target = int(rng.choice([1, 7, 50, 80, 100, 150, 1000, 1500, 3333]))
    down, up = (0.1, 0.1) if rng.random() < 0.6 else rng.choice([0.0, 0.05, 0.1, 0.25, 0.5, 1.0], 2).tolist()
    question = {"method": method, "current": current, "status": int(rng.integers(0, 9)), "target": target}
    question |= {"resource": resource, "container": "", "down": down, "up": up}
    question |= {"initial": INITIAL_S, "delay": DELAY_S, "pods": pods, "badselector": False}
    if rng.random() < 0.06:
        question["pods"] = None
    if method == "resource" and rng.random() < 0.2:
        question["container"] = str(rng.choice(["main", "sidecar", "nobody"]))
    question["reading"] = reading(rng, question)
    if rng.random() < (0.3 if method == "resource" else 0.12):
        question |= _seldom(rng, question)
    if "external" in method and rng.random() < 0.06:
        question["badselector"] = True
    return question


def _seldom(rng: np.random.Generator, question: Json) -> Json:
    """What chance alone would hardly bring about: nobody is selected; pods whose requests cancel one another; pod-level
    requests without the resource; far more pods than the scale says, which turns the direction round."""
    kinds = ["nobody", "turned", "cancelled", "lacking"]
    kind = str(rng.choice(kinds if question["method"] == "resource" else kinds[:2]))
    if kind == "nobody" or question["method"] not in METHODS[:3]:
        return {"pods": []}
    resource, target = question["resource"], question["target"]
    request = int(rng.integers(100, 1000))
    pods = [_plain(f"p{number}", {resource: request}) for number in range(7)]
    usage = request * target / 100 if question["method"] == "resource" else target
    if kind == "cancelled":
        pods = [_plain("p0", {resource: request}), _plain("p1", {resource: -request})]
    if kind == "lacking":
        whole = {"memory" if resource == "cpu" else "cpu": 10} if rng.random() < 0.7 else {}
        pods[3] = _plain("p3", {}) | {"requests": whole}
    value = round(usage * rng.choice([0.4, 0.5, 2.0, 3.0]))
    told = {each["name"]: [value, -1.0, 15.0] for each in pods[: 1 if kind == "cancelled" else 6]}
    return {"pods": pods, "container": "", "current": int(rng.choice([1, 2, 40])), "reading": {"pods": told}}


def _plain(name: str, requests: dict[str, int]) -> Json:
    """Ready for long."""
    ready = {"status": "True", "at": -INITIAL_S - 50}
    containers = [{"name": "main", "requests": requests}]
    return {
        "name": name, "phase": "Running", "deleted": False, "start": -INITIAL_S - 60, "ready": ready,
        "containers": containers,
    }  # fmt: skip


def pod(rng: np.random.Generator, name: str) -> Json:
    """Its times are before and around 0, the present."""
    start = None if rng.random() < 0.05 else float(_half_seconds(rng, -INITIAL_S - 40, 0))
    if start is not None and rng.random() < 0.1:
        start = -INITIAL_S
    made: Json = {"name": name, "phase": str(rng.choice(PHASES)), "deleted": bool(rng.random() < 0.06), "start": start}
    made["ready"] = None
    if rng.random() > 0.06:
        at = float(_half_seconds(rng, 0, 90)) + (start if start is not None else -INITIAL_S)
        if rng.random() < 0.15:
            at = (start or 0.0) + DELAY_S
        made["ready"] = {"status": str(rng.choice(["True", "True", "True", "False", "Unknown"])), "at": at}
    made["containers"] = [{"name": "main", "requests": requests(rng)}]
    if rng.random() < 0.3:
        made["containers"].append({"name": "sidecar", "requests": requests(rng), "init": True, "restarts": True})
    if rng.random() < 0.2:
        made["containers"].append({"name": "before", "requests": requests(rng), "init": True})
    if rng.random() < 0.15:
        made["requests"] = {name: int(rng.integers(1, 2000)) for name in ("cpu", "memory") if rng.random() < 0.6}
        made["overhead"] = {"cpu": int(rng.integers(0, 100))} if rng.random() < 0.4 else {}
    return made


def requests(rng: np.random.Generator) -> dict[str, int]:
    """Mostly there; seldom missing, zero or negative."""
    found = {"cpu": int(rng.integers(1, 2000)), "memory": int(rng.integers(1, 2000))}
    chance = rng.random()
    if chance < 0.03:
        del found[str(rng.choice(["cpu", "memory"]))]
    elif chance < 0.08:
        found = {name: int(rng.choice([0, -number, -100])) for name, number in found.items()}
    elif chance < 0.4:
        found = {"cpu": 100, "memory": 100}
    return found


def reading(rng: np.random.Generator, question: Json) -> Json:
    if rng.random() < 0.06:
        return {}
    method, target = question["method"], question["target"]
    if method in METHODS[:3]:
        return {"pods": _pod_readings(rng, question)}
    shares = {"object": 1, "external": 1}.get(method, max(1, question["status"]))
    total = around(rng, target * shares, question)
    if method.startswith("object"):
        return {"value": total}
    if rng.random() < 0.08:
        return {"values": [2**62, 2**62, 2**40]}
    if rng.random() < 0.05:
        return {"values": []}
    return {"values": [total // 3, total - total // 3] if rng.random() < 0.5 else [total]}


def _pod_readings(rng: np.random.Generator, question: Json) -> dict[str, list[float]]:
    chosen = {}
    missing = 0.0 if rng.random() < 0.4 else rng.choice([0.15, 0.5])
    scale = 1.0
    if question["method"] == "resource":
        scale = question["target"] / 100
    factor = _factor(rng, question)
    for each in question["pods"] or [{"name": "p0", "ready": None, "containers": [{"requests": {}}]}]:
        if rng.random() < missing:
            continue
        base = abs(each["containers"][0]["requests"].get(question["resource"], 100)) * scale
        if question["method"] != "resource":
            base = question["target"]
        value = round(base * factor) + int(rng.choice([-1, 0, 0, 0, 1]))
        window = float(rng.choice([15.0, 30.0, 60.0]))
        at = float(_half_seconds(rng, -60, 0))
        if each["ready"] is not None and rng.random() < 0.4:
            at = each["ready"]["at"] + window + float(rng.choice([-0.5, 0.0, 0.5]))
        chosen[each["name"]] = [value, at, window]
    if rng.random() < 0.04:
        chosen = {"stranger": [100, 0.0, 15.0]}
    return chosen


def around(rng: np.random.Generator, target: int, question: Json) -> int:
    return max(0, round(target * _factor(rng, question)) + int(rng.choice([-1, 0, 0, 1])))


def _factor(rng: np.random.Generator, question: Json) -> float:
    """Of the target: at the tolerance's edges, near one, or anywhere."""
    chance = rng.random()
    if chance < 0.3:
        return float(rng.choice([1 - question["down"], 1 + question["up"]]))
    if chance < 0.5:
        return float(rng.uniform(0.8, 1.25))
    return float(rng.choice([0.0, 0.3, 0.6, 1.6, 2.5, 7.0]) + rng.uniform(0, 0.3))


def _half_seconds(rng: np.random.Generator, low: float, high: float) -> float:
    return math.floor(rng.uniform(low, high) * 2) / 2


def answer(question: Json) -> Json:
    """Ours, in upstream's form; an error is only named as one."""
    if question["badselector"]:
        return {"error": True}  # upstream reads the selector itself: ours is given what it selects
    calculator = ReplicaCalculator(0.0, question["initial"], question["delay"])
    try:
        proposal = _ASK[question["method"]](calculator, question)
    except MetricError:
        return {"error": True}
    return {"replicas": proposal.replicas, "usage": proposal.usage, "error": False, "rule": proposal.rule}


def pods_of(question: Json) -> tuple[Pod, ...] | None:
    return None if question["pods"] is None else tuple(pod_of(each) for each in question["pods"])


def pod_of(made: Json) -> Pod:
    ready = made["ready"] and ReadyCondition(made["ready"]["status"], made["ready"]["at"])
    containers = tuple(
        Container(each["name"], each["requests"], each.get("init", False), each.get("restarts", False))
        for each in made["containers"]
    )
    whole = made.get("requests", {}), made.get("overhead", {})
    return Pod(made["name"], made["phase"], made["deleted"], made["start"], ready, containers, *whole)


def metrics_of(told: Json) -> PodMetrics | None:
    if "pods" not in told:
        return None
    return {name: PodMetric(int(value), at, window) for name, (value, at, window) in told["pods"].items()}


def _asked(question: Json) -> tuple[int, int, Tolerances, tuple[Pod, ...] | None]:
    tolerances = Tolerances(question["down"], question["up"])
    return question["current"], question["target"], tolerances, pods_of(question)


def _resource(calculator: ReplicaCalculator, question: Json) -> Proposal:
    current, target, tolerances, pods = _asked(question)
    metrics = metrics_of(question["reading"])
    names = question["resource"], tolerances, pods, metrics, question["container"]
    return calculator.get_resource_replicas(current, target, *names)


def _raw_resource(calculator: ReplicaCalculator, question: Json) -> Proposal:
    current, target, tolerances, pods = _asked(question)
    metrics = metrics_of(question["reading"])
    return calculator.get_raw_resource_replicas(current, target, question["resource"], tolerances, pods, metrics)


def _pods(calculator: ReplicaCalculator, question: Json) -> Proposal:
    current, target, tolerances, pods = _asked(question)
    metrics = metrics_of(question["reading"])
    return calculator.get_metric_replicas(current, target, question["resource"], tolerances, pods, metrics)


def _object(calculator: ReplicaCalculator, question: Json) -> Proposal:
    current, target, tolerances, pods = _asked(question)
    usage = question["reading"].get("value")
    return calculator.get_object_metric_replicas(current, target, "flights", tolerances, pods, usage)


def _object_per_pod(calculator: ReplicaCalculator, question: Json) -> Proposal:
    _, target, tolerances, _ = _asked(question)
    usage = question["reading"].get("value")
    return calculator.get_object_per_pod_metric_replicas(question["status"], target, "flights", tolerances, usage)


def _external(calculator: ReplicaCalculator, question: Json) -> Proposal:
    current, target, tolerances, pods = _asked(question)
    values = question["reading"].get("values")
    return calculator.get_external_metric_replicas(current, target, "flights", tolerances, pods, values)


def _external_per_pod(calculator: ReplicaCalculator, question: Json) -> Proposal:
    _, target, tolerances, _ = _asked(question)
    values = question["reading"].get("values")
    return calculator.get_external_per_pod_metric_replicas(question["status"], target, "flights", tolerances, values)


_ASK: Final[dict[str, Callable[[ReplicaCalculator, Json], Proposal]]] = dict(
    zip(METHODS, (_resource, _raw_resource, _pods, _object, _object_per_pod, _external, _external_per_pod), strict=True)
)
