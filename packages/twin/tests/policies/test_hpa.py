"""The HorizontalPodAutoscaler, case by case. That it is Kubernetes' own, on any input: tests/hpa."""

from __future__ import annotations

from dataclasses import replace

from mlscale_twin.policies.hpa import Decision, History, HpaSettings, Observation, Pod, PodMetric, decide

ON_CPU = HpaSettings("cpu", 50, max_replicas=10, request_milli=400)
ON_IN_FLIGHT = HpaSettings("external", 1000, max_replicas=10)


def pods(count: int) -> list[Pod]:
    return [Pod(f"p{number}", True, -600.0, True, -500.0) for number in range(count)]


def on_cpu(*milli: int | None, of: list[Pod] | None = None) -> Observation:
    of = of or pods(len(milli))
    seen = {pod.name: PodMetric(each, 0.0, 60.0) for pod, each in zip(of, milli, strict=True) if each is not None}
    return Observation(0.0, len(of), len(of), of, seen)


def on_in_flight(total: int, replicas: int, t_s: float = 0.0) -> Observation:
    return Observation(t_s, replicas, replicas, pods(replicas), total)


def proposed(decision: Decision) -> str:
    assert decision.proposal is not None
    return decision.proposal.reason


def test_cpu_above_the_target_scales_up_in_proportion() -> None:
    decision = decide(on_cpu(400, 400), ON_CPU, History())
    assert (decision.desired, decision.scaling_active) == (4, "ValidMetricFound")
    assert "100 % of the request at target 50 %" in decision.reason


def test_within_the_tolerance_it_holds() -> None:
    decision = decide(on_cpu(218, 218), ON_CPU, History())
    assert (decision.desired, proposed(decision)[-20:]) == (2, "within the tolerance")
    assert decide(on_cpu(224, 224), ON_CPU, History()).desired == 3, "56 % is not"


def test_a_pod_that_has_just_started_counts_as_idle() -> None:
    young = Pod("p1", True, -20.0, False, -20.0)
    decision = decide(on_cpu(400, 400, of=[*pods(1), young]), ON_CPU, History())
    assert (decision.desired, proposed(decision)[-20:]) == (2, "within the tolerance")


def test_a_missing_metric_counts_as_full_utilisation_when_scaling_down() -> None:
    settings = replace(ON_CPU, downscale_stabilization_s=0.0)
    assert decide(on_cpu(40, 40, None), settings, History(())).desired == 3, "480 of 1200 is 40 %: 2.4 replicas"


def test_a_missing_metric_holds_with_a_reason() -> None:
    decision = decide(on_cpu(None), ON_CPU, History())
    assert (decision.desired, decision.scaling_active) == (1, "FailedGetResourceMetric")
    assert "did not receive metrics" in decision.reason


def test_it_at_most_doubles_or_adds_four_in_15_s() -> None:
    assert decide(on_in_flight(9000, 1), ON_IN_FLIGHT, History()).desired == 5
    state, desired, history = History(), 1, []
    for t_s in (5.0, 10.0, 15.0, 20.5, 25.0):
        decision = decide(on_in_flight(90_000, desired, t_s), replace(ON_IN_FLIGHT, max_replicas=64), state)
        state, desired = decision.state, decision.desired
        history.append(desired)
    assert history == [5, 5, 5, 10, 10]
    assert "ScaleUpLimit" in decide(on_in_flight(9000, 3), ON_IN_FLIGHT, History()).reason


def test_scaling_down_waits_for_the_stabilisation_window() -> None:
    state, desired = History(), 4
    for sync in range(1, 23):
        decision = decide(on_in_flight(1000, desired, 15.0 * sync), ON_IN_FLIGHT, state)
        state, desired = decision.state, decision.desired
        assert desired == (4 if sync <= 20 else 1), "300 s after the first sync, which counts 4 as recommended"


def test_the_window_for_scaling_up_takes_the_lowest() -> None:
    calm = replace(ON_IN_FLIGHT, upscale_stabilization_s=30.0)
    first = decide(on_in_flight(3000, 1, 15.0), calm, History())
    assert first.desired == 1
    assert "recent recommendations hold it back" in first.reason
    second = decide(on_in_flight(4000, 1, 30.0), calm, first.state)
    third = decide(on_in_flight(4000, 1, 45.5), calm, second.state)
    assert (second.desired, third.desired) == (1, 4)


def test_bounds() -> None:
    assert decide(on_in_flight(0, 12), ON_IN_FLIGHT, History()).desired == 10
    assert decide(on_in_flight(0, 1), replace(ON_IN_FLIGHT, min_replicas=2), History()).desired == 2
