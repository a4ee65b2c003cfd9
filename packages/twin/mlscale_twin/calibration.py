"""Fits a profile to live runs: the CPU of an answer, and the duration of each part of a start.

Only what runs show is fitted; the rest is kept. Every fitted number names the runs that it is from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.provisioning import lives, provisioning
from mlscale.runs import EventKind, MlscaleError, Run
from mlscale_twin.answer_work import before_step, fit_work, requests_after_idle, served_requests
from mlscale_twin.durations import Duration, Measured, Number, scale_duration
from mlscale_twin.host_speed import fit_speed, start_event
from mlscale_twin.loops import RECORD_INTERVAL_FACTOR
from mlscale_twin.profile import Machines, Profile, StartStep, Work

FloatArray = npt.NDArray[np.float64]
MIN_ALONE: Final = 3
# With fewer durations than these, a profile's distribution is only scaled to their mean.
MIN_DURATIONS: Final = 6
# A longer delay between creation and start means that the replica waited for another one.
LIMITED_S: Final = 1.0


def calibrate(runs: Sequence[Run], profile: Profile) -> Profile:
    """``profile`` with its fitted numbers replaced by those of the runs.

    Args:
        runs: live or rehearsed runs of the profile's environment, of the whole application; invalid ones are ignored.

    Raises:
        MlscaleError: no run remains, or one is simulated or of another environment.
    """
    for run in runs:
        if run.info.environment != profile.environment or run.info.mode == "simulated":
            what = f"{run.info.run_id} is {run.info.mode}, of {run.info.environment}"
            raise MlscaleError(what, "calibrate", f"name live runs of {profile.environment}")
    used = [run for run in runs if run.info.valid]
    if not used:
        raise MlscaleError("no valid run among them", "calibrate", "name valid runs")
    if any(len(run.info.components) > 1 for run in used):
        raise MlscaleError("partitioned runs can't be fitted yet", "calibrate", "name runs of the whole application")
    if len({run.info.app for run in used}) > 1:
        raise MlscaleError("the runs are of several applications", "calibrate", "name runs of one")
    component = used[0].info.components[0]
    provenance = _provenance(used)
    work = fit_work(used, profile, provenance)
    outside = Number(value=_outside_s(used, work), **provenance)
    crowding = _number(_crowding(used), profile.starts.crowding, provenance)
    changes: dict[str, Any] = {
        "what": _host_and_versions(used),
        "application": used[0].info.app,
        "fitted_to": tuple(sorted(run.info.run_id for run in used)),
        "validated": "not validated",
        "work": {**profile.work, component: work},
        "speed": fit_speed(used, profile.speed, provenance),
        "requests": profile.requests.model_copy(update={"outside_s": outside}),
        "starts": profile.starts.model_copy(
            update={
                "steps": tuple(_steps(used, profile, crowding.value if crowding is not None else 0.0, provenance)),
                "noticed": _fitted(
                    [_first_request_s(run, profile, outside.value) for run in used], profile.starts.noticed, provenance
                ),
                "leaves": _fitted(_removal_delays(used, outside.value), profile.starts.leaves, provenance),
                "alike": _number(_shared_variance(used), profile.starts.alike, provenance),
                "crowding": crowding,
            }
        ),
    }
    if profile.scales_by == "ray-serve":
        changes["loop"] = {**profile.loop, "report_delay_s": Number(value=_report_delay_s(used, profile), **provenance)}
    if profile.machines is not None:
        changes["machines"] = _machines(used, profile.machines, provenance)
    return profile.model_copy(update=changes)


def _provenance(runs: Sequence[Run]) -> dict[str, Any]:
    """Source of every fitted number."""
    first, last = min(run.info.wall_start for run in runs), max(run.info.wall_start for run in runs)
    source = f"{len(runs)} live runs, {first:%Y-%m-%d} to {last:%Y-%m-%d}: {runs[0].info.run_id} and others"
    return {"source": source, "date": f"{last:%Y-%m-%d}"}


def _host_and_versions(runs: Sequence[Run]) -> str:
    host = runs[0].info.host
    versions = ", ".join(f"{name} {version}" for name, version in sorted(runs[0].info.versions.items()))
    return f"{host.get('cpu_model', 'unknown CPU')}, {host.get('cores_online', '?')} cores; {versions}"


def _outside_s(runs: Sequence[Run], work: Work) -> float:
    """Mean part of a response outside queue and replica, before the step: after it, the replica's own work delays
    other requests by using up the quota, which would be counted twice. If a replica works on a request before its clock
    starts, only requests to idle replicas count."""
    outside_s = []
    for run in runs:
        if work.ahead is not None:
            before, waits_s = requests_after_idle(run), work.ahead_cpu_s
        else:
            served = served_requests(run)
            before = served[before_step(served)]
            waits_s = before["queue_s"]
        outside_s.append((before["done_s"] - before["intended_s"] - before["inference_s"] - waits_s).to_numpy())
    return round(max(0.0, float(np.mean(np.concatenate(outside_s)))), 5)


def _steps(runs: Sequence[Run], profile: Profile, crowding: float, provenance: dict[str, Any]) -> list[StartStep]:
    """Duration of each step in replicas that were created under load, from the event before it.

    A limited step ends without an event: its duration is the wait of replicas that had to wait for another one's end.
    Durations are converted to those of a replica that starts alone.
    """
    begin: EventKind = "replica_created" if profile.machines is None else "replica_scheduled"
    steps = []
    for number, step in enumerate(profile.starts.steps):
        last = number == len(profile.starts.steps) - 1
        if step.limited and step.begins_with is not None:
            waited = [_durations_s(run, begin, step.begins_with) for run in runs]
            takes = _fitted([waits_s[waits_s > LIMITED_S] for waits_s in waited], step.takes, provenance)
            begin, before_s = step.begins_with, takes.mean_s
        else:
            end: EventKind | None = "replica_ready" if last else step.ends_with
            if end is None:
                steps.append(step)
                continue
            off = (before_s if number else 0.0) + (_probe_s(runs[0], profile) / 2 if last else 0.0)
            took = [
                (_durations_s(run, begin, end) - off) / (1 + crowding * _concurrent_starts(run, begin, end))
                for run in runs
            ]
            takes = _fitted(took, step.takes, provenance)
            begin, before_s = end, 0.0
        steps.append(step.model_copy(update={"takes": takes}))
    return steps


def _concurrent_starts(run: Run, begin: EventKind, end: EventKind) -> FloatArray:
    """For each replica of `_durations_s`, the number of others that were starting when that part began, or started
    within `LIMITED_S`. A replica without room on a machine has not started yet."""
    at = lives(run, 0.0, run.info.schedule.duration_s, begin, end)["begun_s"].to_numpy(dtype=float)[:, None]
    starts = lives(run, 0.0, run.info.schedule.duration_s, start_event(run), "replica_ready")
    begun, ready = (starts[name].to_numpy(dtype=float)[None, :] for name in ("begun_s", "ended_s"))
    starting = (begun <= at + LIMITED_S) & (at < ready)
    return np.asarray(np.maximum(starting.sum(axis=1) - 1, 0), dtype=float)


def _crowding(runs: Sequence[Run]) -> float | None:
    """Relative slow-down of a start per concurrent start; None if too few start alone."""
    took = np.concatenate([_durations_s(run, start_event(run), "replica_ready") for run in runs])
    others = np.concatenate([_concurrent_starts(run, start_event(run), "replica_ready") for run in runs])
    alone, together = took[others == 0], others > 0
    if len(alone) < MIN_ALONE or not together.any():
        return None
    longer = float(took[together].mean() / alone.mean()) - 1
    return round(max(0.0, longer / float(others[together].mean())), 4)


def _report_delay_s(runs: Sequence[Run], profile: Profile) -> float:
    """Delay from the router's report until the controller acts on it, beyond half of each period."""
    delays_s = []
    for run in runs:
        settings = next(iter(run.info.scaling.values()))
        interval_s, look_back_s = settings["metrics_interval_s"], settings["look_back_period_s"]
        periods_s = (
            interval_s + min(look_back_s * RECORD_INTERVAL_FACTOR, interval_s) + profile.loop_value("control_period_s")
        )
        if run.info.step_s is not None:
            detection_s = provisioning(run, run.info.step_s, run.info.schedule.duration_s - run.info.step_s).detection_s
            delays_s.append(detection_s - settings["upscale_delay_s"] - periods_s / 2)
    known = [delay_s for delay_s in delays_s if np.isfinite(delay_s)]
    return round(max(0.0, float(np.mean(known))), 4) if known else 0.0


def _shared_variance(runs: Sequence[Run]) -> float | None:
    """Share of the variance of start times that lies between runs (one-way analysis of variance), for the first two
    replicas requested at a step; None with fewer than three such runs."""
    groups = []
    for run in runs:
        span = run.info.step_s or 0.0, run.info.schedule.duration_s
        requested_s = lives(run, *span, "replica_created", "replica_ready")["begun_s"]
        took_s = lives(run, *span, start_event(run), "replica_ready")["took_s"]
        together = (
            took_s.reindex(requested_s.index[requested_s <= requested_s.min() + LIMITED_S])
            .dropna()
            .to_numpy(dtype=float)
        )
        if len(together) >= 2:
            groups.append(together[:2])
    if len(groups) < 3:
        return None
    pairs = np.array(groups)
    within = float(pairs.var(axis=1, ddof=1).mean())
    between = max(0.0, float(pairs.mean(axis=1).var(ddof=1)) - within / 2)
    return round(between / (between + within), 3) if between + within else 0.0


def _durations_s(run: Run, begin: str, end: str) -> FloatArray:
    return np.asarray(lives(run, 0.0, run.info.schedule.duration_s, begin, end)["took_s"], dtype=float)


def _probe_s(run: Run, profile: Profile) -> float:
    probe = profile.starts.probe_period_s
    if isinstance(probe, str):
        return float(next(iter(run.info.scaling.values()))[probe])
    return probe.value if probe is not None else 0.0


def _first_request_s(run: Run, profile: Profile, outside_s: float) -> FloatArray:
    """From ready to the first request that a replica received."""
    served = served_requests(run)
    waits = 0.0 if profile.requests.routing == "shared-queue" else served["queue_s"]
    taken = served["done_s"] - outside_s - served["inference_s"] - waits
    first = taken.groupby(served["replica_id"]).min()
    ready = run.events[(run.events["kind"] == "replica_ready") & (run.events["t_s"] > 0)]
    return _delays_s(first, ready)


def _delays_s(times: pd.Series, events: pd.DataFrame) -> FloatArray:
    """Time of each event's subject less the event's time; subjects without one are omitted. Requests name a replica by
    its name, or by the id in its event's detail."""
    details = [json.loads(text or "{}") for text in events["detail"].fillna("{}")]
    delays_s = [
        float(times.get(subject, times.get(str(detail.get("replica_id", "")), np.nan))) - t_s
        for detail, subject, t_s in zip(details, events["subject"], events["t_s"], strict=True)
    ]
    return np.array([delay_s for delay_s in delays_s if np.isfinite(delay_s)])


def _removal_delays(runs: Sequence[Run], outside_s: float) -> list[FloatArray]:
    """From the decision to remove a replica until its last request was sent."""
    delays_s = []
    for run in runs:
        served = served_requests(run)
        last = (served["intended_s"] + outside_s / 2).groupby(served["replica_id"]).max()
        draining = run.events[(run.events["kind"] == "replica_draining") & (run.events["t_s"] > 0)]
        delays_s.append(_delays_s(last, draining))
    return delays_s


def _machines(runs: Sequence[Run], machines: Machines, provenance: dict[str, Any]) -> Machines:
    """A machine's boot overhead beyond the boot time in the settings. In a rehearsal, machines requested together boot
    one after another: the first gives the overhead, the others the time between boots."""
    overheads, apart = [], []
    for run in runs:
        boot = str(next(iter(run.info.scaling.values())).get("boot", ""))
        boots = lives(run, 0.0, run.info.schedule.duration_s, "machine_requested", "machine_booted")
        for _, together in boots.groupby((boots["begun_s"].sort_values().diff() > LIMITED_S).cumsum()):
            took = np.sort(together["took_s"].to_numpy(dtype=float))
            if run.info.mode == "rehearsal":
                apart.append(np.diff(took))
                took = took[:1]
            if boot.endswith("s") and boot[:-1].replace(".", "", 1).isdigit():
                overheads.append(took - float(boot[:-1]))
    waits_s = np.concatenate(apart) if apart else np.zeros(0)
    changes: dict[str, Any] = {
        "boot_overhead": _fitted(overheads, machines.boot_overhead, provenance),
        "registers": _fitted(
            [_durations_s(run, "machine_booted", "machine_registered") for run in runs], machines.registers, provenance
        ),
        "turns_ready": _fitted(
            [_durations_s(run, "machine_registered", "machine_ready") for run in runs], machines.turns_ready, provenance
        ),
    }
    if len(waits_s):
        changes["apart"] = Number(value=round(float(waits_s.mean()), 3), **provenance)
    return machines.model_copy(update=changes)


def _fitted(parts: Sequence[FloatArray], before: Duration, provenance: dict[str, Any]) -> Duration:
    """The distribution of the durations; a few only scale the one ``before``, and without any it is kept."""
    values = np.maximum(np.concatenate(parts), 0.0) if parts else np.zeros(0)
    if not len(values):
        return before
    if len(values) < MIN_DURATIONS and before.mean_s > 0:
        return scale_duration(before, round(float(values.mean()) / before.mean_s, 6)).model_copy(update=provenance)
    return Measured(samples_s=tuple(round(float(value), 3) for value in sorted(values)), **provenance)


def _number(value: float | None, before: Number | None, provenance: dict[str, Any]) -> Number | None:
    return before if value is None else Number(value=value, **provenance)
