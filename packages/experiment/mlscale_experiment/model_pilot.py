"""The pilot of an experiment with a given model: tries it, measures what it demands of each environment, and fixes the
protocol that fits model and host (METHOD §5). What is decided is pure (`mlscale_experiment.choice`)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mlscale.environments import App
from mlscale.host.facts import host_facts
from mlscale.loadgen.bodies import BodySet
from mlscale.measurement.model_load import LOAD_S as TYPICAL_LOAD_S
from mlscale.measurement.model_load import OTHER_CORES, TYPICAL
from mlscale.measurement.sizing import Demand, Host
from mlscale.measurement.trial import Cost, try_model
from mlscale.progress import Bar
from mlscale_experiment.choice import Choice, choose, refuse
from mlscale_experiment.pilot import (
    LOAD_S,
    Measured,
    busy_replica,
    demand_of,
    host_of,
    protocol_of,
    take_over,
)
from mlscale_experiment.protocol import Bodies, Protocol, check_free, write_protocol
from mlscale_experiment.settings import Settings
from onenode.keeper import ClusterKeeper

# Of the files to send, beside the protocol.
FOLDER: Final = "bodies"
# Answers of one replica that show what they cost.
_ANSWERS: Final = 30.0
_ANSWER_AT_MOST_S: Final = 60.0
# Times that each body is answered before a run's time zero (mlscale.environments.base).
_WARM_UP: Final = 2
_TRIAL_S, _DEPLOY_S = 15.0, 30.0


def run_pilot(settings: Settings, file: Path) -> None:
    """Measure, decide, say what and why; write ``file`` and copy the bodies beside it.

    Raises:
        MlscaleError: blocks were measured below ``file``'s folder, the model can't be measured on this host, or a run
            failed; says what to do.
    """
    check_free(file, file.parent)
    app, bodies = settings.app(), BodySet.read(settings.bodies)
    with Bar(_TRIAL_S + len(settings.environments) * (_DEPLOY_S + LOAD_S)) as bar:
        bar.step("pilot: trying the model", _TRIAL_S)
        trial = try_model(app, bodies, settings.bodies, answer_at_most_s=_ANSWER_AT_MOST_S)
        bar.say(f"pilot: {trial.said}")
        facts = host_facts()
        equality = app.check is None and bodies.labels is not None
        machine = Host(float(facts["cores_online"]), float(facts["memory_bytes"] or 2**40), TYPICAL_LOAD_S, OTHER_CORES)
        refuse(
            trial.cost,
            equality=equality,
            cores=machine.cores,
            memory_bytes=machine.memory_bytes,
            application=app.name,
            quotas=facts.get("cgroup_version", 1) is not None,
        )
        quota_cores = _first_look(trial.cost, settings.environments, machine).size.quota_cores
        measured, start_s = _measure_each(settings, app, bodies, trial.cost, quota_cores, bar)
        demands = {name: each.demand for name, each in measured.items()}
        chosen = choose(trial.cost, demands, host_of(measured), start_s, settings.level_s)
        protocol = _protocol(chosen, demands, start_s, bodies, trial.cost)
        take_over(settings.bodies, file.parent / FOLDER)
        write_protocol(file, protocol, file.parent)
        for reason in protocol.why.values():
            bar.say(f"pilot: {reason}")


def _first_look(cost: Cost, environments: Sequence[str], host: Host) -> Choice:
    """The choice by what answers demand of these environments elsewhere."""
    usual = TYPICAL["k3s"]
    demands = {name: TYPICAL.get(name, usual) for name in environments}
    demands = {
        name: replace(each, memory_bytes=max(each.memory_bytes, cost.memory_bytes)) for name, each in demands.items()
    }
    return choose(cost, demands, host, {name: each.start_s for name, each in demands.items()})


def _measure_each(
    settings: Settings, app: App, bodies: BodySet, cost: Cost, quota_cores: float, bar: Bar
) -> tuple[dict[str, Measured], dict[str, float]]:
    """What each environment demands beside the model, and how long a replica takes to start under the quota, s."""
    service_s = max(cost.cpu_s / quota_cores, cost.wall_s)
    load_s = max(LOAD_S, _ANSWERS * service_s)
    warm_up_s = _WARM_UP * len(bodies) * service_s
    measured: dict[str, Measured] = {}
    start_s: dict[str, float] = {}
    with ClusterKeeper() as keeper, tempfile.TemporaryDirectory() as folder:
        for name in settings.environments:
            bar.step(f"pilot: what an answer demands on {name}", _DEPLOY_S + warm_up_s + load_s)
            bar.extend(warm_up_s + load_s - LOAD_S)
            keeper.prepare(name, {})
            run = busy_replica(
                name,
                app,
                settings.bodies,
                Path(folder) / name,
                cpu_cores=quota_cores,
                seed=settings.seed,
                load_s=load_s,
            )
            measured[name] = demand_of(run, cost.cpu_s)
            start_s[name] = max(measured[name].demand.start_s - warm_up_s, 1.0)
    return measured, start_s


def _protocol(
    chosen: Choice, demands: Mapping[str, Demand], start_s: Mapping[str, float], bodies: BodySet, cost: Cost
) -> Protocol:
    return protocol_of(
        demands,
        chosen.size,
        start_s,
        bodies=Bodies(
            folder=FOLDER,
            count=len(bodies.bodies),
            sha256=str(bodies.facts.get("sha256", "")),
            cpu_mean_s=round(cost.cpu_s, 6),
            cpu_min_s=round(cost.low_s, 6),
            cpu_max_s=round(cost.high_s, 6),
        ),
        baseline_s=chosen.baseline_s,
        horizon_s=chosen.horizon_s,
        quick_baseline_s=chosen.quick_baseline_s,
        quick_duration_s=chosen.quick_duration_s,
        timeout_s=chosen.timeout_s,
        why=dict(chosen.why),
    )
