"""Lives of autoscalers, as JSON for the real controller and as objects for ours.

Each is made look by look: demand jumps and drifts, pods come up some looks after they were asked for, metrics fail at
times, and now and then a person scales by hand. What ours decides is what the next look finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from hpa_situations import Json, metrics_of, pod_of

from mlscale_twin.policies.hpa import Behavior, Decision, History, HpaSettings, MetricSpec, Observation, decide
from mlscale_twin.policies.hpa.behavior import ScalingPolicy, ScalingRules
from mlscale_twin.policies.hpa.observed import Reading

METRICS: Final = (
    {"type": "Resource", "name": "cpu", "targettype": "Utilization", "target": 50},
    {"type": "Resource", "name": "memory", "targettype": "AverageValue", "target": 64_000},
    {"type": "ContainerResource", "name": "cpu", "targettype": "Utilization", "target": 80, "container": "main"},
    {"type": "Pods", "name": "flights", "targettype": "AverageValue", "target": 1500},
    {"type": "Object", "name": "queue", "targettype": "Value", "target": 4000},
    {"type": "Object", "name": "queue", "targettype": "AverageValue", "target": 1000},
    {"type": "External", "name": "flying", "targettype": "Value", "target": 4000},
    {"type": "External", "name": "flying", "targettype": "AverageValue", "target": 1000},
)


def sequences(count: int, seed: int) -> Iterator[tuple[Json, list[Decision]]]:
    """Questions to the controller, each with the decisions that ours takes."""
    for number in range(count):
        yield _sequence(np.random.default_rng([seed, 2, number]))


def _sequence(rng: np.random.Generator) -> tuple[Json, list[Decision]]:
    settings = _settings(rng)
    resync = float(rng.choice([5.0, 15.0, 15.0, 15.0, 30.0]))
    replicas = int(rng.integers(1, settings["max"] + 1))
    question: Json = {"settings": settings, "replicas": replicas, "resync": resync, "steps": []}
    ours, state = settings_of(settings), History()
    born = {f"p{number}": -600.0 for number in range(replicas)}
    demand, decisions = float(rng.uniform(0.5, 6)), []
    for number in range(1, 61):
        t_s = resync * number
        demand = float(rng.uniform(0, 14)) if rng.random() < 0.08 else max(0.0, demand * rng.uniform(0.85, 1.18))
        by_hand = int(rng.integers(0, settings["max"] + 3)) if rng.random() < 0.02 else None
        current = replicas if by_hand is None else by_hand
        born = _populated(born, current, t_s)
        pods = [_pod(rng, name, start, t_s) for name, start in born.items()]
        readings = [_reading(rng, spec, pods, demand, t_s) for spec in settings["metrics"]]
        step = {"spec": by_hand, "status": len(pods), "pods": pods, "readings": readings}
        question["steps"].append(step)
        decision = decide(observation(settings, step, t_s, current), ours, state)
        state, replicas = decision.state, decision.desired
        decisions.append(decision)
    return question, decisions


def _settings(rng: np.random.Generator) -> Json:
    chosen, names = [], set()
    for place in rng.permutation(len(METRICS))[: int(rng.choice([1, 1, 1, 2, 3]))]:
        key = (METRICS[place]["name"], METRICS[place].get("container"))
        if key not in names:
            chosen.append(dict(METRICS[place]))
            names.add(key)
    low = int(rng.integers(1, 4))
    made: Json = {"min": low, "max": low + int(rng.integers(0, 20)), "metrics": chosen, "behavior": None}
    made |= {"tolerance": float(rng.choice([0.1, 0.1, 0.0, 0.2])), "initial": 300.0, "delay": 30.0}
    made["downscale"] = float(rng.choice([0, 60, 300, 300]))
    if rng.random() < 0.7:
        made["behavior"] = {"up": _rules(rng), "down": _rules(rng)}
    return made


def _rules(rng: np.random.Generator) -> Json | None:
    if rng.random() < 0.25:
        return None
    rules: Json = {"window": None, "select": None, "policies": None}
    if rng.random() < 0.7:
        rules["window"] = int(rng.choice([0, 15, 30, 60, 120, 300]))
    if rng.random() < 0.5:
        rules["select"] = str(rng.choice(["Max", "Max", "Min", "Min", "Disabled"]))
    if rng.random() < 0.7:
        rules["policies"] = [_policy(rng) for _ in range(int(rng.integers(1, 4)))]
    return rules


def _policy(rng: np.random.Generator) -> Json:
    pods = rng.random() < 0.5
    value = int(rng.integers(1, 6)) if pods else int(rng.choice([5, 10, 25, 50, 100, 200]))
    return {
        "type": "Pods" if pods else "Percent",
        "value": value,
        "period": int(rng.choice([15, 30, 45, 60, 120, 300])),
    }


def _populated(born: dict[str, float], replicas: int, t_s: float) -> dict[str, float]:
    """Pods are made, or the youngest go, until there are as many as the scale says."""
    kept = dict(list(born.items())[:replicas])
    first = 1 + max((int(name[1:]) for name in born), default=-1)
    return kept | {f"p{first + number}": t_s for number in range(replicas - len(kept))}


def _pod(rng: np.random.Generator, name: str, start: float, t_s: float) -> Json:
    ready = t_s - start >= 20.0
    at = start + (20.0 if ready else 0.0)
    phase = "Running" if t_s - start >= 5.0 else "Pending"
    if rng.random() < 0.01:
        phase = "Failed"
    return {
        "name": name,
        "phase": phase,
        "deleted": bool(rng.random() < 0.01),
        "start": start,
        "ready": {"status": "True" if ready else "False", "at": at},
        "containers": [{"name": "main", "requests": {"cpu": 400, "memory": 64_000}}],
    }


def _reading(rng: np.random.Generator, spec: Json, pods: Sequence[Json], demand: float, t_s: float) -> Json:
    if rng.random() < 0.04:
        return {}
    if spec["type"] == "Object":
        return {"value": round(1000 * demand)}
    if spec["type"] == "External":
        return {"values": [round(400 * demand), round(1000 * demand) - round(400 * demand)]}
    ready = [pod for pod in pods if pod["ready"]["status"] == "True"]
    share = demand / max(1, len(ready))
    unit = {"cpu": 300, "memory": 50_000, "flights": 1000}[spec["name"]]
    counted = [pod for pod in pods if pod["phase"] == "Running" and rng.random() > 0.03]
    at = t_s - 5.0
    return {"pods": {pod["name"]: [round(unit * share * rng.uniform(0.9, 1.1)), at, 15.0] for pod in counted}}


def observation(settings: Json, step: Json, t_s: float, current: int) -> Observation:
    readings = [_told(spec, told) for spec, told in zip(settings["metrics"], step["readings"], strict=True)]
    pods = tuple(pod_of(pod) for pod in step["pods"])
    return Observation(t_s, current, step["status"], pods, tuple(readings))


def _told(spec: Json, told: Json) -> Reading:
    if spec["type"] == "Object":
        return told.get("value")
    return told.get("values") if spec["type"] == "External" else metrics_of(told)


def settings_of(made: Json) -> HpaSettings:
    metrics = tuple(
        MetricSpec(each["type"], each["name"], each["targettype"], each["target"], each.get("container", ""))
        for each in made["metrics"]
    )
    behavior = made["behavior"] and Behavior(_rules_of(made["behavior"]["up"]), _rules_of(made["behavior"]["down"]))
    bounds = (made["min"], made["max"])
    times = (made["downscale"], made["initial"], made["delay"])
    return HpaSettings(metrics, *bounds, behavior, made["tolerance"], *times)


def _rules_of(made: dict[str, Any] | None) -> ScalingRules:
    if made is None:
        return ScalingRules()
    policies = made["policies"] and tuple(
        ScalingPolicy(each["type"], each["value"], float(each["period"])) for each in made["policies"]
    )
    window = None if made["window"] is None else float(made["window"])
    return ScalingRules(window, made["select"], policies)
