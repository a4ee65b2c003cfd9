"""Time waited while another replica was idle: worked examples, and the effect of routing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from mlscale.analysis.idle_while_queued import idle_while_queued_share
from mlscale.runs import SCHEMAS, Run
from mlscale.runs.schedule import ClosedLoop, ClosedStage
from mlscale_twin.negative_controls import CONTROLS
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import simulate
from synthetic_runs import info, requests_frame

Served = tuple[str, float, float, float]
"""Replica; sent, begun, done, s."""
STEP = ClosedLoop(
    duration_s=200.0, stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=50, clients=13)), think_mean_s=0.76
)


def run_of(served: Sequence[Served]) -> Run:
    replica, sent, begun, done = (np.array(column) for column in zip(*served, strict=True))
    frame = requests_frame(sent, done - sent, replica_id=replica, queue_s=begun - sent, inference_s=done - begun)
    empty = {name: frame.iloc[:0] for name in SCHEMAS if name != "requests"}
    return Run.in_memory(info(), {"requests": frame, **empty})


def test_waiting_counts_while_another_replica_is_idle() -> None:
    """The third request waits 2 s at a; b is idle for 1.5 s of them."""
    run = run_of([("a", 0, 0, 3), ("b", 0, 0, 1.5), ("a", 1, 3, 4), ("b", 3.5, 3.5, 4)])
    assert idle_while_queued_share(run, 0, 10) == pytest.approx(1.5 / 2)


def test_idle_replicas_that_overlap_are_counted_once() -> None:
    served = [("a", 0, 0, 4), ("b", 0, 0, 1), ("c", 0, 0, 2), ("a", 0, 4, 5), ("b", 3, 3, 5), ("c", 5, 5, 6)]
    assert idle_while_queued_share(run_of(served), 0, 10) == pytest.approx((4 - 1) / 4)


def test_waiting_while_all_replicas_work_does_not_count() -> None:
    served = [("a", 0, 0, 2), ("b", 0, 0, 2.01), ("a", 0, 2.01, 4), ("b", 0, 2.03, 4)]
    assert idle_while_queued_share(run_of(served), 0, 10) == 0, "pauses between two answers are no idleness"


def test_without_waiting_there_is_no_share() -> None:
    assert math.isnan(idle_while_queued_share(run_of([("a", 0, 0, 1), ("b", 2, 2, 3)]), 0, 10))
    assert math.isnan(idle_while_queued_share(run_of([("a", 0, 1, 2)]), 5, 10)), (
        "nobody was meant to be sent in between"
    )


def test_a_single_replica_has_a_share_of_zero() -> None:
    assert idle_while_queued_share(run_of([("a", 0, 0, 1), ("a", 0, 1, 2)]), 0, 10) == 0


@pytest.mark.parametrize("environment", ["torchserve", "k3s"])
def test_a_shared_queue_and_random_routing_differ(environment: str) -> None:
    wrong = next(control for control in CONTROLS if control.name == "wrong routing")
    profile = read_profile(environment)
    other, _ = wrong.alter(profile, {})
    shares = {
        variant.requests.routing: idle_while_queued_share(
            simulate(environment, schedule=STEP, profile=variant), 50, 200
        )
        for variant in (profile, other)
    }
    assert shares["shared-queue"] < 0.05 < 0.2 < shares["random"]
