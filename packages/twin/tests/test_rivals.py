"""The twin's rivals: each is right where its own assumptions hold."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from mlscale.analysis.queues import closed_response_s, open_response_s
from mlscale.runs import SCHEMAS, ClosedLoop, MlscaleError, OpenLoop, Run, Staircase
from mlscale.runs.schedule import ClosedStage, Ramp, Step
from mlscale_twin.likeness import likeness_figures
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import SimulateOptions, simulate
from mlscale_twin.studies.rivals import Regression, loads, markov_response_s, previous_response_s, ready_replicas

PROFILE = read_profile("torchserve")
SERVICE_S = PROFILE.work["app"].mean_s.value / 0.3
OUTSIDE_S = PROFILE.requests.outside_s.value
FIXED = {"min_replicas": 2, "max_replicas": 2, "cpu_cores": 0.3}


def closed(clients: int, duration_s: float = 160.0) -> ClosedLoop:
    stages = (ClosedStage(start_s=0, clients=2), ClosedStage(start_s=50, clients=clients))
    return ClosedLoop(duration_s=duration_s, stages=stages, think_mean_s=0.8)


def stepped(rate_rps: float, duration_s: float) -> OpenLoop:
    return OpenLoop(
        duration_s=duration_s, rate=Staircase(steps=(Step(start_s=0, rate_rps=2), Step(start_s=50, rate_rps=rate_rps)))
    )


def test_the_markov_chain_ends_in_the_known_steady_states() -> None:
    run = simulate("torchserve", schedule=closed(12, 2000.0), scaling=FIXED)
    assert markov_response_s(run, PROFILE) - OUTSIDE_S == pytest.approx(
        closed_response_s(12, 2, SERVICE_S, 0.8), rel=0.01
    )
    run = simulate("torchserve", schedule=stepped(8.0, 3000.0), scaling=FIXED)
    assert markov_response_s(run, PROFILE) - OUTSIDE_S == pytest.approx(open_response_s(2, 8.0, SERVICE_S), rel=0.02)


def test_the_markov_chain_knows_when_replicas_came() -> None:
    """More than the steady state of all replicas, which knows no step, and no straw man: close to the live mean."""
    run = simulate("torchserve", schedule=closed(14), scaling={"max_replicas": 3, "cpu_cores": 0.3})
    predicted_s, live_s = markov_response_s(run, PROFILE), likeness_figures(run, 0.5)["mean_response_s"]
    assert predicted_s > 1.1 * closed_response_s(14, 3, SERVICE_S, 0.8)
    assert predicted_s == pytest.approx(live_s, rel=0.4)


def test_loads_and_replicas_of_each_moment() -> None:
    run = simulate("torchserve", schedule=closed(14), scaling={"max_replicas": 3, "cpu_cores": 0.3})
    at_s = np.array([10.0, 49.0, 51.0, 150.0])
    assert list(loads(run, at_s)) == [2, 2, 14, 14]
    ready = ready_replicas(run, at_s)
    assert (ready[0], ready[-1]) == (1, 3)
    ramp = OpenLoop(duration_s=60.0, rate=Ramp(from_rps=1.0, to_rps=2.0))
    with pytest.raises(MlscaleError, match="piecewise constant"):
        loads(simulate("torchserve", schedule=ramp), at_s)


def test_the_regression_predicts_runs_like_those_it_was_fitted_to() -> None:
    def runs(first: int) -> list[Run]:
        scaling = {"max_replicas": 3, "cpu_cores": 0.3}
        return [
            simulate("torchserve", schedule=closed(12), scaling=scaling, options=SimulateOptions(draw=draw))
            for draw in range(first, first + 4)
        ]

    regression = Regression(runs(0), PROFILE)
    for run in runs(100):
        assert regression.predict_s(run) == pytest.approx(likeness_figures(run, 0.5)["mean_response_s"], rel=0.4)


def test_the_previous_run_is_the_nearest_setup_before() -> None:
    def run(cell: str, clients: int, hours: int) -> Run:
        made = simulate("torchserve", schedule=closed(clients))
        start = made.info.wall_start.replace(microsecond=0) + timedelta(hours=hours)
        info = made.info.model_copy(update={"cell": cell, "wall_start": start, "run_id": f"{cell} {hours}"})
        return Run.in_memory(info, {name: getattr(made, name) for name in SCHEMAS})

    first, other, core = run("holdout/step-x1", 12, 0), run("holdout/step-x0.8", 9, 1), run("core", 14, -1)
    judged, later = run("holdout/step-x1", 12, 2), run("holdout/step-x1", 12, 3)
    live = [first, other, core, judged, later]
    assert previous_response_s(judged, live) == likeness_figures(first, 1.0)["mean_response_s"]
    assert previous_response_s(judged, [other, core]) == likeness_figures(other, 1.0)["mean_response_s"]
    assert previous_response_s(judged, [core, later]) == likeness_figures(core, 1.0)["mean_response_s"]
    assert np.isnan(previous_response_s(core, live))
