"""Published measurements of scaling to thousands of containers, beside what the clouds' numbers give for the same.

The numbers were not fitted to them. The simulator's control loops decide about a few replicas; with thousands, the
platforms' launch rates matter, which `cloud.json` has beside each variant.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import qmc

from mlscale_twin.cloud import Cloud, read_cloud
from mlscale_twin.machine_loops import SCAN_S
from mlscale_twin.policies.capacity_provider import (
    InstancesObservation,
    ManagedScalingSettings,
    ManagedScalingState,
    decide,
)

Floats = npt.NDArray[np.float64]
FILE: Final = Path(__file__).with_name("published_launches.json")
# Share of the containers that counts as nearly all.
NEARLY_ALL: Final = 0.99
# Pods become pending at the rate at which they are created: Karpenter then batches for ten seconds, its longest window
# (BATCH_MAX_DURATION), and the Cluster Autoscaler scans as often.
_BATCH_S: Final = SCAN_S
_LAST_S: Final = 3600.0


def read_published() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text()))


def launch_times(variant: str, containers: int, per_machine: int, values: Mapping[str, float], seed: int) -> Floats:
    """When each container runs, s since all were asked for, sorted; from a variant's numbers (`drawn_values`)."""
    rng = np.random.default_rng(seed)

    def spread(name: str, number: int) -> Floats:
        return np.asarray(values[name] * rng.lognormal(0.0, values["start_spread"], number), dtype=float)

    places = np.arange(containers)
    asked_s = np.maximum(0.0, (places + 1 - values["launch_burst"]) / values["launches_per_s"])
    pull_s = spread("image_pull_s", containers)
    if "join_s" in values:
        pull_s = np.repeat(pull_s[: math.ceil(containers / per_machine)], per_machine)[:containers]  # once per machine
        if "waiting_at_most" in values:
            asked_s = np.maximum(asked_s, _capacity_provider(containers, per_machine, values, spread))
        else:
            machine_s = _BATCH_S * (1 + asked_s[::per_machine] // _BATCH_S)
            machine_s += sum(spread(name, len(machine_s)) for name in ("request_s", "instance_boot_s", "join_s"))
            asked_s = np.repeat(machine_s, per_machine)[:containers]
    return np.sort(asked_s + spread("launch_s", containers) + pull_s)


def _capacity_provider(containers: int, per_machine: int, values: Mapping[str, float], spread: Any) -> Floats:
    """When each task finds room: once a minute, the capacity provider asks for the instances that the waiting tasks
    need, of which only ``waiting_at_most`` wait at a time. (The instance that it begins with is taken to be full.)"""
    settings = ManagedScalingSettings(target_capacity=95.0, warmup_s=1.0, max_instances=10_000)
    state, t_s, ready_s = ManagedScalingState(), 60.0, np.zeros(0)
    while len(ready_s) * per_machine < containers and t_s < _LAST_S:
        running = 1 + int((ready_s <= t_s).sum())
        waiting = min(int(values["waiting_at_most"]), containers - (running - 1) * per_machine)
        observation = InstancesObservation(t_s, 1 + len(ready_s), running, running, (1 / per_machine,) * waiting)
        decision = decide(observation, settings, state)
        state = decision.state
        more = decision.desired - 1 - len(ready_s)
        if more > 0:
            delay_s = sum(spread(name, more) for name in ("request_s", "instance_boot_s", "join_s"))
            ready_s = np.sort([*ready_s, *(t_s + delay_s)])
        t_s += 60.0
    return np.repeat(ready_s, per_machine)[:containers]


def drawn_values(cloud: Cloud, variant: str, draws: int, seed: int = 0) -> list[dict[str, float]]:
    """A variant's numbers and rates in each draw of a Latin hypercube over their ranges."""
    ranges = {name.removeprefix(f"{variant}."): each for name, each in cloud.numbers_of(variant).items()}
    ranges |= cloud.rates_of(variant)
    points = qmc.LatinHypercube(len(ranges), rng=seed).random(draws)
    return [{name: each.at(x) for (name, each), x in zip(ranges.items(), row, strict=True)} for row in points]


def launch_curves(draws: int = 64) -> pd.DataFrame:
    """For each published curve and draw: ``variant``, ``draw``, and ``times_s``, when each container ran."""
    cloud, published = read_cloud(), read_published()
    return pd.DataFrame(
        {
            "variant": variant,
            "draw": draw,
            "times_s": launch_times(variant, published["containers"], published["per_machine"], values, draw),
        }
        for variant in published["curves"]
        for draw, values in enumerate(drawn_values(cloud, variant, draws))
    )


def launch_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Each published time in s, beside the median and 90 % of draws by our numbers, and whether it lies ``inside``."""
    published, rows = read_published(), []
    for variant, group in curves.groupby("variant", sort=False):
        times_s = np.stack(group["times_s"].tolist())
        nearly = times_s[:, round(NEARLY_ALL * times_s.shape[1]) - 1]
        for what, values in (("first_s", times_s[:, 0]), ("nearly_all_s", nearly)):
            value = float(published["curves"][variant][what])
            rows.append(_row(str(variant), what.removesuffix("_s").replace("_", " "), value, value, values))
    cloud = read_cloud()
    for variant, node in published["nodes"].items():
        draws = drawn_values(cloud, variant, 200)
        node_s = np.array([sum(each[name] for name in ("request_s", "instance_boot_s", "join_s")) for each in draws])
        rows.append(_row(variant, "node ready", node["low_s"], node["high_s"], node_s + SCAN_S / 2))
    return pd.DataFrame(rows)


def _row(variant: str, what: str, published_low_s: float, published_high_s: float, values: Floats) -> dict[str, Any]:
    low_s, middle_s, high_s = np.quantile(values, [0.05, 0.5, 0.95]).tolist()
    return {
        "variant": variant, "what": what, "published_low_s": published_low_s, "published_high_s": published_high_s,
        "ours_s": middle_s, "low_s": low_s, "high_s": high_s,
        "inside": published_low_s <= high_s and published_high_s >= low_s,
    }  # fmt: skip
