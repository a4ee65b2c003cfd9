"""Random questions to the HorizontalPodAutoscaler: JSON for Kubernetes' own code, and the answers of ours.

Times are multiples of half a second, so that edges are met exactly and both sides can hold them; values crowd around
the target's tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from mlscale_twin.policies.hpa import (
    Decision,
    History,
    HpaSettings,
    MetricError,
    Observation,
    Pod,
    PodMetric,
    Proposal,
    decide,
    propose,
)

Json = dict[str, Any]
INITIAL_S, DELAY_S = 300.0, 30.0
_SETTINGS: Final = HpaSettings("cpu", 50, cpu_initialization_period_s=INITIAL_S, initial_readiness_delay_s=DELAY_S)


def situations(count: int, seed: int) -> Iterator[tuple[Json, Proposal | None]]:
    """Questions to the calculator, the two metrics in turn, each with our answer (None: an error)."""
    rng = np.random.default_rng([seed, 1])
    for number in range(count):
        question = _situation(rng, "cpu" if number % 2 else "external")
        request = question["pods"][0]["request"] if question["pods"] else 1
        settings = replace(
            _SETTINGS,
            metric=question["method"],
            target=question["target"],
            tolerance=question["tolerance"],
            request_milli=request,
        )
        reading = _reading_of(question["reading"])
        observation = Observation(0.0, question["current"], question["status"], _pods_of(question["pods"]), reading)
        try:
            yield question, propose(observation, settings)
        except MetricError:
            yield question, None


def lives(count: int, seed: int) -> Iterator[tuple[Json, list[Decision]]]:
    """Lives of autoscalers, sync by sync, each with the decisions that ours takes.

    Demand jumps and drifts, pods come up some syncs after they were asked for, metrics are missing at times, and now
    and then a person scales by hand. What ours decides is what the next sync finds.
    """
    for number in range(count):
        yield _life(np.random.default_rng([seed, 2, number]))


def _situation(rng: np.random.Generator, method: str) -> Json:
    current, request = int(rng.integers(1, 9)), int(rng.choice([100, 250, rng.integers(1, 2000)]))
    pods = [_pod(rng, f"p{number}", request) for number in range(int(rng.integers(0 if rng.random() < 0.1 else 1, 8)))]
    tolerance = float(rng.choice([0.1, 0.1, 0.1, 0.0, 0.05, 0.25]))
    question = {"method": method, "current": current, "status": int(rng.integers(1, 9)), "tolerance": tolerance}
    question |= {"target": int(rng.choice([1, 7, 50, 80, 100, 150, 1000, 1500, 3333]))}
    question |= {"initial": INITIAL_S, "delay": DELAY_S, "pods": pods}
    if method == "external":
        total = question["target"] * question["status"] * _factor(rng, tolerance)
        return question | {"reading": {"values": [max(0, round(total) + int(rng.choice([-1, 0, 0, 1])))]}}
    if rng.random() < 0.1:  # far more pods than the scale says, some without a metric: the direction may turn
        pods = question["pods"] = [_old_pod(f"p{number}", request) for number in range(7)]
        question["current"] = int(rng.choice([1, 2, 40]))
        value = round(request * question["target"] / 100 * rng.choice([0.4, 0.5, 2.0, 3.0]))
        return question | {"reading": {"pods": {each["name"]: [value, -1.0, 15.0] for each in pods[:6]}}}
    return question | {"reading": {"pods": _cpu_of(rng, question)}}


def _cpu_of(rng: np.random.Generator, question: Json) -> dict[str, list[float]]:
    """By pod: milli-cores, timestamp, window."""
    missing = 0.0 if rng.random() < 0.4 else rng.choice([0.15, 0.5])
    factor, found = _factor(rng, question["tolerance"]), {}
    for each in question["pods"]:
        if rng.random() < missing:
            continue
        milli = round(each["request"] * question["target"] / 100 * factor) + int(rng.choice([-1, 0, 0, 0, 1]))
        window_s = float(rng.choice([15.0, 30.0, 60.0]))
        at_s = _half_seconds(rng, -60, 0)
        if rng.random() < 0.4:
            at_s = each["ready"]["at"] + window_s + float(rng.choice([-0.5, 0.0, 0.5]))
        found[each["name"]] = [max(0, milli), at_s, window_s]
    return found


def _factor(rng: np.random.Generator, tolerance: float) -> float:
    """Of the target: at the tolerance's edges, near one, or anywhere."""
    chance = rng.random()
    if chance < 0.3:
        return float(rng.choice([1 - tolerance, 1 + tolerance]))
    if chance < 0.5:
        return float(rng.uniform(0.8, 1.25))
    return float(rng.choice([0.0, 0.3, 0.6, 1.6, 2.5, 7.0]) + rng.uniform(0, 0.3))


def _pod(rng: np.random.Generator, name: str, request: int) -> Json:
    """Its times are before and around 0, the present."""
    start_s = -INITIAL_S if rng.random() < 0.1 else _half_seconds(rng, -INITIAL_S - 40, 0)
    ready_s = start_s + (DELAY_S if rng.random() < 0.15 else _half_seconds(rng, 0, 90))
    phase = str(rng.choice(["Running", "Running", "Running", "Running", "Running", "Pending"]))
    ready = {"status": str(rng.choice(["True", "True", "True", "False"])), "at": ready_s}
    start = None if rng.random() < 0.05 else start_s
    return {"name": name, "phase": phase, "start": start, "ready": ready, "request": request}


def _old_pod(name: str, request: int) -> Json:
    ready = {"status": "True", "at": -INITIAL_S - 50}
    return {"name": name, "phase": "Running", "start": -INITIAL_S - 60, "ready": ready, "request": request}


def _half_seconds(rng: np.random.Generator, low: float, high: float) -> float:
    return math.floor(rng.uniform(low, high) * 2) / 2


def _life(rng: np.random.Generator) -> tuple[Json, list[Decision]]:
    metric = {"type": "cpu", "target": 50} if rng.random() < 0.5 else {"type": "external", "target": 1000}
    low = int(rng.integers(1, 4))
    high = low + int(rng.integers(0, 20))
    up_s, down_s = (None if rng.random() < 0.3 else int(rng.choice([0, 15, 30, 60, 300])) for _ in range(2))
    tolerance, resync_s = float(rng.choice([0.1, 0.1, 0.0, 0.2])), float(rng.choice([5.0, 15.0, 15.0, 30.0]))
    made: Json = {"min": low, "max": high, "up": up_s, "down": down_s, "tolerance": tolerance, "metric": metric}
    made |= {"downscale": 300.0, "initial": INITIAL_S, "delay": DELAY_S}
    settings = HpaSettings(
        metric["type"],
        metric["target"],
        low,
        high,
        request_milli=400,
        upscale_stabilization_s=float(up_s or 0),
        downscale_stabilization_s=300.0 if down_s is None else float(down_s),
        tolerance=tolerance,
    )
    replicas = int(rng.integers(1, high + 1))
    question: Json = {"settings": made, "replicas": replicas, "resync": resync_s, "steps": []}
    born = {f"p{number}": -600.0 for number in range(replicas)}
    demand, decisions, state = float(rng.uniform(0.5, 6)), [], History()
    for number in range(1, 61):
        t_s = resync_s * number
        demand = float(rng.uniform(0, 14)) if rng.random() < 0.08 else max(0.0, demand * rng.uniform(0.85, 1.18))
        by_hand = int(rng.integers(1, high + 3)) if rng.random() < 0.02 else None
        current = replicas if by_hand is None else by_hand
        born = _populated(born, current, t_s)
        pods = [_growing_pod(name, start_s, t_s) for name, start_s in born.items()]
        reading = _reading(rng, metric["type"], pods, demand, t_s)
        question["steps"].append({"spec": by_hand, "status": len(pods), "pods": pods, "reading": reading})
        decision = decide(Observation(t_s, current, len(pods), _pods_of(pods), _reading_of(reading)), settings, state)
        state, replicas = decision.state, decision.desired
        decisions.append(decision)
    return question, decisions


def _populated(born: Mapping[str, float], replicas: int, t_s: float) -> dict[str, float]:
    """Pods are made, or the youngest go, until there are as many as the scale says."""
    kept = dict(list(born.items())[:replicas])
    first = 1 + max((int(name[1:]) for name in born), default=-1)
    return kept | {f"p{first + number}": t_s for number in range(replicas - len(kept))}


def _growing_pod(name: str, start_s: float, t_s: float) -> Json:
    """Runs after 5 s, is ready after 20 s."""
    ready = t_s - start_s >= 20.0
    condition = {"status": "True" if ready else "False", "at": start_s + (20.0 if ready else 0.0)}
    phase = "Running" if t_s - start_s >= 5.0 else "Pending"
    return {"name": name, "phase": phase, "start": start_s, "ready": condition, "request": 400}


def _reading(rng: np.random.Generator, metric: str, pods: list[Json], demand: float, t_s: float) -> Json:
    if metric == "external":
        return {"values": [round(1000 * demand)]}
    share = demand / max(1, sum(pod["ready"]["status"] == "True" for pod in pods))
    lost = 1.0 if rng.random() < 0.04 else 0.03
    counted = [pod for pod in pods if pod["phase"] == "Running" and rng.random() > lost]
    return {"pods": {pod["name"]: [round(300 * share * rng.uniform(0.9, 1.1)), t_s - 5.0, 15.0] for pod in counted}}


def _pods_of(pods: list[Json]) -> list[Pod]:
    ready = [(each["ready"]["status"] == "True", each["ready"]["at"]) for each in pods]
    return [
        Pod(each["name"], each["phase"] == "Running", each["start"], *of) for each, of in zip(pods, ready, strict=True)
    ]


def _reading_of(told: Json) -> dict[str, PodMetric] | int:
    if "values" in told:
        return int(told["values"][0])
    return {name: PodMetric(int(milli), at_s, window_s) for name, (milli, at_s, window_s) in told["pods"].items()}
