"""Elasticity by hand, and only of open loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlscale.analysis.elasticity import demand_curve, elasticity, of_steps
from mlscale.runs import Constant, MlscaleError, OpenLoop, Ramp, ReplicaSample, Run, Sine, Spike, Staircase, Step
from synthetic_runs import info, requests_frame, write_run


def _run(path: Path, rate: Any, ready: list[tuple[float, int]], duration_s: float = 100.0) -> Run:
    schedule = OpenLoop(duration_s=duration_s, rate=rate)
    samples = [ReplicaSample(t, "app", n, 0, n) for t, n in ready]
    frame = requests_frame(np.arange(0, duration_s, 0.5), 0.1)
    return write_run(path, frame, info(schedule=schedule, step_s=None), samples)


def test_by_hand(tmp_path: Path) -> None:
    """Demand 1 until 40 s, then 3; supply 1 until 60 s, 4 until 80 s, then 3."""
    rate = Staircase(steps=(Step(start_s=0, rate_rps=8), Step(start_s=40, rate_rps=24)))
    found = elasticity(_run(tmp_path / "r", rate, [(0.0, 1), (60.0, 4), (80.0, 3)]), lambda rps: rps / 8)
    assert found.a_u == pytest.approx(2 * 20 / 100)
    assert found.a_o == pytest.approx(1 * 20 / 100)
    assert (found.t_u, found.t_o) == pytest.approx((0.2, 0.2))
    assert found.jitter_hz == pytest.approx((2 - 1) / 100)


def test_a_perfect_supply_has_only_zeros() -> None:
    t = np.array([0.0, 10.0])
    found = of_steps(t, np.array([1.0, 3.0]), t, np.array([1.0, 3.0]), 0.0, 20.0)
    assert (found.a_u, found.a_o, found.t_u, found.t_o, found.jitter_hz) == (0, 0, 0, 0, 0)


def test_a_closed_loop_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", requests_frame([1.0], 0.1), info())
    with pytest.raises(MlscaleError, match="no demand of its own"):
        elasticity(run, lambda rps: rps / 8)


def test_no_sample_of_replicas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match="no sample of replicas"):
        elasticity(_run(tmp_path / "r", Constant(rate_rps=8), []), lambda rps: rps / 8)


@pytest.mark.parametrize(
    ("rate", "at", "expected"),
    [
        (Constant(rate_rps=8), 50.0, 8.0),
        (Spike(base_rps=2, spike_rps=20, at_s=40, width_s=10), 45.0, 20.0),
        (Spike(base_rps=2, spike_rps=20, at_s=40, width_s=10), 60.0, 2.0),
        (Ramp(from_rps=0, to_rps=100), 50.0, 50.5),
        (Sine(mean_rps=10, amplitude_rps=5, period_s=80), 20.0, 10 + 5 * np.sin(2 * np.pi * 20.5 / 80)),
    ],
)
def test_demand_follows_the_schedule(tmp_path: Path, rate: Any, at: float, expected: float) -> None:
    curve = demand_curve(_run(tmp_path / "r", rate, [(0.0, 1)]), lambda rps: rps)
    assert curve.rate_rps[np.searchsorted(curve.t_s, at, side="right") - 1] == pytest.approx(expected)


def test_an_empty_span_is_refused() -> None:
    one = np.ones(1)
    with pytest.raises(ValueError, match="empty span"):
        of_steps(one, one, one, one, 5.0, 5.0)
