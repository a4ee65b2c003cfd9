"""Calibration recovers known values from simulated runs labelled live, and the profiles from the published runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlscale.runs import MlscaleError, Run, load_run
from mlscale.runs.schedule import ClosedLoop, ClosedStage
from mlscale_twin.calibration import calibrate
from mlscale_twin.durations import Measured, Number
from mlscale_twin.profile import with_changes
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import SimulateOptions, simulate

REFERENCE = Path(__file__).parents[3] / "data/reference/core"
SCHEDULE = ClosedLoop(
    duration_s=180.0,
    stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=50, clients=18)),
    think_mean_s=0.76,
)
TRUTH = {
    "work.app.mean_s.value": 0.055,
    "work.app.spread.value": 0.2,
    "work.app.photos": (0.8, 1.0, 1.2),
    "requests.outside_s.value": 0.004,
    "starts.alike.value": 0.0,
    "starts.crowding.value": 0.0,
}


# With exponential backoff a replica idles before each request, which can't be separated from work outside its clock.
CONSTANT = {"rayserve": {"backoff_multiplier": 1.0, "max_backoff_s": 0.025}}


def taken_for_live(folder: Path, environment: str, more: Sequence[tuple[str, Any]] = ()) -> list[Run]:
    steps = Measured(samples_s=(5.0, 6.0, 7.0, 8.0), source="a test", date="2026-11").model_dump()
    last = len(read_profile(environment).starts.steps) - 1
    changes = [*TRUTH.items(), (f"starts.steps.{last}.takes", steps), *more]
    runs = []
    for seed in range(6):
        out, scaling = folder / str(seed), CONSTANT.get(environment, {})
        run = simulate(
            environment,
            schedule=SCHEDULE,
            out=out,
            scaling=scaling,
            options=SimulateOptions(seed=seed, changes=changes),
        )
        runs.append(Run(run.path, run.info.model_copy(update={"mode": "live"})))
    return runs


@pytest.mark.parametrize("environment", ["torchserve", "k3s"])
def test_calibration_recovers_the_true_values(tmp_path: Path, environment: str) -> None:
    fitted = calibrate(taken_for_live(tmp_path, environment), read_profile(environment))
    work = fitted.work["app"]
    assert work.mean_s.value == pytest.approx(0.055, rel=0.05)
    assert work.photos == pytest.approx((0.8, 1.0, 1.2), abs=0.06)
    assert work.spread.value == pytest.approx(0.2, abs=0.1)
    assert fitted.requests.outside_s.value == pytest.approx(0.004, abs=0.001)
    takes = fitted.starts.steps[-1].takes
    assert isinstance(takes, Measured)
    assert float(np.mean(takes.samples_s)) == pytest.approx(6.5, abs=0.8)
    assert fitted.sha256 != read_profile(environment).sha256
    assert "6 live runs" in work.mean_s.source


def test_calibration_recovers_the_cost_of_polls(tmp_path: Path) -> None:
    """And a replica's work before its service clock starts, and after its answer is sent."""
    truth = {"ahead": 0.15, "afterwards": 0.1, "per_waiting": 0.02}
    changes = [
        (f"work.app.{name}", Number(value=value, source="a test", date="2026-11").model_dump())
        for name, value in truth.items()
    ]
    fitted = calibrate(taken_for_live(tmp_path, "rayserve", changes), read_profile("rayserve"))
    work = fitted.work["app"]
    assert work.mean_s.value == pytest.approx(0.055, rel=0.05)
    for name, value in truth.items():
        assert getattr(work, name).value == pytest.approx(value, abs=0.05 if value > 0.05 else 0.006), name
    assert work.spread.value == pytest.approx(0.2, abs=0.1)
    assert fitted.requests.outside_s.value == pytest.approx(0.004, abs=0.002)


def test_only_live_runs_of_the_environment_count(tmp_path: Path) -> None:
    run = simulate("torchserve", out=tmp_path / "run")
    with pytest.raises(MlscaleError, match="simulated"):
        calibrate([run], read_profile("torchserve"))
    live = Run(run.path, run.info.model_copy(update={"mode": "live"}))
    with pytest.raises(MlscaleError, match="of torchserve"):
        calibrate([live], read_profile("k3s"))
    with pytest.raises(MlscaleError, match="no valid run"):
        calibrate([], read_profile("k3s"))


@pytest.mark.parametrize("environment", ["torchserve", "rayserve", "k3s"])
def test_the_published_runs_reproduce_the_profiles(environment: str) -> None:
    """Every fitted number of the profile follows from data/reference."""
    runs = [load_run(folder) for folder in sorted(REFERENCE.glob(f"*/*-{environment}*/attempt-*"))]
    profile = read_profile(environment)
    again = calibrate(runs, with_changes(profile, [("work.app.mean_s.value", 9.9)]))
    assert again.model_copy(update={"validated": profile.validated}) == profile


@pytest.mark.parametrize("environment", ["torchserve", "rayserve"])
def test_calibration_recovers_the_time_that_a_model_waits(tmp_path: Path, environment: str) -> None:
    """A model that calls a database keeps its replica without using CPU."""
    wait = Number(value=0.15, source="a test", date="2026-11").model_dump()
    changes = [("work.app.mean_s.value", 0.01), ("work.app.waits", wait)]
    fitted = calibrate(taken_for_live(tmp_path, environment, changes), read_profile(environment))
    work = fitted.work["app"]
    assert work.waits_s == pytest.approx(0.15, rel=0.05)
    assert work.mean_s.value == pytest.approx(0.01, rel=0.25)
    assert set(work.photos) == {1.0}
