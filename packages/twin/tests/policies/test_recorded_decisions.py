"""Recomputes decisions of live autoscalers in the published runs from their recorded observations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlscale.runs import Run, load_run
from mlscale_twin.policies import hpa, ray_serve

REFERENCE = Path(__file__).parents[4] / "data/reference"


def decisions(pattern: str) -> Iterator[tuple[Run, float, dict[str, Any]]]:
    """(run, time, detail) of each recorded decision that includes its observation."""
    for folder in sorted(REFERENCE.glob(pattern)):
        run = load_run(folder)
        changes = run.events[run.events["kind"] == "scale_decision"].sort_values("t_s")
        for t_s, text in zip(changes["t_s"], changes["detail"], strict=True):
            yield run, float(t_s), json.loads(text)


def hpa_settings(run: Run) -> hpa.HpaSettings:
    scaling = run.info.scaling["app"]
    up_s, down_s = scaling["upscale_stabilisation_s"], scaling["downscale_stabilisation_s"]
    return hpa.HpaSettings(
        "external",
        round(1000 * scaling["target_in_flight"]),
        scaling["min_replicas"],
        scaling["max_replicas"],
        upscale_stabilization_s=float(up_s or 0),
        downscale_stabilization_s=300.0 if down_s is None else float(down_s),
    )


def our_decision(run: Run, t_s: float, detail: dict[str, Any], *, rounded_up: int = 0) -> hpa.Decision:
    """With the metric that the HPA showed, and no past. It shows the mean per replica, rounded up to a thousandth: the
    metric was that mean times the replicas, or up to a thousandth less for each replica but one."""
    replicas = int(detail["replicas"])
    reading = round(1000 * detail["value"] * replicas) - rounded_up
    observation = hpa.Observation(t_s, detail["from"], replicas, (), reading)
    return hpa.decide(observation, hpa_settings(run), hpa.History())


@pytest.mark.parametrize("pattern", ["core/*/*-k3s*/attempt-*", "rehearsal/*/*/*-eks/attempt-*"])
def test_recorded_hpa_scale_ups_equal_ours(pattern: str) -> None:
    """What it showed: the mean per replica, rounded to thousandths, of the replicas that it counted then."""
    grown = 0
    for run, t_s, detail in decisions(pattern):
        if detail["to"] <= detail["from"] or "value" not in detail or detail["from"] != detail["replicas"]:
            continue
        grown += 1
        assert our_decision(run, t_s, detail).desired == detail["to"], (run.info.run_id, t_s, detail)
    assert grown >= 8


@pytest.mark.parametrize("pattern", ["core/*/*-k3s*/attempt-*", "rehearsal/*/*/*-eks/attempt-*"])
def test_recorded_hpa_scale_downs_stay_above_our_proposals(pattern: str) -> None:
    """Its window keeps the highest of the last proposals; ours for now is one of them."""
    shrunk = 0
    for run, t_s, detail in decisions(pattern):
        if detail["to"] >= detail["from"] or "value" not in detail or detail["from"] != detail["replicas"]:
            continue
        shrunk += 1
        proposal = our_decision(run, t_s, detail, rounded_up=int(detail["replicas"]) - 1).proposal
        assert proposal is not None
        assert proposal.replicas <= detail["to"], (run.info.run_id, t_s, detail)
    assert shrunk >= 3


def test_recorded_ray_serve_scale_ups_equal_ours() -> None:
    """With its own numbers, held for the delay: the same replicas, and the same before bounds."""
    grown = 0
    for run, t_s, detail in decisions("core/*/*-rayserve*/attempt-*"):
        if t_s < 0 or detail["to"] <= detail["from"] or "total" not in detail:
            continue
        grown += 1
        scaling = run.info.scaling["app"]
        names = ray_serve.RayServeSettings.__dataclass_fields__
        settings = ray_serve.RayServeSettings(**{name: scaling[name] for name in names if name in scaling})
        state, decision = ray_serve.RayServeState(), None
        for before_s in (settings.upscale_delay_s + 0.1, settings.upscale_delay_s / 2, 0.0):
            observation = ray_serve.RayServeObservation(
                t_s - before_s, detail["total"], int(detail["current"]), int(detail["from"])
            )
            decision = ray_serve.decide(observation, settings, state)
            state = decision.state
        assert decision is not None
        assert decision.desired == detail["to"], (run.info.run_id, t_s, detail, decision)
        assert min(decision.wanted, settings.max_replicas) == detail["wanted"]
    assert grown >= 8
