"""A run's host speed from its light load and its first start: shrinking beats either extreme."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlscale.runs import SCHEMAS, MlscaleError, Run, load_run
from mlscale_twin.calibration import calibrate
from mlscale_twin.durations import Measured, Number
from mlscale_twin.host_speed import (
    MIN_RUNS,
    Factors,
    at_own_speed,
    at_speed,
    first_start_s,
    fit_speed,
    light_cpu_s,
    loaded_cpu_s,
    predict_logs,
    speeds_of,
)
from mlscale_twin.profile import Profile, Speed
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import SimulateOptions, simulate

CORE = Path(__file__).parents[3] / "data/reference/core"
SOURCE = {"source": "a test", "date": "2026-11"}
SPREADS = {"host": 0.3, "day": 0.15, "run": 0.07, "noise": 0.07, "start_noise": 0.1}
SPEED = Speed(light_cpu_s=Number(value=0.05, **SOURCE), **{k: Number(value=v, **SOURCE) for k, v in SPREADS.items()})


def test_shrinking_beats_no_pooling_and_complete_pooling() -> None:
    """3 hosts x 3 days x 4 runs, 200 times: truth is known, light loads are noisy."""
    rng = np.random.default_rng(1)
    hosts, days = np.repeat(np.arange(3), 12), np.repeat(np.arange(9), 4)
    squares = {"shrunk": 0.0, "own": 0.0, "host's mean": 0.0, "one for all": 0.0}
    for _ in range(200):
        of_host, of_day = rng.normal(0, SPREADS["host"], 3), rng.normal(0, SPREADS["day"], 9)
        truth = of_host[hosts] + of_day[days] + rng.normal(0, SPREADS["run"], 36)
        observed = truth + rng.normal(0, SPREADS["noise"], 36)
        means = np.array([observed[hosts == host].mean() for host in range(3)])[hosts]
        guesses = [predict_logs(observed, hosts, days, SPEED), observed, means, observed.mean()]
        for name, guess in zip(squares, guesses, strict=True):
            squares[name] += float(((guess - truth) ** 2).mean())
    assert squares["shrunk"] == min(squares.values())
    assert squares["shrunk"] < 0.75 * squares["own"] < squares["host's mean"] < squares["one for all"]


def test_what_was_not_observed_is_predicted_from_the_same_day() -> None:
    observed = np.array([0.3, 0.3, 0.3, np.nan, np.nan])
    hosts, days = np.array(["a", "a", "a", "a", "b"]), np.array(["a1", "a1", "a1", "a1", "b1"])
    predicted = predict_logs(observed, hosts, days, SPEED)
    assert 0.25 < predicted[3] < predicted[0] < 0.3, "towards 0, its profile"
    assert predicted[4] == 0.0, "nothing is known of that host"


def as_live(run: Run, **info: object) -> Run:
    changed = run.info.model_copy(update={"mode": "live", **info})
    return Run.in_memory(changed, {name: getattr(run, name) for name in SCHEMAS})


def at_known_speeds(profile: Profile, factors: np.ndarray) -> list[Run]:
    """Runs of the twin at known speeds, taken for live ones."""
    slowed = [at_speed(profile, Factors(factor, factor)) for factor in factors]
    runs = [simulate("torchserve", profile=of, options=SimulateOptions(draw=n)) for n, of in enumerate(slowed)]
    return [as_live(run, run_id=str(number)) for number, run in enumerate(runs)]


def test_known_speeds_are_recovered_from_simulated_runs() -> None:
    profile = read_profile("torchserve")
    truth = np.exp(np.random.default_rng(2).normal(0.2, 0.1, 10))
    runs = at_known_speeds(profile, truth)
    usual = at_known_speeds(profile, np.ones(6))
    light_s = float(np.exp(np.mean([np.log(light_cpu_s(run)) for run in usual])))
    speed = fit_speed(runs, profile.speed, SOURCE)
    assert speed is not None
    speed = speed.model_copy(update={"light_cpu_s": Number(value=light_s, **SOURCE)})
    found = speeds_of(runs, profile.model_copy(update={"speed": speed}))
    errors = np.log([found[run.info.run_id].answers for run in runs]) - np.log(truth)
    assert float(np.sqrt((errors**2).mean())) < 0.07 < float(np.log(truth).std())
    assert speed.run.value == pytest.approx(0.1, abs=0.06)


def with_first_start(run: Run, took_s: float) -> Run:
    rows = run.events.iloc[:2].assign(kind=["replica_created", "replica_ready"], subject="first", t_s=[-5 - took_s, -5])
    events = pd.concat([rows, run.events[run.events["t_s"] > 0]], ignore_index=True)
    return Run.in_memory(run.info, {name: getattr(run, name) for name in SCHEMAS} | {"events": events})


def test_a_host_of_cheap_starts_is_known_by_its_first_starts() -> None:
    """Its answers cost what they do elsewhere, its starts take half as long; single first starts are noisy."""
    profile = read_profile("torchserve")
    assert profile.speed is not None
    assert profile.speed.first_start_s is not None
    (run, *others) = (load_run(folder) for folder in sorted(CORE.glob("block-0[1-4]/*-torchserve*/attempt-0")))
    usual_s = profile.speed.first_start_s.value
    assert first_start_s(with_first_start(run, 7.0)) == pytest.approx(7.0)
    noise = np.random.default_rng(1).normal(0, 0.1, 1 + len(others))
    runs = [with_first_start(each, usual_s * np.exp(off) / 2) for each, off in zip([run, *others], noise, strict=True)]
    found, before = speeds_of(runs, profile), speeds_of([run, *others], profile)
    for run_id, factors in found.items():
        assert factors.answers == pytest.approx(before[run_id].answers)
        assert 0.4 < factors.starts < 0.6 < before[run_id].starts


def test_without_a_first_start_starts_follow_answers() -> None:
    profile = read_profile("torchserve")
    run = load_run(next(CORE.glob("block-01/*-torchserve/attempt-0")))
    later = {"events": run.events[run.events["t_s"] > 0]}
    unseen = Run.in_memory(run.info, {name: getattr(run, name) for name in SCHEMAS} | later)
    assert np.isnan(first_start_s(unseen))
    factors = speeds_of([unseen], profile)[run.info.run_id]
    assert factors.answers == factors.starts != 1.0


def test_only_what_precedes_the_step_is_used() -> None:
    profile = read_profile("torchserve")
    run = load_run(next(CORE.glob("block-01/*-torchserve/attempt-0")))
    early = {name: getattr(run, name)[getattr(run, name)["t_s"] <= run.info.step_s] for name in ("resources", "events")}
    requests = run.requests[run.requests["done_s"] <= run.info.step_s]
    tables = {name: getattr(run, name) for name in SCHEMAS} | early | {"requests": requests}
    assert speeds_of([Run.in_memory(run.info, tables)], profile) == speeds_of([run], profile)


def test_too_few_runs_keep_the_spreads() -> None:
    runs = [load_run(folder) for folder in sorted(CORE.glob("block-0[13]/*-torchserve*/attempt-0"))]
    assert len(runs) < MIN_RUNS
    speed = fit_speed(runs, SPEED, SOURCE)
    assert speed is not None
    means = {"light_cpu_s", "first_start_s"}
    assert speed.model_dump(exclude=means) == SPEED.model_dump(exclude=means)
    assert speed.light_cpu_s.value == pytest.approx(
        np.exp(np.mean([np.log(light_cpu_s(run)) for run in runs])), rel=1e-4
    )
    assert fit_speed([], None, SOURCE) is None


def test_a_day_is_a_utc_day_of_one_host() -> None:
    """Two runs of one day pull each other; a day later they pull less; a run of another host is not pulled at all."""
    profile = read_profile("torchserve").model_copy(update={"speed": SPEED})
    run = load_run(next(CORE.glob("block-01/*-torchserve/attempt-0")))
    slow = Run.in_memory(
        run.info.model_copy(update={"run_id": "slow"}),
        {name: getattr(run, name) for name in SCHEMAS}
        | {"resources": run.resources.assign(cpu_cores=2 * run.resources["cpu_cores"])},
    )
    later = as_live(slow, wall_start=slow.info.wall_start + timedelta(days=1))
    elsewhere = as_live(slow, host={**slow.info.host, "cpu_model": "another"})
    own = run.info.run_id
    alone = speeds_of([run], profile)[own].answers
    pulled = [speeds_of([run, other], profile)[own].answers for other in (slow, later, elsewhere)]
    assert pulled[0] > pulled[1] > alone
    assert pulled[2] == pytest.approx(alone)


def test_work_and_starts_change_and_nothing_else() -> None:
    profile = read_profile("k3s")
    other = at_speed(profile, Factors(answers=2.0, starts=0.5))
    assert other.work["app"].mean_s.value == 2 * profile.work["app"].mean_s.value
    for before, after in zip(profile.starts.steps, other.starts.steps, strict=True):
        assert isinstance(before.takes, Measured)
        assert after.takes.mean_s == pytest.approx(before.takes.mean_s / 2)
    assert other.starts.noticed == profile.starts.noticed
    assert other.loop == profile.loop
    assert at_speed(profile, Factors(1.0, 1.0)).sha256 == profile.sha256


def test_a_run_whose_light_load_was_not_given_is_refused() -> None:
    run = load_run(next(CORE.glob("block-01/*-torchserve/attempt-0")))
    profile_of = at_own_speed([run], lambda run: read_profile("torchserve"))
    assert profile_of(run).work["app"].mean_s.value > 0
    with pytest.raises(MlscaleError, match="light load was not given"):
        profile_of(as_live(run, run_id="another"))


def test_a_short_calibration_keeps_what_it_cannot_show() -> None:
    """One run shows its means, but no distribution of starts and no variance between runs."""
    profile = read_profile("torchserve")
    run = load_run(next(CORE.glob("block-01/*-torchserve/attempt-0")))
    fitted = calibrate([run], profile)
    assert fitted.starts.alike == profile.starts.alike
    assert fitted.speed is not None
    assert profile.speed is not None
    assert fitted.speed.run == profile.speed.run
    before, after = profile.starts.steps[-1].takes, fitted.starts.steps[-1].takes
    assert isinstance(before, Measured)
    assert isinstance(after, Measured)
    assert len(after.samples_s) == len(before.samples_s)
    assert after.mean_s != before.mean_s


@pytest.mark.parametrize("environment", ["torchserve", "k3s", "rayserve"])
def test_a_light_load_predicts_what_answers_cost_after_the_step(environment: str) -> None:
    """In the published runs, a quarter of the blocks at a time predicted from the others: better than one speed for
    all."""
    folders = sorted(CORE.glob(f"*/*-{environment}*/attempt-*"))
    runs = [run for run in map(load_run, folders) if run.info.valid]
    profile = read_profile(environment)
    errors: dict[str, list[float]] = {"one speed": [], "own": [], "shrunk": []}
    for part in range(4):
        judged = [run for run in runs if (run.info.block or 0) % 4 == part]
        others = [run for run in runs if run not in judged]
        speed = fit_speed(others, profile.speed, SOURCE)
        assert speed is not None
        usual = np.mean([np.log(loaded_cpu_s(run)) for run in others])
        shrunk = speeds_of([*others, *judged], profile.model_copy(update={"speed": speed}))
        for run in judged:
            off = np.log(loaded_cpu_s(run)) - usual
            errors["one speed"].append(off)
            errors["own"].append(off - np.log(light_cpu_s(run) / speed.light_cpu_s.value))
            errors["shrunk"].append(off - np.log(shrunk[run.info.run_id].answers))
    squares = {name: float(np.mean(np.square(offs))) for name, offs in errors.items()}
    assert squares["shrunk"] < squares["one speed"]
