"""Published times of scaling to thousands of containers lie where the clouds' numbers put them, to which they were not
fitted.

The control loops decide about a few replicas; with thousands, the platforms' launch rates matter, which `cloud.json`
has beside each variant.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import qmc

from mlscale_twin.cloud import read_cloud
from mlscale_twin.machine_loops import SCAN_S
from mlscale_twin.policies.capacity_provider import (
    InstancesObservation,
    ManagedScalingSettings,
    ManagedScalingState,
    decide,
)

Floats = npt.NDArray[np.float64]
CLOUD: Final = read_cloud()
PUBLISHED: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("published_launches.json").read_text())
DRAWS: Final = 32
# Share of the containers that counts as nearly all.
NEARLY_ALL: Final = 0.99
# Pods become pending at the rate at which they are created: Karpenter then batches for ten seconds, its longest window
# (BATCH_MAX_DURATION), and the Cluster Autoscaler scans as often.
BATCH_S: Final = SCAN_S
LAST_S: Final = 3600.0


def spread(values: Mapping[str, float], rng: np.random.Generator, name: str, number: int) -> Floats:
    return np.asarray(values[name] * rng.lognormal(0.0, values["start_spread"], number), dtype=float)


def launch_times(containers: int, per_machine: int, values: Mapping[str, float], seed: int) -> Floats:
    """When each container runs, s since all were asked for, sorted; from a variant's numbers (`drawn_values`)."""
    drawn = partial(spread, values, np.random.default_rng(seed))
    asked_s = np.maximum(0.0, (np.arange(containers) + 1 - values["launch_burst"]) / values["launches_per_s"])
    pull_s = drawn("image_pull_s", containers)
    if "join_s" in values:
        pull_s = np.repeat(pull_s[: math.ceil(containers / per_machine)], per_machine)[:containers]  # once per machine
        if "waiting_at_most" in values:
            asked_s = np.maximum(asked_s, capacity_provider(containers, per_machine, values, drawn))
        else:
            machine_s = BATCH_S * (1 + asked_s[::per_machine] // BATCH_S)
            machine_s += sum(drawn(name, len(machine_s)) for name in ("request_s", "instance_boot_s", "join_s"))
            asked_s = np.repeat(machine_s, per_machine)[:containers]
    return np.sort(asked_s + drawn("launch_s", containers) + pull_s)


def capacity_provider(containers: int, per_machine: int, values: Mapping[str, float], drawn: Any) -> Floats:
    """When each task finds room: once a minute, the capacity provider asks for the instances that the waiting tasks
    need, of which only ``waiting_at_most`` wait at a time. (The instance that it begins with is taken to be full.)"""
    settings = ManagedScalingSettings(target_capacity=95.0, warmup_s=1.0, max_instances=10_000)
    state, t_s, ready_s = ManagedScalingState(), 60.0, np.zeros(0)
    while len(ready_s) * per_machine < containers and t_s < LAST_S:
        running = 1 + int((ready_s <= t_s).sum())
        waiting = min(int(values["waiting_at_most"]), containers - (running - 1) * per_machine)
        observation = InstancesObservation(t_s, 1 + len(ready_s), running, running, (1 / per_machine,) * waiting)
        decision = decide(observation, settings, state)
        state = decision.state
        more = decision.desired - 1 - len(ready_s)
        if more > 0:
            delay_s = sum(drawn(name, more) for name in ("request_s", "instance_boot_s", "join_s"))
            ready_s = np.sort([*ready_s, *(t_s + delay_s)])
        t_s += 60.0
    return np.repeat(ready_s, per_machine)[:containers]


def drawn_values(variant: str, draws: int) -> list[dict[str, float]]:
    """A variant's numbers and rates in each draw of a Latin hypercube over their ranges."""
    ranges = {name.removeprefix(f"{variant}."): each for name, each in CLOUD.numbers_of(variant).items()}
    ranges |= CLOUD.rates_of(variant)
    points = qmc.LatinHypercube(len(ranges), rng=0).random(draws)
    return [{name: each.at(x) for (name, each), x in zip(ranges.items(), row, strict=True)} for row in points]


def inside(low_s: float, high_s: float, ours_s: Floats) -> bool:
    """Whether what is published overlaps 90 % of our draws."""
    low, high = np.quantile(ours_s, [0.05, 0.95])
    return bool(low_s <= high and high_s >= low)


@pytest.mark.parametrize("variant", CLOUD.variants)
def test_launches_are_monotone_and_no_faster_than_the_rate(variant: str) -> None:
    for values in drawn_values(variant, 4):
        times_s = launch_times(3500, 15, values, 0)
        assert len(times_s) == 3500
        assert (np.diff(times_s) >= 0).all()
        asked_s = (3500 - values["launch_burst"]) / values["launches_per_s"]
        assert times_s[-1] > asked_s
        few = launch_times(20, 15, values, 0)
        assert few[-1] < times_s[-1]


def test_published_times_lie_inside_what_the_numbers_give_or_are_known_not_to() -> None:
    found = {}
    for variant, curve in PUBLISHED["curves"].items():
        times_s = np.stack(
            [
                launch_times(PUBLISHED["containers"], PUBLISHED["per_machine"], values, draw)
                for draw, values in enumerate(drawn_values(variant, DRAWS))
            ]
        )
        nearly = times_s[:, round(NEARLY_ALL * times_s.shape[1]) - 1]
        for what, ours_s in (("first_s", times_s[:, 0]), ("nearly_all_s", nearly)):
            found[variant, what] = inside(curve[what], curve[what], ours_s)
    for variant, node in PUBLISHED["nodes"].items():
        numbers = ("request_s", "instance_boot_s", "join_s")
        node_s = np.array([sum(each[name] for name in numbers) for each in drawn_values(variant, 200)]) + SCAN_S / 2
        found[variant, "node"] = inside(node["low_s"], node["high_s"], node_s)
    fits = [
        ("ecs-fargate", "first_s"),
        ("ecs-fargate", "nearly_all_s"),
        ("ecs-ec2", "first_s"),
        ("eks-fargate", "first_s"),
    ]
    assert all(found[place] for place in fits), found
    misses = [("eks-karpenter", "first_s"), ("eks-node-group", "first_s"), ("eks-node-group", "node")]
    assert not any(found[place] for place in misses), "not fitted to them"
