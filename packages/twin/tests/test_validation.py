"""The validation on simulated runs labelled live: it accepts the right twin and rejects wrong ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlscale.analysis.provisioning import grew_before
from mlscale.runs import SCHEMAS, Run
from mlscale.runs.schedule import ClosedLoop, ClosedStage
from mlscale_twin.likeness import MARGINS, likeness, likeness_figures, rejected_share
from mlscale_twin.negative_controls import CONTROLS
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import SimulateOptions, simulate
from mlscale_twin.studies.validation import compare_with_live, live_rows, not_claimed, setup_of, twin_rows

LEVEL_S = 0.55
SEVEN = [figure for figure in MARGINS if figure not in ("light_response_s", "service_s")]
STEP = ClosedLoop(
    duration_s=160.0, stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=50, clients=14)), think_mean_s=0.76
)


@pytest.fixture(scope="module")
def taken_for_live() -> list[Run]:
    """Runs labelled live, whose draws no twin below repeats."""
    runs = [
        simulate("torchserve", schedule=STEP, options=SimulateOptions(seed=seed, draw=1000 + seed)) for seed in range(8)
    ]
    labels = {"mode": "live", "cell": "holdout/closed"}
    return [
        Run.in_memory(run.info.model_copy(update=labels), {name: getattr(run, name) for name in SCHEMAS})
        for run in runs
    ]


def test_the_twin_of_itself_is_equivalent(taken_for_live: list[Run]) -> None:
    comparison = compare_with_live(taken_for_live, LEVEL_S, 4)
    table = likeness(comparison.live, comparison.twin).set_index("figure")
    assert not (table["verdict"] == "different").any()
    assert table.loc["detection_s", "verdict"] == "equivalent"
    assert rejected_share(comparison.live, comparison.twin, SEVEN) < 0.2
    assert rejected_share(comparison.live, comparison.twin) < 0.35, "with two more, any of which may be off by chance"
    assert {setup_of(run) for run in taken_for_live} == {"torchserve/closed"}
    errors = comparison.trajectories().set_index("setup").loc["torchserve/closed"]
    assert errors["twin"] < 1.5 * errors["live runs among themselves"]
    rivals = comparison.rivals([]).iloc[0]
    assert list(rivals.index) == ["environment", "twin", "M/M/c", "previous live run"]
    assert rivals["twin"] < rivals["M/M/c"], "which knows the replicas, but no quota's periods"


def test_a_figure_is_claimed_if_equivalent_and_its_controls_are_noticed() -> None:
    figures = ["mean_response_s", "overlooked_share", "detection_s", "t_slo_s"]
    words = ["equivalent", "equivalent", "equivalent", "inconclusive"]
    verdicts = pd.DataFrame({"environment": "k3s", "figure": figures, "verdict": words})
    shares = {control.name: 1.0 for control in CONTROLS} | {"wrong routing": 0.79, "as it is": 0.1}
    controls = pd.DataFrame({"environment": "k3s", "twin": list(shares), "rejected": list(shares.values())})
    assert not_claimed(verdicts, controls) == ["", "wrong routing not noticed", "", "inconclusive"]
    elsewhere = controls.assign(environment="eks")
    assert not_claimed(verdicts, elsewhere) == ["", "", "", "inconclusive"], "each environment has its own"
    assert {figure for control in CONTROLS for figure in control.figures} == set(MARGINS), "each has a control"


def test_wrong_twins_are_found_different(taken_for_live: list[Run]) -> None:
    wrong = {control.name: control for control in CONTROLS}
    slow = twin_rows(taken_for_live, LEVEL_S, 3, wrong["start-up x 1.5"])
    assert rejected_share(live_rows(taken_for_live, LEVEL_S), slow) >= 0.8


def test_growth_before_the_step_counts_as_zero(taken_for_live: list[Run]) -> None:
    eager = {control.name: control for control in CONTROLS}["no metric lag"]
    scaling = taken_for_live[0].info.scaling["app"] | {"max_replicas": 2}
    profile, scaling = eager.alter(read_profile("torchserve"), scaling)
    run = simulate("torchserve", schedule=STEP, scaling=scaling, profile=profile)
    assert grew_before(run, 50.0)
    figures = likeness_figures(run, LEVEL_S)
    assert [figures[name] for name in ("detection_s", "ready_first_s", "ready_last_s")] == [0.0, 0.0, 0.0]


def test_a_missing_part_counts_as_the_horizon() -> None:
    run = simulate("torchserve", schedule=STEP, scaling={"max_replicas": 1})
    figures = likeness_figures(run, LEVEL_S)
    assert [figures[name] for name in ("detection_s", "ready_first_s", "ready_last_s")] == [110.0] * 3


def test_two_runs_are_too_few_to_reject() -> None:
    """Half of the sign flips of two equal differences leave them equal."""
    rows = [{"environment": "k3s", "setup": "k3s/closed", "run_id": str(number)} for number in range(8)]
    live = pd.DataFrame(rows).assign(mean_response_s=np.linspace(1.0, 1.1, 8), detection_s=[1.0, 1.0, *[np.nan] * 6])
    twin = live.assign(mean_response_s=5.0, detection_s=[30.0, 30.0, *[np.nan] * 6])
    assert rejected_share(live, twin, ("mean_response_s", "detection_s")) == 1.0


def test_every_control_changes_something(taken_for_live: list[Run]) -> None:
    asis = twin_rows(taken_for_live[:1], LEVEL_S, 2)
    for control in CONTROLS:
        rows = twin_rows(taken_for_live[:1], LEVEL_S, 2, control)
        figures = ["mean_response_s", "sd_response_s"]
        assert not np.allclose(rows[figures], asis[figures]), control.name
