"""The CPU work of an answer, from live runs: the part of `calibration` that fits a profile's `Work`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis.durations import answered
from mlscale.runs import ClosedLoop, MlscaleError, Run
from mlscale_twin.durations import Number
from mlscale_twin.likeness import MIN_WAIT_S
from mlscale_twin.profile import Profile, Work
from mlscale_twin.settings import Processor, Queueing
from mlscale_twin.single_trial import Trial, fit_afterwards, fit_ahead, fit_per_waiting, fit_spread

# Idle time before the first request, from which a replica's idle CPU is taken.
IDLE_S: Final = 10.0
# Time after the step until the number of waiting requests is stationary.
SETTLING_S: Final = 2.0
# Rounds of fitting parameters that depend on each other.
PASSES: Final = 3
# An answer waits if its replica is busy for longer than its CPU explains, by so much of that time and so long, s.
WAITS_SHARE, WAITS_S = 0.2, 0.005
# Think time with which each request finds an idle replica.
SPARSE_THINK_S: Final = 1.0
NOTES: Final = {
    "ahead": "with which a replica alone serves as long as the first one did after the step; rested ones wait as long",
    "afterwards": "with which a rested replica serves as long as it did before the step",
    "per_waiting": "with which answers cost as much more under load",
    "waits": "what rested replicas serve longer than their CPU takes under the quota",
    "spread": "what the quota's periods leave of the spread on one photo",
}


def fit_work(runs: Sequence[Run], profile: Profile, provenance: dict[str, Any]) -> Work:
    """CPU that replicas used while serving, per answer given; shares of photos by the service times of replicas that
    were never idle."""
    cpu_s = sum(replicas_cpu_s(run, 0.0, run.info.schedule.duration_s) for run in runs)
    mean_s = cpu_s / sum(len(served_requests(run)) for run in runs)
    busy = pd.concat([_busy(run) for run in runs], ignore_index=True)
    if not (busy["body_id"].value_counts() > 1).any():
        what = "no body was answered twice by a replica with requests waiting"
        raise MlscaleError(what, "calibrate", "name runs whose load keeps a replica busy")
    by_body = busy.groupby("body_id")["work_s"]
    shares = by_body.mean() / by_body.mean().mean()
    work = Work(
        mean_s=Number(value=round(mean_s, 6), **provenance),
        reference_cpu_s=_reference(runs, provenance),
        photos=tuple(round(float(share), 4) for share in shares.sort_index()),
        spread=Number(value=0.0, **provenance),
    )
    polling = profile.polling(next(iter(runs[0].info.scaling.values())))
    waits_s = _waits_s(runs, work)
    if waits_s is not None:  # the times no longer show which body takes how much CPU
        work = _replaced(work.model_copy(update={"photos": (1.0,) * len(shares)}), {"waits": waits_s}, provenance)
    if polling is not None:
        return _polled_work(runs, work, Queueing("polled-queue", polling=polling), provenance)
    if waits_s is not None:
        return work
    spread = fit_spread(_relative_sd(busy["work_s"], by_body), work, Trial(_processor(runs[0])))
    return _replaced(work, {"spread": round(spread, 3)}, provenance)


def _polled_work(runs: Sequence[Run], work: Work, queueing: Queueing, provenance: dict[str, Any]) -> Work:
    """The work of replicas that are polled, and that do part of it outside their service clock. First an answer's work
    without waiting requests; then, in turn, the work after the answer and before the clock starts, that of polls,
    and the spread. They are chosen so that a lone replica has the service times of live replicas after idling and, with
    the step's clients, of the first live replica until the next one was ready."""
    after_idle = pd.concat([requests_after_idle(run) for run in runs])
    loaded = pd.concat([_under_step_load(run) for run in runs])
    if after_idle.empty or loaded.empty:
        raise MlscaleError(
            "no replica was idle before the step and loaded after it", "calibrate", "name runs with a step"
        )
    quiet_s, loaded_s = _quiet_and_loaded(runs, work.mean_s.value)
    relative_sd = _relative_sd(loaded["inference_s"], loaded.groupby("body_id")["inference_s"])
    step_load = _step_load(runs[0], queueing)
    sparse_load = replace(step_load, clients=1, think_s=SPARSE_THINK_S)
    work = _replaced(work, {"mean_s": quiet_s}, provenance)
    for _ in range(PASSES):
        after = fit_afterwards(float(after_idle["inference_s"].mean()), work, sparse_load)
        work = _replaced(work, {"afterwards": after}, provenance)
        ahead = fit_ahead(float(loaded["inference_s"].mean()), work, step_load)
        work = _replaced(work, {"ahead": min(ahead, float(after_idle["queue_s"].mean()) / quiet_s)}, provenance)
        work = _replaced(work, {"per_waiting": fit_per_waiting(loaded_s / quiet_s, work, step_load)}, provenance)
        work = _replaced(work, {"spread": fit_spread(relative_sd, work, step_load)}, provenance)
    return work


def _waits_s(runs: Sequence[Run], work: Work) -> float | None:
    """How long an answer keeps its replica without CPU, s; None if its CPU explains the time that it takes."""
    rested_s = pd.concat([requests_after_idle(run) for run in runs])["inference_s"]
    if rested_s.empty:
        return None
    _, answers = Trial(_processor(runs[0]), clients=1, think_s=SPARSE_THINK_S).run(work)
    waits_s = float(rested_s.median()) - float(np.median(answers["inference_s"]))
    return waits_s if waits_s > max(WAITS_SHARE * float(rested_s.median()), WAITS_S) else None


def _replaced(work: Work, values: Mapping[str, float], provenance: dict[str, Any]) -> Work:
    changes = {
        name: Number(value=round(value, 6), **{**provenance, "note": NOTES.get(name, "")})
        for name, value in values.items()
    }
    return work.model_copy(update=changes)


def _relative_sd(times_s: pd.Series, by_body: Any) -> float:
    """Standard deviation for a single photo, relative to the mean over all."""
    return float(np.sqrt(by_body.var().mean()) / times_s.mean())


def _step_load(run: Run, queueing: Queueing) -> Trial:
    """The clients of a run's step, all on one replica."""
    schedule = run.info.schedule
    if not isinstance(schedule, ClosedLoop):
        raise MlscaleError(f"{run.info.run_id} has an open loop", "calibrate", "name runs with a closed one")
    return Trial(_processor(run), queueing, schedule.stages[-1].clients, schedule.think_mean_s)


def _under_step_load(run: Run) -> pd.DataFrame:
    """Answers that began after the step and that the first replica gave while alone."""
    served, t0 = served_requests(run), run.info.step_s if run.info.step_s is not None else np.inf
    begun_s = served["done_s"] - served["inference_s"]
    return served[(begun_s > t0 + SETTLING_S) & (served["done_s"] < _alone_s(run))]


def requests_after_idle(run: Run) -> pd.DataFrame:
    """Requests before the step that reached a replica idle for a period or more."""
    served = served_requests(run).sort_values("intended_s")
    rest_s = served["intended_s"] - served["done_s"].cummax().shift(fill_value=-np.inf)
    return served[before_step(served) & (rest_s > _processor(run).period_s)]


def before_step(requests: pd.DataFrame) -> pd.Series:
    """Whether each request belongs to the first load stage."""
    return requests["load_stage"] == 0


def _reference(runs: Sequence[Run], provenance: dict[str, Any]) -> Number | None:
    references = [float(run.info.bodies["cpu_s"]) for run in runs if run.info.bodies.get("cpu_s")]
    return Number(value=round(float(np.mean(references)), 6), **provenance) if references else None


def _quiet_and_loaded(runs: Sequence[Run], mean_s: float) -> tuple[float, float]:
    """Mean work of an answer with almost no waiting requests, and with some at all times, CPU s: of the first replica
    while it is alone, before and after the step. Its idle CPU use is subtracted before the step only: under load it
    competes for the quota, and so counts."""
    before, after = [], []
    for run in runs:
        alone_s, t0, first = _alone_s(run), run.info.step_s, _first_replica(run)
        if t0 is None or alone_s <= t0:
            continue
        cpu_s, answers = _per_answer(run, first, 0.0, t0)
        before.append((cpu_s - _idle_cores(run, first) * t0, answers))
        after.append(_per_answer(run, first, t0, alone_s))
    if not after:
        return mean_s, mean_s
    quiet_s, loaded_s = (sum(cpu_s for cpu_s, _ in part) / sum(n for _, n in part) for part in (before, after))
    return quiet_s, loaded_s


def _first_replica(run: Run) -> str:
    """The replica that existed before the others."""
    rows = run.resources[run.resources["role"] == "replica"]
    return str(rows.loc[rows["t_s"].idxmin(), "subject"])


def _alone_s(run: Run) -> float:
    """Time until which no other replica exists; 0 if none joins the first."""
    others = ready_times(run).drop(_first_replica(run), errors="ignore")
    return float(others[others > 0].min()) if (others > 0).any() else 0.0


def _per_answer(run: Run, replica: str, from_s: float, to_s: float) -> tuple[float, int]:
    """CPU that a replica used, s, and the answers given, in the interval."""
    rows = run.resources[(run.resources["role"] == "replica") & (run.resources["subject"] == replica)]
    samples = rows.sort_values("t_s")
    inside = samples["t_s"].between(from_s, to_s)
    answers = int(served_requests(run)["done_s"].between(from_s, to_s).sum())
    return float((samples["cpu_cores"] * samples["t_s"].diff())[inside].sum()), answers


def _idle_cores(run: Run, replica: str) -> float:
    """A replica's CPU use before the first request, cores; 0 if not sampled."""
    return float(_idle_by_replica(run).get(replica, 0.0))


def idle_cores(run: Run) -> float:
    """CPU use of all replicas before the first request, cores."""
    return float(_idle_by_replica(run).sum())


def _idle_by_replica(run: Run) -> pd.Series:
    rows = run.resources[(run.resources["role"] == "replica") & run.resources["t_s"].between(-IDLE_S, 0.0)]
    return rows.groupby("subject")["cpu_cores"].mean().dropna()


def ready_times(run: Run) -> pd.Series:
    """Time at which each replica first became ready, by name."""
    return run.events[run.events["kind"] == "replica_ready"].groupby("subject")["t_s"].first()


def served_requests(run: Run) -> pd.DataFrame:
    """Requests that were served by a replica."""
    done = answered(run.requests)
    return done[done["replica_id"].fillna("") != ""]


def replicas_cpu_s(run: Run, from_s: float, to_s: float) -> float:
    """CPU of all replicas, each from its readiness on, in the interval."""
    ready = ready_times(run)
    total = 0.0
    for name, rows in run.resources[run.resources["role"] == "replica"].groupby("subject"):
        samples = rows.sort_values("t_s")
        width = samples["t_s"].diff()
        begin_s = max(from_s, float(ready.get(str(name), 0.0)))
        inside = samples["t_s"].between(begin_s + width.fillna(0.0), to_s)
        total += float((samples["cpu_cores"] * width)[inside].sum())
    return total


def _busy(run: Run) -> pd.DataFrame:
    """Answers of replicas that were never idle, with their service time as work under the quota."""
    quota = float(next(iter(run.info.scaling.values()))["cpu_cores"])
    served = served_requests(run)
    busy = served[served["queue_s"] > MIN_WAIT_S]
    return busy.assign(work_s=busy["inference_s"] * min(1.0, quota))[["body_id", "work_s"]]


def _processor(run: Run) -> Processor:
    scaling = next(iter(run.info.scaling.values()))
    return Processor(quota_cores=scaling["cpu_cores"], period_s=scaling["cpu_period_s"])
