"""What a pilot has in common for any model: what an answer demands of this host, read off short runs (METHOD §5).

In each environment one replica is kept busy for some seconds. What is decided from what that shows is pure
(`mlscale.measurement.sizing`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlscale import environments as installed
from mlscale.analysis.durations import durations
from mlscale.analysis.resources import cpu_by_role
from mlscale.environments import App
from mlscale.host.facts import host_facts
from mlscale.loadgen.bodies import BodySet
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.measurement.sizing import Demand, Host, Size
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, Run
from mlscale_experiment.protocol import (
    FILE,
    Protocol,
    bodies_folder,
    check_free,
    other_host,
    read_protocol,
    write_protocol,
)
from onenode.keeper import OnCluster

# On our own cluster the HPA can look every second. Like the other frameworks it then averages over 0.6 s and waits
# until it has wanted more for a second: two looks, since its window leaves out a look that is as old as the window.
FASTEST_HPA: Final[Mapping[str, Any]] = {"sync_period_s": 1.0, "metric_window_s": 0.6, "upscale_stabilisation_s": 2}
CLIENTS: Final = 2
# Keeps a replica busy most of the time while hardly anything waits: a router's work of polling grows with the number of
# waiting requests, which in the experiment is small once all replicas are there.
THINK_S: Final = 0.03
SETTLE_S: Final = 1.5
LOAD_S: Final = 6.0
_LEAST_ANSWERS: Final = 20
_MOST_WRONG: Final = 0.01
# Upper limit of CPU outside a run's roles (kernel, the observer). More is due to other programs, not to the host.
_MOST_OTHER_CORES: Final = 0.1
_MOVE: Final = "move them away, or name another --runs"


@dataclass(frozen=True)
class Measured:
    """One environment's demand, and the host's other work meanwhile."""

    demand: Demand
    load_s: float
    other_cores: float


def ensure_protocol(root: Path, pilot: Callable[[Path], None], *, given: Path | None, fallback: Path | None) -> None:
    """Ensure that the runs below ``root`` have their own protocol and bodies, which never change afterwards.

    Where they have none yet: the protocol ``given``; else ``fallback``, if it was measured on a host like this one;
    else the result of ``pilot`` (the file to write), run now.

    Raises:
        MlscaleError: the runs were begun under another protocol than the one given; there is none at ``given``; other
            files are where the protocol's bodies belong; whatever ``pilot`` raises.
    """
    file = root / FILE
    chosen = read_protocol(given) if given is not None else None
    if given is not None and chosen is None:
        raise MlscaleError("there is no protocol", str(given), "name a file that `mlscale experiment pilot` wrote")
    existing = read_protocol(file)
    if existing is not None:
        if chosen is not None and chosen != existing:
            raise MlscaleError("the runs there were begun under another protocol", str(root), "name another --runs")
        return
    check_free(file, root)
    held = read_protocol(fallback) if fallback is not None else None
    if chosen is None and held is not None and other_host(held) is None:
        given, chosen = fallback, held
    if given is None or chosen is None:
        pilot(file)
        return
    take_over(bodies_folder(chosen, given), bodies_folder(chosen, file))
    write_protocol(file, chosen, root)


def check_unused(folder: Path) -> None:
    """Raise MlscaleError where a pilot would write bodies over others."""
    if folder.exists():
        raise MlscaleError("files to send are there without a protocol", str(folder), _MOVE)


def take_over(bodies: Path, folder: Path) -> None:
    """Copy bodies to ``folder``; files that are there already are used if they are the same, and never deleted.

    They are compared with ``bodies``, not with the protocol's sha256, which older ones computed from other bytes.
    """
    content = BodySet.read(bodies).facts["sha256"]
    if folder.exists():
        if BodySet.read(folder).facts["sha256"] != content:
            raise MlscaleError("other files to send are there", str(folder), _MOVE)
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a call that was killed
    copy_bodies(bodies, partial)
    partial.rename(folder)


def copy_bodies(bodies: Path, folder: Path) -> None:
    """Copy the files to send.

    Raises:
        MlscaleError: there is no room.
    """
    try:
        shutil.copytree(bodies, folder, dirs_exist_ok=True)
    except OSError as error:
        raise MlscaleError(f"the files to send can't be copied: {error}", str(folder), "make room there") from error


def busy_replica(
    environment: str, app: App, bodies: Path, out: Path, *, cpu_cores: float, seed: int, load_s: float = LOAD_S
) -> Run:
    """A short run that keeps one replica with ``cpu_cores`` busy for ``load_s``."""
    stages = (ClosedStage(start_s=0, clients=CLIENTS),)
    return measure(
        environment,
        app,
        ClosedLoop(duration_s=SETTLE_S + load_s, stages=stages, think_mean_s=THINK_S),
        bodies=bodies,
        out=out,
        arm="static-min",
        scaling={"cpu_cores": cpu_cores},
        options=MeasureOptions(seed=seed, idle_s=0.5, quiet_at_most_s=2.0),
    )


def demand_of(run: Run, body_s: float = 0.0) -> Measured:
    """What an answer demands, from a run that kept one replica busy.

    Args:
        body_s: CPU that the bodies themselves take, where they can be chosen by it, s.
    Raises:
        MlscaleError: too few right answers, too many wrong ones, or no sample of a replica's CPU.
    """
    to_s = run.info.schedule.duration_s
    answers = durations(run.requests, timeout_s=run.info.timeout_s)
    wrong = float((~answers["ok"]).mean()) if len(answers) else 0.0
    inside = answers[answers["ok"] & answers["done_s"].between(SETTLE_S, to_s)]
    if wrong > _MOST_WRONG or len(inside) < _LEAST_ANSWERS:
        raise MlscaleError(
            f"one replica gave {len(inside)} right answers in {to_s - SETTLE_S:g} s, and {wrong:.1%} were wrong",
            f"pilot: {run.info.environment}",
            "see `mlscale doctor`, and whether something else uses this host",
        )
    used = cpu_by_role(run.resources, SETTLE_S, to_s)
    cpu_s = used["cpu_s"].reindex(["replica", "data_plane", "control_plane", "load_generator", "host"]).fillna(0.0)
    if not cpu_s["replica"] > 0:
        raise MlscaleError("no CPU of a replica was sampled", f"pilot: {run.info.environment}", "see `mlscale doctor`")
    service_s = inside["queue_s"] + inside["inference_s"]
    span_s, number = to_s - SETTLE_S, len(inside)
    demand = Demand(
        own_s=max(cpu_s["replica"] / number - body_s, 0.0),
        data_plane_s=cpu_s["data_plane"] / number,
        control_cores=cpu_s["control_plane"] / span_s,
        way_s=max(float((inside["response_s"] - service_s).median()), 0.0),
        memory_bytes=float(used["peak_rss_bytes"].get("replica", 0.0)),
        start_s=run.info.waits["deploy_s"],
    )
    others = max(cpu_s["host"] - cpu_s.drop("host").sum(), 0.0) / span_s
    return Measured(demand, cpu_s["load_generator"] / number, others)


def host_of(measured: Mapping[str, Measured]) -> Host:
    """This host, as far as a protocol depends on it."""
    facts = host_facts()
    return Host(
        cores=float(facts["cores_online"]),
        memory_bytes=float(facts["memory_bytes"] or np.inf),
        load_s=max(result.load_s for result in measured.values()),
        other_cores=min(_MOST_OTHER_CORES, *(result.other_cores for result in measured.values())),
    )


def _matched(environment: str) -> dict[str, Any]:
    """The settings of the arm matched; on our own cluster, where the sync period can be set, with the fastest one."""
    target = installed.get(environment)
    own = FASTEST_HPA if isinstance(target, OnCluster) and target.on_own_cluster() else {}
    return {**target.arm("matched").model_dump(), **own}


def protocol_of(demands: Mapping[str, Demand], size: Size, start_s: Mapping[str, float], **rest: Any) -> Protocol:
    """The protocol that a pilot decided on. ``rest``: its further fields, bodies and ``why`` among them."""
    sizes = {"max_replicas": size.replicas, "cpu_cores": size.quota_cores}
    return Protocol(
        origin="pilot",
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=dict(host_facts()),
        replicas=size.replicas,
        cpu_cores=size.quota_cores,
        think_mean_s=size.think_s,
        baseline_clients=size.baseline_clients,
        step_clients=size.clients,
        level_s=size.level_s,
        open_baseline_rps=round(size.open_baseline_rps, 3),
        open_step_rps=round(size.open_step_rps, 3),
        start_s={name: round(seconds, 1) for name, seconds in start_s.items()},
        matched={name: {**_matched(name), **sizes} for name in demands},
        costs={
            name: {key: float(f"{value:.4g}") for key, value in asdict(demand).items()}
            for name, demand in demands.items()
        },
        **rest,
    )
