"""Ray's decision in virtual time, against the wrapper that Ray itself puts around its policy, run on a fake clock."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mlscale_twin.policies.ray_serve import RayServeObservation, RayServeSettings, RayServeState, _context, decide

SETTINGS = RayServeSettings(max_replicas=4, target_ongoing_requests=1.0, upscale_delay_s=1.0, downscale_delay_s=3.0)


def at(t_s: float, total: float, running: int, target: int | None = None) -> RayServeObservation:
    return RayServeObservation(t_s, total, running, running if target is None else target)


def test_scale_up_waits_for_the_delay() -> None:
    first = decide(at(0.0, 3.2, 1), SETTINGS, RayServeState())
    assert (first.desired, first.wanted, first.rule) == (1, 4, "upscale-delay")
    assert "3.20 ongoing at target 1 per replica" in first.reason
    second = decide(at(0.9, 2.5, 1), SETTINGS, first.state)
    assert (second.desired, second.rule) == (1, "upscale-delay")
    third = decide(at(1.0, 2.5, 1), SETTINGS, second.state)
    assert (third.desired, third.rule) == (3, "up"), "the latest value counts"


def test_a_dip_restarts_the_delay() -> None:
    state = decide(at(0.0, 3.0, 1), SETTINGS, RayServeState()).state
    dip = decide(at(0.5, 1.0, 1), SETTINGS, state)
    assert dip.rule == "on-target"
    assert decide(at(1.2, 3.0, 1), SETTINGS, dip.state).rule == "upscale-delay"


def test_bounds() -> None:
    free = RayServeSettings(max_replicas=2, target_ongoing_requests=1.0, upscale_delay_s=0.0)
    over = decide(at(0.0, 9.0, 1), free, RayServeState())
    assert (over.desired, over.wanted, over.rule) == (2, 9, "bounded")


@pytest.mark.parametrize("seed", range(20))
def test_decisions_equal_those_of_rays_wrapper(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random settings and demand, with replicas that start late."""
    from ray.serve import autoscaling_policy

    rng = np.random.default_rng(seed)
    factors = rng.choice([0.3, 0.7, 1.0, 1.5], 2).tolist()
    delays = rng.choice([0.0, 0.5, 2.0, 7.0], 2).tolist()
    settings = RayServeSettings(1, int(rng.integers(2, 12)), float(rng.choice([1.0, 2.0, 3.3])), *delays, *factors)
    clock = {"now": 1000.0}
    monkeypatch.setattr(autoscaling_policy.time, "time", lambda: clock["now"])
    ray_decide: Any = autoscaling_policy._apply_autoscaling_config(
        autoscaling_policy.replica_queue_length_autoscaling_policy
    )
    state, policy_state = RayServeState(), {}
    target = running = 1
    demand, rules = 1.0, set()
    for _ in range(400):
        clock["now"] += float(rng.choice([0.1, 0.11, 0.25]))
        demand = float(rng.uniform(0, 30)) if rng.random() < 0.03 else max(0.0, demand + rng.normal(0, 0.3))
        running += int(np.sign(target - running)) if rng.random() < 0.2 else 0
        observation = RayServeObservation(clock["now"], demand, running, target)
        ray_target, policy_state = ray_decide(_context(observation, settings, RayServeState(policy_state)))
        ours = decide(observation, settings, state)
        state = ours.state
        assert ours.desired == min(max(math.ceil(ray_target), settings.min_replicas), settings.max_replicas)
        target = ours.desired
        rules.add(ours.rule)
    assert len(rules) >= 3, "several branches were taken"


@pytest.mark.parametrize("seed", range(20))
def test_decisions_said_to_be_the_same_can_be_skipped(seed: int) -> None:
    """Observations change now and then: decided upon every 0.1 s, and only where the last decision may not hold."""
    rng = np.random.default_rng(seed)
    delays = rng.choice([0.0, 0.5, 2.0, 7.0], 2).tolist()
    settings = RayServeSettings(int(rng.integers(0, 3)), 6, 1.5, *delays)
    every, some = RayServeState(), RayServeState()
    target, observed, last, skipped = 1, (0.0, 1), None, 0
    for number in range(2000):
        t_s = number * 0.1
        if rng.random() < 0.03:
            observed = float(rng.choice([0.0, 1.0, 4.0, 12.0])), int(rng.integers(0, 5))
        decision = decide(at(t_s, *observed, target), settings, every)
        every = decision.state
        if last is not None and last[1] == (*observed, target) and t_s < last[0].same_until_s:
            skipped += 1
        else:
            last = decide(at(t_s, *observed, target), settings, some), (*observed, target)
            some = last[0].state
        assert (last[0].desired, last[0].wanted, last[0].rule) == (decision.desired, decision.wanted, decision.rule)
        target = decision.desired
    assert skipped > 200
