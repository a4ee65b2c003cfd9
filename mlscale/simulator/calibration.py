"""A profile's numbers from live runs: what an answer costs, and how long each part of a start takes.

Only what runs can tell is fitted; the rest stays the profile's. Every fitted number names the runs that it is from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.durations import answered
from mlscale.analysis.likeness import WAITED_S
from mlscale.analysis.provisioning import lives, provisioning
from mlscale.runs import EventKind, MlscaleError, Run
from mlscale.simulator.loops import RECORDED
from mlscale.simulator.profile import Machines, Profile, StartStep, Work
from mlscale.simulator.settings import Polling, Processor
from mlscale.simulator.spread import Measured, Number
from mlscale.simulator.trial import share_per_ask, spread_of_work

FloatArray = npt.NDArray[np.float64]
IDLE_S: Final = 10.0
"""So long before the first request a replica has nothing to do."""
LEAST_ALONE: Final = 3
LIMITED_S: Final = 1.0
"""A replica that began to start so much later than it was created had waited for another one."""


def calibrate(runs: Sequence[Run], profile: Profile) -> Profile:
    """``profile`` with what the runs tell put in place of its own.

    Args:
        runs: live ones, or a rehearsal's, of the profile's environment, with the whole application; invalid ones are
            left out.

    Raises:
        MlscaleError: none is left, or one is of another environment or simulated.
    """
    for run in runs:
        if run.info.environment != profile.environment or run.info.mode == "simulated":
            what = f"{run.info.run_id} is {run.info.mode}, of {run.info.environment}"
            raise MlscaleError(what, "calibrate", f"name live runs of {profile.environment}")
    used = [run for run in runs if run.info.valid]
    if not used:
        raise MlscaleError("no valid run is among them", "calibrate", "name runs that are valid")
    if any(len(run.info.components) > 1 for run in used):
        raise MlscaleError("partitioned runs can't be fitted yet", "calibrate", "name runs of the whole application")
    component = used[0].info.components[0]
    facts = _facts(used)
    outside = Number(value=_outside_s(used), **facts)
    crowding = _crowding(used)
    changes: dict[str, Any] = {
        "what": _where(used),
        "validated": "not validated",
        "work": {**profile.work, component: _work(used, profile.polling, facts)},
        "requests": profile.requests.model_copy(update={"outside_s": outside}),
        "starts": profile.starts.model_copy(
            update={
                "steps": tuple(_steps(used, profile, crowding, facts)),
                "noticed": _noticed(used, profile, outside.value, facts) or profile.starts.noticed,
                "leaves": _leaves(used, outside.value, facts) or profile.starts.leaves,
                "alike": Number(value=_alike(used), **facts),
                "crowding": Number(value=crowding, **facts),
            }
        ),
    }
    if profile.scales_by == "ray-serve":
        changes["loop"] = {**profile.loop, "report_delay_s": Number(value=_report_delay_s(used, profile), **facts)}
    if profile.machines is not None:
        changes["machines"] = _machines(used, profile.machines, facts)
    return profile.model_copy(update=changes)


def _facts(runs: Sequence[Run]) -> dict[str, Any]:
    """What every fitted number says of where it is from."""
    first, last = min(run.info.wall_start for run in runs), max(run.info.wall_start for run in runs)
    source = f"{len(runs)} live runs, {first:%Y-%m-%d} to {last:%Y-%m-%d}: {runs[0].info.run_id} and others"
    return {"source": source, "date": f"{last:%Y-%m-%d}"}


def _where(runs: Sequence[Run]) -> str:
    host = runs[0].info.host
    versions = ", ".join(f"{name} {version}" for name, version in sorted(runs[0].info.versions.items()))
    return f"{host.get('cpu_model', 'unknown CPU')}, {host.get('cores_online', '?')} cores; {versions}"


def _work(runs: Sequence[Run], polling: Polling | None, facts: dict[str, Any]) -> Work:
    """CPU that replicas used while they served, over the answers that they gave; shares of photos by how long each
    took where replicas had no rest."""
    used_s = sum(_cpu_s(run) for run in runs)
    answers = sum(len(_served(run)) for run in runs)
    mean_s = used_s / answers
    busy = pd.concat([_busy(run) for run in runs], ignore_index=True)
    by_photo = busy.groupby("photo_id")["work_s"]
    shares = by_photo.mean() / by_photo.mean().mean()
    sd_s = float(np.sqrt(by_photo.var().mean()))
    spread = spread_of_work(sd_s / float(busy["work_s"].mean()), mean_s, _processor(runs[0]))
    loaded_s = mean_s
    if polling is not None:
        mean_s, loaded_s = _quiet_and_loaded(runs, mean_s)
    work = Work(
        mean_s=Number(value=round(mean_s, 6), **facts),
        reference_cpu_s=_reference(runs, facts),
        photos=tuple(round(float(share), 4) for share in shares.sort_index()),
        spread=Number(value=spread, note="what the quota's periods leave of the spread on one photo", **facts),
    )
    if polling is None:
        return work
    more = share_per_ask(loaded_s / mean_s, work, _processor(runs[0]), polling)
    return work.model_copy(update={"per_waiting": Number(value=round(more, 5), **facts)})


def _reference(runs: Sequence[Run], facts: dict[str, Any]) -> Number | None:
    known = [float(run.info.photos["cpu_s"]) for run in runs if run.info.photos.get("cpu_s")]
    return Number(value=round(float(np.mean(known)), 6), **facts) if known else None


def _quiet_and_loaded(runs: Sequence[Run], mean_s: float) -> tuple[float, float]:
    """The mean work of an answer while next to nobody waits, and while somebody always does, CPU s: of the first
    replica, before the step and between it and the next one's being ready. What the replica uses when nobody asks is no
    answer's work while there is time left for it; under load it takes its part of the quota, and so counts."""
    before, after = [], []
    for run in runs:
        t0 = run.info.step_s
        ready = _ready_s(run)
        if t0 is None or not (ready > t0).any():
            continue
        old, next_s = str(ready.idxmin()), float(ready[ready > t0].min())
        cpu_s, answers = _per_answer(run, old, 0.0, t0)
        before.append((cpu_s - _idle_cores(run, old) * t0, answers))
        after.append(_per_answer(run, old, t0, next_s))
    if not after:
        return mean_s, mean_s
    quiet_s, loaded_s = (sum(cpu_s for cpu_s, _ in part) / sum(n for _, n in part) for part in (before, after))
    return quiet_s, loaded_s


def _per_answer(run: Run, replica: str, from_s: float, to_s: float) -> tuple[float, int]:
    """CPU that a replica used, s, and the answers that were given, in between."""
    rows = run.resources[(run.resources["role"] == "replica") & (run.resources["subject"] == replica)]
    samples = rows.sort_values("t_s")
    inside = samples["t_s"].between(from_s, to_s)
    answers = int(_served(run)["done_s"].between(from_s, to_s).sum())
    return float((samples["cpu_cores"] * samples["t_s"].diff())[inside].sum()), answers


def _idle_cores(run: Run, replica: str) -> float:
    """What a replica uses before the first request, cores; 0 where nobody looked."""
    rows = run.resources[(run.resources["role"] == "replica") & (run.resources["subject"] == replica)]
    idle = rows[rows["t_s"].between(-IDLE_S, 0.0)]["cpu_cores"].mean()
    return float(idle) if np.isfinite(idle) else 0.0


def _ready_s(run: Run) -> pd.Series:
    """When each replica was ready first, by its name."""
    return run.events[run.events["kind"] == "replica_ready"].groupby("subject")["t_s"].first()


def _served(run: Run) -> pd.DataFrame:
    """Requests that a replica answered."""
    done = answered(run.requests)
    return done[done["replica_id"].fillna("") != ""]


def _cpu_s(run: Run) -> float:
    """Of all replicas from the first request, or from being ready, to the end of the load."""
    ready = _ready_s(run)
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
    """Answers of replicas without a rest, with the work that they were: their time, by the quota."""
    quota = float(next(iter(run.info.scaling.values()))["cpu_cores"])
    served = _served(run)
    busy = served[served["queue_s"] > WAITED_S]
    return busy.assign(work_s=busy["inference_s"] * min(1.0, quota))[["photo_id", "work_s"]]


def _processor(run: Run) -> Processor:
    scaling = next(iter(run.info.scaling.values()))
    return Processor(quota_cores=scaling["cpu_cores"], period_s=scaling["cpu_period_s"])


def _outside_s(runs: Sequence[Run]) -> float:
    """Of a response, what passes outside queue and replica: mean before the step. After it, parts of the replica's own
    work wait for its quota on the others' way, and would be counted twice."""
    rests = []
    for run in runs:
        served = _served(run)
        before = served[served["intended_s"] < (run.info.step_s or run.info.schedule.duration_s)]
        rests.append((before["done_s"] - before["intended_s"] - before["queue_s"] - before["inference_s"]).to_numpy())
    return round(max(0.0, float(np.mean(np.concatenate(rests)))), 5)


def _steps(runs: Sequence[Run], profile: Profile, crowding: float, facts: dict[str, Any]) -> list[StartStep]:
    """Each step's time in replicas that were created under load, from the event before it.

    A limited step ends with no event: how long it takes is told by those that had to wait for another one's end. Times
    are those of a replica that starts alone.
    """
    begin: EventKind = "replica_created" if profile.machines is None else "replica_scheduled"
    steps = []
    for number, step in enumerate(profile.starts.steps):
        last = number == len(profile.starts.steps) - 1
        if step.limited and step.begins_with is not None:
            waited = [_took(run, begin, step.begins_with) for run in runs]
            takes = _measured([each[each > LIMITED_S] for each in waited], facts)
            begin, before_s = step.begins_with, takes.mean_s if takes is not None else 0.0
        else:
            end: EventKind | None = "replica_ready" if last else step.ends_with
            if end is None:
                steps.append(step)
                continue
            off = (before_s if number else 0.0) + (_probe_s(runs[0], profile) / 2 if last else 0.0)
            took = [(_took(run, begin, end) - off) / (1 + crowding * _others(run, begin, end)) for run in runs]
            takes = _measured(took, facts)
            begin, before_s = end, 0.0
        steps.append(step.model_copy(update={"takes": takes or step.takes}))
    return steps


def _others(run: Run, begin: EventKind, end: EventKind) -> FloatArray:
    """For each replica of `_took`, how many others were starting when it was (created within `LIMITED_S`)."""
    found = lives(run, 0.0, run.info.schedule.duration_s, begin, end)
    created = lives(run, 0.0, run.info.schedule.duration_s, "replica_created", "replica_ready")["begun_s"]
    at = created.reindex(found.index).to_numpy(dtype=float)
    near = np.abs(at[:, None] - created.to_numpy(dtype=float)[None, :]) <= LIMITED_S
    return np.asarray(np.maximum(near.sum(axis=1) - 1, 0), dtype=float)


def _crowding(runs: Sequence[Run]) -> float:
    """How much longer a start takes, as a share, for each other one at the same time; 0 where none starts alone."""
    kinds: tuple[EventKind, EventKind] = ("replica_created", "replica_ready")
    if any("machine_requested" in set(run.events["kind"]) for run in runs):
        kinds = ("replica_scheduled", "replica_ready")
    took = np.concatenate([_took(run, *kinds) for run in runs])
    others = np.concatenate([_others(run, *kinds) for run in runs])
    alone, together = took[others == 0], others > 0
    if len(alone) < LEAST_ALONE or not together.any():
        return 0.0
    longer = float(took[together].mean() / alone.mean()) - 1
    return round(max(0.0, longer / float(others[together].mean())), 4)


def _report_delay_s(runs: Sequence[Run], profile: Profile) -> float:
    """How long after the router's report the controller acts on it, beyond what the periods explain: each is waited
    for by half on average."""
    rests = []
    for run in runs:
        settings = next(iter(run.info.scaling.values()))
        interval_s, look_back_s = settings["metrics_interval_s"], settings["look_back_period_s"]
        periods_s = interval_s + min(look_back_s * RECORDED, interval_s) + profile.loop_value("control_period_s")
        if run.info.step_s is not None:
            found = provisioning(run, run.info.step_s, run.info.schedule.duration_s - run.info.step_s)
            rests.append(found.detection_s - settings["upscale_delay_s"] - periods_s / 2)
    known = [rest for rest in rests if np.isfinite(rest)]
    return round(max(0.0, float(np.mean(known))), 4) if known else 0.0


def _alike(runs: Sequence[Run]) -> float:
    """Share of the variance of starts that lies between runs (analysis of variance, one way), of the first two
    replicas that a step asked for."""
    groups = []
    for run in runs:
        found = lives(run, run.info.step_s or 0.0, run.info.schedule.duration_s, "replica_created", "replica_ready")
        together = found[found["begun_s"] <= found["begun_s"].min() + LIMITED_S]["took_s"].to_numpy(dtype=float)
        if len(together) >= 2:
            groups.append(together[:2])
    if len(groups) < 3:
        return 0.0
    pairs = np.array(groups)
    within = float(pairs.var(axis=1, ddof=1).mean())
    between = max(0.0, float(pairs.mean(axis=1).var(ddof=1)) - within / 2)
    return round(between / (between + within), 3) if between + within else 0.0


def _took(run: Run, begin: str, end: str) -> FloatArray:
    return np.asarray(lives(run, 0.0, run.info.schedule.duration_s, begin, end)["took_s"], dtype=float)


def _probe_s(run: Run, profile: Profile) -> float:
    probe = profile.starts.probe_period_s
    if isinstance(probe, str):
        return float(next(iter(run.info.scaling.values()))[probe])
    return probe.value if probe is not None else 0.0


def _noticed(runs: Sequence[Run], profile: Profile, outside_s: float, facts: dict[str, Any]) -> Measured | None:
    """From ready to the first request that a replica took."""
    return _measured([_first_taken(run, profile, outside_s) for run in runs], facts)


def _first_taken(run: Run, profile: Profile, outside_s: float) -> FloatArray:
    served = _served(run)
    waits = 0.0 if profile.requests.routing == "shared-queue" else served["queue_s"]
    taken = served["done_s"] - outside_s - served["inference_s"] - waits
    first = taken.groupby(served["replica_id"]).min()
    ready = run.events[(run.events["kind"] == "replica_ready") & (run.events["t_s"] > 0)]
    return _since(first, ready)


def _since(times: pd.Series, events: pd.DataFrame) -> FloatArray:
    """Each event's subject's time, less the event's; subjects without one are left out. Requests call a replica by its
    name, or by the id that its event's detail gives."""
    details = [json.loads(text or "{}") for text in events["detail"].fillna("{}")]
    found = [
        float(times.get(subject, times.get(str(detail.get("replica_id", "")), np.nan))) - t_s
        for detail, subject, t_s in zip(details, events["subject"], events["t_s"], strict=True)
    ]
    return np.array([value for value in found if np.isfinite(value)])


def _leaves(runs: Sequence[Run], outside_s: float, facts: dict[str, Any]) -> Measured | None:
    """From the decision to be rid of a replica until the last request was sent to it."""
    found = []
    for run in runs:
        served = _served(run)
        last = (served["intended_s"] + outside_s / 2).groupby(served["replica_id"]).max()
        going = run.events[(run.events["kind"] == "replica_draining") & (run.events["t_s"] > 0)]
        found.append(_since(last, going))
    return _measured(found, facts)


def _machines(runs: Sequence[Run], machines: Machines, facts: dict[str, Any]) -> Machines:
    """What a machine takes beyond the boot time that was set."""
    over = []
    for run in runs:
        boot = str(next(iter(run.info.scaling.values())).get("boot", ""))
        if boot.endswith("s") and boot[:-1].replace(".", "", 1).isdigit():
            over.append(_took(run, "machine_requested", "machine_booted") - float(boot[:-1]))
    parts = {
        "boot_overhead": _measured(over, facts),
        "registers": _measured([_took(run, "machine_booted", "machine_registered") for run in runs], facts),
        "turns_ready": _measured([_took(run, "machine_registered", "machine_ready") for run in runs], facts),
    }
    return machines.model_copy(update={name: spread for name, spread in parts.items() if spread is not None})


def _measured(parts: Sequence[FloatArray], facts: dict[str, Any]) -> Measured | None:
    values = np.maximum(np.concatenate(parts), 0.0) if parts else np.zeros(0)
    return Measured(samples_s=tuple(round(float(each), 3) for each in sorted(values)), **facts) if len(values) else None
