"""How fast a run's host is, from what the run shows before its step: the CPU of its answers under light load, and how
long its first replica took to start.

A single run's light load is noisy, and a shared host drifts. So a run's speed is shrunk towards that of its day, of its
host and of its profile (METHOD §8). The best linear unbiased prediction does all three at once.
Source: G. K. Robinson, That BLUP is a good thing, Statistical Science 6 (1991).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mlscale.analysis.provisioning import lives
from mlscale.runs import EventKind, MlscaleError, Run
from mlscale.runs.info import host_name
from mlscale_twin.answer_work import idle_cores, replicas_cpu_s, served_requests
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


class Factors(NamedTuple):
    """Factors on a profile's durations on a run's host: of the CPU of ``answers``, and of ``starts``."""

    answers: float
    starts: float


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


def start_event(run: Run) -> EventKind:
    """The event at which a replica starts: its placement, if there are machines."""
    return "replica_scheduled" if "machine_requested" in set(run.events["kind"]) else "replica_created"


def first_start_s(run: Run) -> float:
    """Start of the replicas that were ready before the load began, mean, s; NaN without any."""
    return float(lives(run, -np.inf, 0.0, start_event(run), "replica_ready", by_s=0.0)["took_s"].mean())


def fit_speed(runs: Sequence[Run], before: Speed | None, provenance: Mapping[str, Any]) -> Speed | None:
    """A profile's `Speed` from the runs that the profile is fitted to; None if none has a light load.

    The covariance of an answer's CPU before and after the step is the variance between runs: what persists. What
    remains of the variance before the step is noise. With fewer than `MIN_RUNS` runs of a day both are kept, as is the
    noise of first starts, which is what differs between them and the light loads of their runs.
    """
    light, loaded, first = (np.log([of(run) for run in runs]) for of in (light_cpu_s, loaded_cpu_s, first_start_s))
    known = np.isfinite(light) & np.isfinite(loaded)
    if not known.any():
        return before
    parts = before.model_dump() if before is not None else {**ASSUMED, "run": ASSUMED["day"], "noise": ASSUMED["day"]}
    days = _groups(runs)[1]
    within = _within_days(np.column_stack([light[known], loaded[known]]), days[known])
    if within is not None:
        (variance, shared), _ = within
        shared = float(np.clip(shared, 0.0, variance))
        parts |= {"run": _number(np.sqrt(shared), provenance), "noise": _number(np.sqrt(variance - shared), provenance)}
    parts["light_cpu_s"] = _number(np.exp(light[known].mean()), provenance, digits=6)
    started = known & np.isfinite(first)
    if started.any():
        within = _within_days((first - light)[started, None], days[started])
        noise = parts.get("start_noise") or ASSUMED["day"]
        parts["start_noise"] = noise if within is None else _number(np.sqrt(within[0, 0]), provenance)
        parts["first_start_s"] = _number(np.exp(first[started].mean()), provenance)
    return Speed(**parts)


def _within_days(values: Floats, days: npt.NDArray[Any]) -> Floats | None:
    """Covariance of the columns within days that have `MIN_RUNS` rows, pooled; None without such a day."""
    same_day = [values[days == day] for day in np.unique(days)]
    same_day = [group - group.mean(axis=0) for group in same_day if len(group) >= MIN_RUNS]
    if not same_day:
        return None
    freedom = sum(len(group) - 1 for group in same_day)
    covariance: Floats = sum((group.T @ group for group in same_day), np.zeros((1, 1))) / freedom
    return covariance


def _number(value: float, provenance: Mapping[str, Any], digits: int = 4) -> Number:
    return Number(value=round(float(value), digits), **provenance)


def predict_logs(observed: Floats, hosts: npt.NDArray[Any], days: npt.NDArray[Any], speed: Speed) -> Floats:
    """Best linear unbiased prediction of each run's log speed, from the log speeds ``observed`` under light load (NaN:
    unknown), each run's host, and its day (of that host)."""
    return _predicted(
        observed, [(speed.host, hosts), (speed.day, days), (speed.run, np.arange(len(observed)))], speed.noise
    )


def _predicted(observed: Floats, levels: Sequence[tuple[Number, npt.NDArray[Any]]], noise: Number) -> Floats:
    """Best linear unbiased prediction from values with a known standard deviation between the groups of each level."""
    covariance = np.sum([sd.value**2 * (groups[:, None] == groups[None, :]) for sd, groups in levels], axis=0)
    known = np.isfinite(observed)
    of_known = covariance[np.ix_(known, known)] + noise.value**2 * np.eye(int(known.sum()))
    predicted: Floats = covariance[:, known] @ np.linalg.solve(of_known, observed[known])
    return predicted


def speeds_of(runs: Sequence[Run], profile: Profile) -> dict[str, Factors]:
    """What answers and starts take relative to the profile, by run_id; 1 if the profile has no `Speed`.

    Starts follow the light load within a host, whose drift it shows best. Between hosts they do not: another CPU
    changes the application's instructions and an interpreter's imports by different factors. So first starts say how
    far a host's starts are from its answers.

    Args:
        runs: of the profile's environment, judged ones and others. Of each only what precedes its step is used.
    """
    speed = profile.speed
    if speed is None or not runs:
        return {run.info.run_id: Factors(1.0, 1.0) for run in runs}
    hosts, days = _groups(runs)
    answers = predict_logs(np.log([light_cpu_s(run) / speed.light_cpu_s.value for run in runs]), hosts, days, speed)
    starts = answers
    if speed.first_start_s is not None and speed.start_noise is not None:
        beyond = np.log([first_start_s(run) / speed.first_start_s.value for run in runs]) - answers
        starts = answers + _predicted(beyond, [(speed.host, hosts)], speed.start_noise)
    factors = map(Factors, np.exp(answers).tolist(), np.exp(starts).tolist())
    return {run.info.run_id: factor for run, factor in zip(runs, factors, strict=True)}


def _groups(runs: Sequence[Run]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The host, and the measuring day on that host (UTC), of each run."""
    hosts = [host_name(run.info.host) for run in runs]
    days = [f"{host} {run.info.wall_start:%Y-%m-%d}" for host, run in zip(hosts, runs, strict=True)]
    return np.array(hosts), np.array(days)


def at_speed(profile: Profile, factors: Factors) -> Profile:
    """The profile where answers take ``factors.answers`` times the CPU, and starts ``factors.starts`` times as long."""
    work = {
        name: work.model_copy(
            update={"mean_s": work.mean_s.model_copy(update={"value": work.mean_s.value * factors.answers})}
        )
        for name, work in profile.work.items()
    }  # fmt: skip
    steps = tuple(
        step.model_copy(update={"takes": scale_duration(step.takes, factors.starts)}) for step in profile.starts.steps
    )
    return profile.model_copy(update={"work": work, "starts": profile.starts.model_copy(update={"steps": steps})})


def at_own_speed(runs: Sequence[Run], profile_of: Callable[[Run], Profile]) -> Callable[[Run], Profile]:
    """Maps each of the runs to its profile, at the speed that all of them together show for it.

    Args:
        profile_of: the profile before, the same for all runs of an environment.
    Raises:
        MlscaleError: when asked for another run.
    """
    speeds: dict[str, Factors] = {}
    for environment in {run.info.environment for run in runs}:
        own = [run for run in runs if run.info.environment == environment]
        speeds |= speeds_of(own, profile_of(own[0]))

    def profile_at_speed(run: Run) -> Profile:
        if run.info.run_id not in speeds:
            raise MlscaleError("its light load was not given", run.info.run_id, "name it among the runs")
        return at_speed(profile_of(run), speeds[run.info.run_id])

    return profile_at_speed
