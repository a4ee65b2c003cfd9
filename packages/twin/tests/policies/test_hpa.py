"""The HorizontalPodAutoscaler, case by case. That it is Kubernetes' own, on any input: tests/hpa."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlscale_twin.policies.hpa import (
    Behavior,
    Container,
    Decision,
    History,
    HpaSettings,
    MetricSpec,
    Observation,
    Pod,
    PodMetric,
    ReadyCondition,
    ScalingPolicy,
    ScalingRules,
    decide,
)

CPU = MetricSpec("Resource", "cpu", "Utilization", 50)
IN_FLIGHT = MetricSpec("External", "flights", "AverageValue", 1000)
ON_CPU = HpaSettings((CPU,), max_replicas=10)
ON_IN_FLIGHT = HpaSettings((IN_FLIGHT,), max_replicas=10)


def pod(name: str, **changes: Any) -> Pod:
    ready = ReadyCondition("True", -500.0)
    return replace(Pod(name, "Running", False, -600.0, ready, (Container("main", {"cpu": 400}),)), **changes)


def on_cpu(*milli: int | None, pods: tuple[Pod, ...] | None = None, t_s: float = 0.0) -> Observation:
    pods = pods or tuple(pod(f"p{number}") for number in range(len(milli)))
    metrics = {seen.name: PodMetric(value, t_s) for seen, value in zip(pods, milli, strict=True) if value is not None}
    return Observation(t_s, len(pods), len(pods), pods, (metrics,))


def on_in_flight(total: int, replicas: int, t_s: float = 0.0) -> Observation:
    return Observation(t_s, replicas, replicas, tuple(pod(f"p{number}") for number in range(replicas)), ((total,),))


def outcome(decision: Decision) -> tuple[int, str, str, str]:
    return decision.desired, decision.able_to_scale, decision.scaling_active, decision.scaling_limited


def test_cpu_above_the_target_scales_up_in_proportion() -> None:
    decision = decide(on_cpu(400, 400), ON_CPU, History())
    assert outcome(decision) == (4, "SucceededRescale", "ValidMetricFound", "DesiredWithinRange")
    assert "100 % of the request at target 50 %" in decision.reason


def test_within_the_tolerance_it_holds() -> None:
    decision = decide(on_cpu(218, 218), ON_CPU, History())
    assert (decision.desired, decision.proposals[0].rule) == (2, "within-tolerance")  # type: ignore[union-attr]
    assert decide(on_cpu(224, 224), ON_CPU, History()).desired == 3, "56 % is not"


def test_a_pod_that_has_just_started_counts_as_idle() -> None:
    young = pod("p1", start_s=-20.0, ready=ReadyCondition("False", -20.0))
    decision = decide(on_cpu(400, 400, pods=(pod("p0"), young)), ON_CPU, History())
    assert (decision.desired, decision.proposals[0].rule) == (2, "within-tolerance")  # type: ignore[union-attr]


def test_a_missing_metric_counts_as_full_utilisation_when_scaling_down() -> None:
    settings = replace(ON_CPU, downscale_stabilization_s=0.0)
    observation = on_cpu(40, 40, None)
    assert decide(observation, settings, History(())).desired == 3, "(40 + 40 + 400) of 1200 is 40 %: 2.4 replicas"


def test_a_missing_metric_holds_with_a_reason() -> None:
    observation = replace(on_cpu(400), readings=(None,))
    decision = decide(observation, ON_CPU, History())
    assert outcome(decision) == (1, "SucceededGetScale", "FailedGetResourceMetric", "")
    assert "unable to get metrics for resource cpu" in decision.reason


def test_the_largest_proposal_counts_and_a_failed_metric_only_blocks_scaling_down() -> None:
    both = replace(ON_IN_FLIGHT, metrics=(IN_FLIGHT, CPU))
    up = replace(on_in_flight(5000, 2), readings=((5000,), None))
    assert decide(up, both, History()).desired == 4, "5 proposed, 4 is the limit of a step"
    down = replace(on_in_flight(1000, 4), readings=((1000,), None))
    assert outcome(decide(down, both, History()))[:3] == (4, "SucceededGetScale", "FailedGetResourceMetric")


def test_without_behaviour_it_at_most_doubles_or_goes_to_four() -> None:
    assert decide(on_in_flight(9000, 1), ON_IN_FLIGHT, History()).desired == 4
    decision = decide(on_in_flight(9000, 3), ON_IN_FLIGHT, History())
    assert outcome(decision)[0::3] == (6, "ScaleUpLimit")


def test_scaling_down_waits_for_the_stabilisation_window() -> None:
    state, desired = History(), 4
    for sync in range(1, 23):
        decision = decide(on_in_flight(1000, desired, 15.0 * sync), ON_IN_FLIGHT, state)
        state, desired = decision.state, decision.desired
        assert desired == (4 if sync <= 21 else 1), "300 s after the first sync, which counts 4 as recommended"
    assert decision.able_to_scale == "SucceededRescale"


def test_rate_limits_of_behaviour() -> None:
    slow = ScalingRules(policies=(ScalingPolicy("Pods", 1, 60.0),))
    settings = replace(ON_IN_FLIGHT, behavior=Behavior(scale_up=slow))
    state, desired, history = History(), 1, []
    for sync in range(1, 10):
        decision = decide(on_in_flight(9000, desired, 15.0 * sync), settings, state)
        state, desired = decision.state, decision.desired
        history.append(desired)
    assert history == [2, 2, 2, 2, 3, 3, 3, 3, 4]


def test_a_direction_can_be_switched_off() -> None:
    off = replace(ON_IN_FLIGHT, behavior=Behavior(scale_down=ScalingRules(0.0, "Disabled")))
    assert outcome(decide(on_in_flight(1000, 4), off, History(())))[0::3] == (4, "ScaleDownLimit")


def test_the_window_for_scaling_up_takes_the_lowest() -> None:
    calm = replace(ON_IN_FLIGHT, behavior=Behavior(scale_up=ScalingRules(30.0)))
    first = decide(on_in_flight(3000, 1, 15.0), calm, History())
    assert outcome(first)[:2] == (1, "ScaleUpStabilized")
    second = decide(on_in_flight(4000, 1, 30.0), calm, first.state)
    third = decide(on_in_flight(4000, 1, 45.5), calm, second.state)
    assert (second.desired, third.desired) == (1, 4)


def test_bounds_and_zero_replicas() -> None:
    assert outcome(decide(on_in_flight(0, 12), ON_IN_FLIGHT, History()))[:2] == (10, "SucceededRescale")
    assert decide(on_in_flight(0, 1), replace(ON_IN_FLIGHT, min_replicas=2), History()).desired == 2
    assert decide(on_in_flight(9000, 0), ON_IN_FLIGHT, History()).scaling_active == "ScalingDisabled"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("Pods", "cpu", "Utilization", 50), "Pods metrics take AverageValue"),
        (("Resource", "cpu", "Utilization", 0), "at least 1"),
        (("ContainerResource", "cpu", "Utilization", 50), "a container goes with"),
    ],
)
def test_invalid_metrics_are_refused(wrong: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetricSpec(*wrong)


def test_readings_must_match_the_metrics() -> None:
    with pytest.raises(ValueError, match="0 readings for 1 metrics"):
        decide(replace(on_in_flight(0, 1), readings=()), ON_IN_FLIGHT, History())
    with pytest.raises(TypeError, match="the reading is int"):
        decide(replace(on_in_flight(0, 1), readings=(5,)), ON_IN_FLIGHT, History())
