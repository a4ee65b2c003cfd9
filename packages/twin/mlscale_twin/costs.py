"""The cost of an answer, from live runs: the part of `calibration` that fits a profile's `Work`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis.durations import answered
from mlscale.runs import ClosedLoop, MlscaleError, Run
from mlscale_twin.durations import Number
from mlscale_twin.likeness import WAITED_S
from mlscale_twin.profile import Profile, Work
from mlscale_twin.settings import Processor, Queueing
from mlscale_twin.single_trial import Trial, share_afterwards, share_ahead, share_per_ask, spread_of_work

# So long before the first request a replica has nothing to do.
IDLE_S: Final = 10.0
# After the step, until as many wait as will.
SETTLES_S: Final = 2.0
# How often what depends on each other is fitted by turns.
PASSES: Final = 3
# Think time of a client whose requests find a replica rested.
SELDOM_S: Final = 1.0
NOTES: Final = {
    "ahead": "with which a replica alone serves as long as the first one did after the step; rested ones wait as long",
    "afterwards": "with which a rested replica serves as long as it did before the step",
    "per_waiting": "with which answers cost as much more under load",
    "spread": "what the quota's periods leave of the spread on one photo",
}


def work_of(runs: Sequence[Run], profile: Profile, facts: dict[str, Any]) -> Work:
    """CPU that replicas used while serving, per answer given; shares of photos by the service times of replicas that
    were never idle."""
    mean_s = sum(_cpu_s(run) for run in runs) / sum(len(served_in(run)) for run in runs)
    busy = pd.concat([_busy(run) for run in runs], ignore_index=True)
    by_photo = busy.groupby("photo_id")["work_s"]
    shares = by_photo.mean() / by_photo.mean().mean()
    work = Work(
        mean_s=Number(value=round(mean_s, 6), **facts),
        reference_cpu_s=_reference(runs, facts),
        photos=tuple(round(float(share), 4) for share in shares.sort_index()),
        spread=Number(value=0.0, **facts),
    )
    polling = profile.polling(next(iter(runs[0].info.scaling.values())))
    if polling is not None:
        return _asked_work(runs, work, Queueing("polled-queue", polling=polling), facts)
    spread = spread_of_work(_relative_sd(busy["work_s"], by_photo), work, Trial(_processor(runs[0])))
    return _with(work, {"spread": round(spread, 3)}, facts)


def _asked_work(runs: Sequence[Run], work: Work, queueing: Queueing, facts: dict[str, Any]) -> Work:
    """The work of replicas that are asked, and that do part of it outside the clock of their service: what an answer
    costs while nobody waits; then, by turns, what is done after it, before the clock starts, what it costs to be asked,
    and the spread. With these a lone replica serves as long as live ones that had rested; and, with the clients of the
    step, does what the first live one did until the next was ready."""
    rested = pd.concat([rested_in(run) for run in runs])
    crowded = pd.concat([_crowded(run) for run in runs])
    if rested.empty or crowded.empty:
        raise MlscaleError("no replica rested, and then had a step to bear", "calibrate", "name runs with a step")
    quiet_s, loaded_s = _quiet_and_loaded(runs, work.mean_s.value)
    relative_sd = _relative_sd(crowded["inference_s"], crowded.groupby("photo_id")["inference_s"])
    crowd = _crowd(runs[0], queueing)
    seldom = replace(crowd, clients=1, think_s=SELDOM_S)
    work = _with(work, {"mean_s": quiet_s}, facts)
    for _ in range(PASSES):
        after = share_afterwards(float(rested["inference_s"].mean()), work, seldom)
        work = _with(work, {"afterwards": after}, facts)
        ahead = share_ahead(float(crowded["inference_s"].mean()), work, crowd)
        work = _with(work, {"ahead": min(ahead, float(rested["queue_s"].mean()) / quiet_s)}, facts)
        work = _with(work, {"per_waiting": share_per_ask(loaded_s / quiet_s, work, crowd)}, facts)
        work = _with(work, {"spread": spread_of_work(relative_sd, work, crowd)}, facts)
    return work


def _with(work: Work, values: Mapping[str, float], facts: dict[str, Any]) -> Work:
    changes = {
        name: Number(value=round(value, 6), **{**facts, "note": NOTES.get(name, "")}) for name, value in values.items()
    }
    return work.model_copy(update=changes)


def _relative_sd(times_s: pd.Series, by_photo: Any) -> float:
    """Standard deviation for a single photo, relative to the mean over all."""
    return float(np.sqrt(by_photo.var().mean()) / times_s.mean())


def _crowd(run: Run, queueing: Queueing) -> Trial:
    """The clients of a run's step, all on one replica."""
    schedule = run.info.schedule
    if not isinstance(schedule, ClosedLoop):
        raise MlscaleError(f"{run.info.run_id} has an open loop", "calibrate", "name runs with a closed one")
    return Trial(_processor(run), queueing, schedule.stages[-1].clients, schedule.think_mean_s)


def _crowded(run: Run) -> pd.DataFrame:
    """Answers that began after the step and that the first replica gave while alone."""
    served, t0 = served_in(run), run.info.step_s if run.info.step_s is not None else np.inf
    begun_s = served["done_s"] - served["inference_s"]
    return served[(begun_s > t0 + SETTLES_S) & (served["done_s"] < _alone_s(run))]


def rested_in(run: Run) -> pd.DataFrame:
    """Requests before the step that reached a replica idle for a period or more."""
    served = served_in(run).sort_values("intended_s")
    rest_s = served["intended_s"] - served["done_s"].cummax().shift(fill_value=-np.inf)
    quiet = served["intended_s"] < (run.info.step_s or run.info.schedule.duration_s)
    return served[quiet & (rest_s > _processor(run).period_s)]


def _reference(runs: Sequence[Run], facts: dict[str, Any]) -> Number | None:
    known = [float(run.info.photos["cpu_s"]) for run in runs if run.info.photos.get("cpu_s")]
    return Number(value=round(float(np.mean(known)), 6), **facts) if known else None


def _quiet_and_loaded(runs: Sequence[Run], mean_s: float) -> tuple[float, float]:
    """The mean work of an answer while next to nobody waits, and while somebody always does, CPU s: of the first
    replica while it is alone, before the step and after it. What the replica uses when nobody asks is no answer's work
    while there is time left for it; under load it takes its part of the quota, and so counts."""
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
    """The replica that was there before the others."""
    rows = run.resources[run.resources["role"] == "replica"]
    return str(rows.loc[rows["t_s"].idxmin(), "subject"])


def _alone_s(run: Run) -> float:
    """Time until which no other replica exists; 0 if none joins the first."""
    others = ready_in(run).drop(_first_replica(run), errors="ignore")
    return float(others[others > 0].min()) if (others > 0).any() else 0.0


def _per_answer(run: Run, replica: str, from_s: float, to_s: float) -> tuple[float, int]:
    """CPU that a replica used, s, and the answers given, in the interval."""
    rows = run.resources[(run.resources["role"] == "replica") & (run.resources["subject"] == replica)]
    samples = rows.sort_values("t_s")
    inside = samples["t_s"].between(from_s, to_s)
    answers = int(served_in(run)["done_s"].between(from_s, to_s).sum())
    return float((samples["cpu_cores"] * samples["t_s"].diff())[inside].sum()), answers


def _idle_cores(run: Run, replica: str) -> float:
    """A replica's CPU use before the first request, cores; 0 if not sampled."""
    rows = run.resources[(run.resources["role"] == "replica") & (run.resources["subject"] == replica)]
    idle = rows[rows["t_s"].between(-IDLE_S, 0.0)]["cpu_cores"].mean()
    return float(idle) if np.isfinite(idle) else 0.0


def ready_in(run: Run) -> pd.Series:
    """Time at which each replica first became ready, by name."""
    return run.events[run.events["kind"] == "replica_ready"].groupby("subject")["t_s"].first()


def served_in(run: Run) -> pd.DataFrame:
    """Requests that were served by a replica."""
    done = answered(run.requests)
    return done[done["replica_id"].fillna("") != ""]


def _cpu_s(run: Run) -> float:
    """CPU of all replicas, from the first request or readiness to the end of the load."""
    ready = ready_in(run)
    end_s = run.info.schedule.duration_s
    total = 0.0
    for name, rows in run.resources[run.resources["role"] == "replica"].groupby("subject"):
        samples = rows.sort_values("t_s")
        width = samples["t_s"].diff()
        from_s = max(0.0, float(ready.get(str(name), 0.0)))
        inside = samples["t_s"].between(from_s + width.fillna(0.0), end_s)
        total += float((samples["cpu_cores"] * width)[inside].sum())
    return total


def _busy(run: Run) -> pd.DataFrame:
    """Answers of replicas that were never idle, with their service time as work under the quota."""
    quota = float(next(iter(run.info.scaling.values()))["cpu_cores"])
    served = served_in(run)
    busy = served[served["queue_s"] > WAITED_S]
    return busy.assign(work_s=busy["inference_s"] * min(1.0, quota))[["photo_id", "work_s"]]


def _processor(run: Run) -> Processor:
    scaling = next(iter(run.info.scaling.values()))
    return Processor(quota_cores=scaling["cpu_cores"], period_s=scaling["cpu_period_s"])
