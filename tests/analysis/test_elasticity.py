"""Elasticity by hand, and of published runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlscale.analysis.elasticity import elasticity, needed_replicas, of_steps
from mlscale.runs import Event, ReplicaSample, ResourceSample, load_runs
from synthetic_runs import info, requests_frame, write_run

REFERENCE = Path(__file__).parents[2] / "data/reference"


def test_too_few_then_too_many() -> None:
    """Demand 1, then 3 from 10 s on; supply 1, 2 from 20 s, 4 from 30 s, over 40 s."""
    demand_t, demand = np.array([0.0, 10.0]), np.array([1.0, 3.0])
    supply_t, supply = np.array([0.0, 20.0, 30.0]), np.array([1.0, 2.0, 4.0])
    found = of_steps(demand_t, demand, supply_t, supply, 0.0, 40.0)
    expected = {
        "replicas too few": (2 * 10 + 1 * 10) / 40,
        "too many": 1 * 10 / 40,
        "time with too few (%)": 50,
        "with too many (%)": 25,
        "jitter (1/min)": (2 - 1) * 60 / 40,
    }
    assert found == pytest.approx(expected)


def test_demand_is_the_fewest_replicas_that_are_quick_enough() -> None:
    assert needed_replicas(0.0, 0.1, 0.5) == 1
    assert needed_replicas(7.9, 0.1, 0.5) == 1, "M/M/1: 0.1 / (1 - 0.8) = 0.5 s at 8 requests/s"
    assert needed_replicas(8.1, 0.1, 0.5) == 2
    assert needed_replicas(8.0, 0.1, 0.05) == 2, "service alone is too slow: 70 % busy"


def test_replicas_that_start_use_cpu_that_no_answer_needs(tmp_path: Path) -> None:
    """A second replica starts with the step and is ready 20 s later; until then it uses three times as much CPU."""
    found = []
    for starting_cores in (0.1, 0.9):
        used = [
            ResourceSample(float(t), "app", name, "replica", starting_cores if name == "b" and t <= 65 else 0.3, 1e6)
            for name, first in (("a", 0), ("b", 45))
            for t in range(first, 165)
        ]
        counts = [ReplicaSample(float(t), "app", 1 + (t > 45), int(45 < t < 65), 1 + (t >= 65)) for t in range(165)]
        began = [Event(46.0, "app", "replica_created", "b"), Event(65.0, "app", "replica_ready", "b")]
        requests = requests_frame(np.arange(0, 165, 0.1), 0.2)
        run = write_run(tmp_path / f"{starting_cores}", requests, info(), [*used, *counts, *began])
        found.append(elasticity(run, 0.5))
    assert found[0]
    assert found[0] == found[1]


@pytest.mark.parametrize("level_s", [0.45, 1.0])
def test_published_runs_follow_their_demand_more_or_less(level_s: float) -> None:
    found = [elasticity(run, level_s) for run in load_runs([REFERENCE / "core"])]
    shares = np.array([(each["time with too few (%)"], each["with too many (%)"]) for each in found]) / 100
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (shares.sum(axis=1) <= 1 + 1e-9).all()
    assert shares[:, 0].max() > 0, "after the step, replicas are missing for a while"
