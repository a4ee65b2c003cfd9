"""The pilot: measures what data/protocol.json fixes, before the data that it judges exist (METHOD §4, §5).

In this order: photos that cost the intended CPU time; what one replica answers per second, in each environment; from
that the think time (2 clients use 0.3 to 0.4 of a replica) and the step (a demand of 2.5 to 3 replicas); then the
schedule itself once in each environment, from which L follows. What is decided from what was measured is pure
(`mlscale.experiment.sizing`), and each number's origin is written down beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mlscale import environments as installed
from mlscale.experiment.cluster import ClusterKeeper
from mlscale.experiment.measure import measure
from mlscale.experiment.protocol import Photos, Protocol, blocks_exist, write_protocol
from mlscale.experiment.sizing import BASELINE_CLIENTS, Measured, level, step_clients, think_time, utilisation
from mlscale.host.facts import host_facts
from mlscale.load.photos import LABELS, PhotoSet
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, Run

PHOTOS: Final = 24
"""Photos in the load's set: few enough to be served twice before time zero, many enough for a mix."""
SATURATING_CLIENTS: Final = 12
PILOT_THINK_S: Final = 0.4
LIGHT_S: Final = 20.0
SETTLE_S: Final = 8.0
CAPACITY_S: Final = 20.0
MOST_WRONG: Final = 0.01

ChoosePhotos = Callable[[Path], object]
"""Writes the load's photo set into a folder; its labels.jsonl says what each photo costs (``cpu_s``)."""


def run_pilot(
    environments: Sequence[str],
    runs: Path,
    file: Path,
    choose_photos: ChoosePhotos,
    *,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Protocol:
    """Measure, decide, write ``file``. About 5 minutes per environment.

    Raises:
        MlscaleError: blocks measured under the present protocol exist below ``runs``; a run that failed.
    """
    if blocks_exist(runs):
        raise MlscaleError("blocks measured under a protocol exist here already", str(runs), "name another --runs")
    photos = file.parent / "photos" / "load"
    say("pilot: choosing photos by their CPU time")
    choose_photos(photos)
    place = runs / "pilot" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    found: dict[str, Measured] = {}
    with ClusterKeeper() as keeper:
        for name in environments:
            say(f"pilot: what one replica of {name} answers")
            keeper.prepare(name, {})
            found[name] = _capacity(name, photos, place, seed)
        draft = _draft(found, photos, file)
        trial = {}
        for name in environments:
            say(f"pilot: the schedule once on {name}")
            keeper.prepare(name, {})
            trial[name] = measure(
                name,
                schedule=draft.closed_schedule(draft.baseline_s),
                photos=photos,
                out=place / f"{name}-schedule",
                seed=seed,
            )
    for run in trial.values():
        _check_right(run)
    protocol = settle(draft, found, trial)
    write_protocol(file, protocol, runs)
    return protocol


def settle(draft: Protocol, found: Mapping[str, Measured], trial: Mapping[str, Run]) -> Protocol:
    """The protocol, from the draft and the trial runs: L, the open loop's rates, the measured starts."""
    plateaus = {
        name: _mean_response(run, draft.baseline_s + 0.75 * draft.horizon_s, math.inf) for name, run in trial.items()
    }
    light = {name: _mean_response(run, 5.0, draft.baseline_s) for name, run in trial.items()}
    again = {
        name: Measured(
            found[name].capacity_rps, light[name], trial[name].info.waits.get("deploy_s", found[name].start_s)
        )
        for name in trial
    }
    level_s = level(plateaus)
    base = float(
        np.mean([BASELINE_CLIENTS / (draft.think_mean_s + measured.light_response_s) for measured in again.values()])
    )
    used = {name: round(utilisation(measured, draft.think_mean_s), 3) for name, measured in again.items()}
    demand = {
        name: round(utilisation(measured, draft.think_mean_s, draft.step_clients), 2)
        for name, measured in again.items()
    }
    why = {
        **draft.why,
        "level_s": f"1.5 x the slowest mean response in the trials' last quarter ({_rounded(plateaus)}), up to 50 ms",
        "open_baseline_rps": f"arrivals of 2 clients in the trial runs; they use {used} of one replica",
        "open_step_rps": f"that, times {draft.step_clients}/2",
        "step_clients": draft.why["step_clients"] + f"; with the trial runs' unqueued responses: {demand} replicas",
    }
    changes = {
        "level_s": level_s,
        "open_baseline_rps": round(base, 3),
        "open_step_rps": round(base * draft.step_clients / BASELINE_CLIENTS, 3),
        "start_s": {name: round(measured.start_s, 1) for name, measured in again.items()},
        "why": why,
    }
    return Protocol.model_validate({**draft.model_dump(), **changes})


def _capacity(name: str, photos: Path, place: Path, seed: int) -> Measured:
    """One replica, first with one client, then with so many that it is saturated."""
    stages = ClosedStage(start_s=0, clients=1), ClosedStage(start_s=LIGHT_S, clients=SATURATING_CLIENTS)
    end_s = LIGHT_S + SETTLE_S + CAPACITY_S
    schedule = ClosedLoop(duration_s=end_s, stages=stages, think_mean_s=PILOT_THINK_S)
    run = measure(
        name, schedule=schedule, photos=photos, out=place / f"{name}-capacity", arm="static-min", seed=seed, idle_s=5.0
    )
    ok = run.requests[(run.requests.status == "ok") & (run.requests.done_s.between(end_s - CAPACITY_S, end_s))]
    if len(ok) < 10:
        raise MlscaleError(f"one replica gave {len(ok)} right answers in {CAPACITY_S:g} s", name, f"look at {run.path}")
    light_s = _mean_response(run, 2.0, LIGHT_S)
    return Measured(round(len(ok) / CAPACITY_S, 2), light_s, run.info.waits.get("deploy_s", 30.0))


def _check_right(run: Run) -> None:
    """The photos were chosen because they are read right; one that does not read them serves something else."""
    wrong = float((run.requests.status != "ok").mean())
    if wrong > MOST_WRONG:
        raise MlscaleError(
            f"{wrong:.1%} of the answers failed or were wrong", run.info.environment, f"look at {run.path}"
        )


def _draft(found: Mapping[str, Measured], photos: Path, file: Path) -> Protocol:
    think_s = think_time(found)
    clients = step_clients(found, think_s)
    matched = {name: installed.get(name).arm("matched").model_dump() for name in found}
    costs = _costs(photos)
    photo_set = PhotoSet.read(photos)
    return Protocol(
        origin="pilot",
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=dict(host_facts()),
        photos=Photos(
            folder=photos.relative_to(file.parent).as_posix(),
            count=len(photo_set.bodies),
            sha256=str(photo_set.facts.get("sha256", "")),
            cpu_mean_s=round(float(np.mean(costs)), 5) if costs else None,
            cpu_min_s=min(costs, default=None),
            cpu_max_s=max(costs, default=None),
        ),
        think_mean_s=think_s,
        step_clients=clients,
        level_s=1.0,
        open_baseline_rps=1.0,
        open_step_rps=1.0,
        capacity_rps={name: measured.capacity_rps for name, measured in found.items()},
        matched=matched,
        why={
            "photos": "generated and measured: each is read right, and costs 25 to 30 ms CPU on one thread here "
            "(where no size of photo comes near that: about as much as the nearest)",
            "capacity_rps": "12 clients on one replica: right answers per second, after 8 s, for 20 s",
            "think_mean_s": "2 clients use 0.3 to 0.4 of one replica; the slowest environment is held at 0.4",
            "step_clients": "a demand of 2.5 to 3 replicas (geometric mean over the environments)",
            "baseline_s": "METHOD §5",
            "horizon_s": "METHOD §5",
            "matched": "the environments' own arm 'matched' as it stood when the pilot ran",
            "start_s": "from nothing to the first replica warmed up, in the trial runs",
        },
    )


def _costs(photos: Path) -> list[float]:
    """CPU time of each photo where it was measured, s."""
    labels = (json.loads(line) for line in (photos / LABELS).read_text().splitlines() if line.strip())
    return [float(label["cpu_s"]) for label in labels if "cpu_s" in label]


def _mean_response(run: Run, from_s: float, to_s: float) -> float:
    requests: pd.DataFrame = run.requests
    inside = requests[(requests.intended_s >= from_s) & (requests.intended_s < to_s) & (requests.status == "ok")]
    if inside.empty:
        raise MlscaleError("no right answer in the part that L is drawn from", str(run.path), "look at that run")
    return float((inside.done_s - inside.intended_s).mean())


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}
