"""How fast a run's host is, from what the run shows before its step: the CPU that answers cost under light load.

A single run's light load is noisy, and a shared host drifts. So a run's speed is shrunk towards that of its day, of its
host and of its profile (METHOD §8). The best linear unbiased prediction does all three at once.
Source: G. K. Robinson, That BLUP is a good thing, Statistical Science 6 (1991).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlscale.analysis.summary import host_name
from mlscale.runs import MlscaleError, Run
from mlscale_twin.costs import idle_cores, replicas_cpu_s, served_requests
from mlscale_twin.durations import Number, scale_duration
from mlscale_twin.profile import Profile, Speed

Floats = npt.NDArray[np.float64]
# Fewest runs of a day from which variances are estimated.
MIN_RUNS: Final = 6
# Between days and hosts, standard deviations of the logarithm. They matter only while few runs of a host are known.
ASSUMED: Final[Mapping[str, Number]] = {
    "day": Number(
        value=0.2, source="assumed: a shared host became a fifth faster within hours (docs/twin-history.md)",
        date="2026-11",
    ),
    "host": Number(
        value=0.4, source="assumed: another host needed 0.65 of the CPU (docs/twin-history.md)", date="2026-11"
    ),
}  # fmt: skip


def light_cpu_s(run: Run) -> float:
    """CPU of an answer before the step, of all ready replicas less what they use when idle, s; NaN without a step,
    answers or samples."""
    t0 = run.info.step_s or 0.0
    answers = int(served_requests(run)["done_s"].between(0.0, t0).sum())
    cpu_s = replicas_cpu_s(run, 0.0, t0) - idle_cores(run) * t0
    return cpu_s / answers if answers and cpu_s > 0 else float("nan")


def loaded_cpu_s(run: Run) -> float:
    """The same from the step on, idle use included, since it competes for the quota."""
    t0, end_s = run.info.step_s or 0.0, run.info.schedule.duration_s
    answers = int(served_requests(run)["done_s"].between(t0, end_s).sum())
    cpu_s = replicas_cpu_s(run, t0, end_s)
    return cpu_s / answers if answers and cpu_s > 0 else float("nan")


def fit_speed(runs: Sequence[Run], before: Speed | None, provenance: Mapping[str, Any]) -> Speed | None:
    """A profile's `Speed` from the runs that the profile is fitted to; None if none has a light load.

    The covariance of an answer's CPU before and after the step is the variance between runs: what persists. What
    remains of the variance before the step is noise. With fewer than `MIN_RUNS` runs of a day both are kept.
    """
    light, loaded = (np.log([cpu_s(run) for run in runs]) for cpu_s in (light_cpu_s, loaded_cpu_s))
    known = np.isfinite(light) & np.isfinite(loaded)
    if not known.any():
        return before
    parts = before.model_dump() if before is not None else {**ASSUMED, "run": ASSUMED["day"], "noise": ASSUMED["day"]}
    days = _groups(runs)[1][known]
    both = np.column_stack([light[known], loaded[known]])
    same_day = [both[days == day] for day in np.unique(days)]
    same_day = [group - group.mean(axis=0) for group in same_day if len(group) >= MIN_RUNS]
    if same_day:
        freedom = sum(len(group) - 1 for group in same_day)
        (variance, shared), _ = sum(group.T @ group for group in same_day) / freedom
        shared = float(np.clip(shared, 0.0, variance))
        fitted = {"run": np.sqrt(shared), "noise": np.sqrt(variance - shared)}
        parts |= {name: Number(value=round(float(value), 4), **provenance) for name, value in fitted.items()}
    parts["light_cpu_s"] = Number(value=round(float(np.exp(both[:, 0].mean())), 6), **provenance)
    return Speed(**parts)


def predict_logs(observed: Floats, hosts: npt.NDArray[Any], days: npt.NDArray[Any], speed: Speed) -> Floats:
    """Best linear unbiased prediction of each run's log speed, from the log speeds ``observed`` under light load (NaN:
    unknown), each run's host, and its day (of that host)."""
    between = [
        number.value**2 * (groups[:, None] == groups[None, :])
        for number, groups in ((speed.host, hosts), (speed.day, days), (speed.run, np.arange(len(observed))))
    ]
    covariance = np.sum(between, axis=0)
    known = np.isfinite(observed)
    of_known = covariance[np.ix_(known, known)] + speed.noise.value**2 * np.eye(int(known.sum()))
    predicted: Floats = covariance[:, known] @ np.linalg.solve(of_known, observed[known])
    return predicted


def speeds_of(runs: Sequence[Run], profile: Profile) -> dict[str, float]:
    """CPU of an answer relative to the profile's, by run_id; 1 if the profile has no `Speed`.

    Args:
        runs: of the profile's environment, judged ones and others. Of each only what precedes its step is used.
    """
    if profile.speed is None or not runs:
        return {run.info.run_id: 1.0 for run in runs}
    observed = np.log([light_cpu_s(run) / profile.speed.light_cpu_s.value for run in runs])
    logs = predict_logs(observed, *_groups(runs), profile.speed)
    return {run.info.run_id: float(np.exp(log)) for run, log in zip(runs, logs, strict=True)}


def _groups(runs: Sequence[Run]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The host, and the measuring day on that host (UTC), of each run."""
    hosts = [host_name(run.info.host) for run in runs]
    days = [f"{host} {run.info.wall_start:%Y-%m-%d}" for host, run in zip(hosts, runs, strict=True)]
    return np.array(hosts), np.array(days)


def at_speed(profile: Profile, factor: float) -> Profile:
    """The profile where answers take ``factor`` times the CPU. Starts take as much longer: they are CPU time too."""
    work = {
        name: work.model_copy(
            update={"mean_s": work.mean_s.model_copy(update={"value": work.mean_s.value * factor})}
        )
        for name, work in profile.work.items()
    }  # fmt: skip
    steps = tuple(
        step.model_copy(update={"takes": scale_duration(step.takes, factor)}) for step in profile.starts.steps
    )
    return profile.model_copy(update={"work": work, "starts": profile.starts.model_copy(update={"steps": steps})})


def at_own_speed(runs: Sequence[Run], profile_of: Callable[[Run], Profile]) -> Callable[[Run], Profile]:
    """Maps each of the runs to its profile, at the speed that all of them together show for it.

    Args:
        profile_of: the profile before, the same for all runs of an environment.
    Raises:
        MlscaleError: when asked for another run.
    """
    speeds: dict[str, float] = {}
    for environment in {run.info.environment for run in runs}:
        own = [run for run in runs if run.info.environment == environment]
        speeds |= speeds_of(own, profile_of(own[0]))

    def profile_at_speed(run: Run) -> Profile:
        if run.info.run_id not in speeds:
            raise MlscaleError("its light load was not given", run.info.run_id, "name it among the runs")
        return at_speed(profile_of(run), speeds[run.info.run_id])

    return profile_at_speed
