"""A running deployment on Kubernetes: where load goes, and everything observed of it (contract: `Deployed`)."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from mlscale.environments.base import ObservationLost
from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.hpa import HpaWatch
from mlscale.environments.kubernetes.list_watch import Change, Lost
from mlscale.environments.kubernetes.load_job import LOAD
from mlscale.environments.kubernetes.machines import MachineWatch
from mlscale.environments.kubernetes.manifests import Deployment
from mlscale.environments.kubernetes.names import BOOTED, BUFFER, ROLE
from mlscale.environments.kubernetes.paths import path_of
from mlscale.environments.kubernetes.pods import PodWatch
from mlscale.environments.kubernetes.rollout import Watches, read_log
from mlscale.environments.kubernetes.usage import NodeUsage, PodMetrics
from mlscale.host.load_cgroup import LoadCgroup
from mlscale.host.proctable import Usage
from mlscale.host.replica_launcher import REPLICA
from mlscale.host.sampling import Sampler
from mlscale.runs import Event, MlscaleError, Observation, ReplicaSample, ResourceSample, RunClock
from mlscale.serving.timeline import MARK

_SAMPLE_S: Final = 0.5
_METRICS_S: Final = 5.0
_METRICS_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True)
class KubernetesDeployed:
    """See `mlscale.environments.base.Deployed`. ``node``: the cgroups of a node on this host; None: metrics.k8s.io."""

    api: Api
    wanted: Deployment
    watches: Watches
    load_cgroup: LoadCgroup
    node: NodeUsage | None
    url: str
    facts: Mapping[str, Any]
    versions: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    remote: Sequence[str] | None = None
    """argv for load that a pod sends; None: it is sent from this host."""

    @property
    def load_prefix(self) -> Sequence[str]:
        """argv to put before the load generator's command: it runs in its own cgroup on this host, or in a pod."""
        return self.load_cgroup.prefix if self.remote is None else self.remote

    def observe(self, clock: RunClock, stop: threading.Event) -> Iterator[Observation]:
        """Observations until ``stop`` is set, beginning with what happened since the namespace was created.

        Raises:
            ObservationLost: a watch was given up.
        """
        observer = _Observer(self, clock)
        for change in self.watches.kept:
            yield from observer.take(change)
        next_t = time.monotonic()
        while not stop.is_set():
            if time.monotonic() >= next_t:
                yield from observer.sample()
                missed = int((time.monotonic() - next_t) // _SAMPLE_S)
                next_t += _SAMPLE_S * (1 + missed)
            try:
                received = self.watches.changes.get(timeout=min(0.1, max(0.0, next_t - time.monotonic())))
            except queue.Empty:
                continue
            if isinstance(received, Lost):
                raise ObservationLost(
                    received.error.what, received.error.where, "the run can't be completed; repeat it"
                )
            yield from observer.take(received)


class _Observer:
    """Turns changes into observations on the run's clock."""

    def __init__(self, deployed: KubernetesDeployed, clock: RunClock) -> None:
        self._deployed, self._clock = deployed, clock
        self._pods = PodWatch(clock.origin_s)
        self._hpas = {
            part.name: HpaWatch(part.name, clock.origin_s, max(1, part.scaling.min_replicas))
            for part in deployed.wanted.parts
        }
        parts = deployed.wanted.parts
        self._shared = parts[0].name if len(parts) == 1 else ""
        """Component that the control plane and the load generator count for (see
        `mlscale.environments.composition.shared_component`)."""
        self._machines = MachineWatch(self._shared, clock.origin_s, BOOTED, claims=deployed.watches.follows("claims"))
        self._uids: dict[str, str] = {}
        self._pulls: dict[str, str] = {}
        self._sampler = Sampler()
        self._metrics = PodMetrics()
        self._metrics_t = time.monotonic()
        self._take: Mapping[str, Callable[[Change], list[Event]]] = {
            "pods": self._pod,
            "events": self._event,
            "autoscalers": self._autoscaler,
            "deployments": self._deployment,
            "claims": self._machines.claim,
            "nodes": self._machines.node,
        }
        self._machines_scale = deployed.watches.follows("nodes")

    def take(self, change: Change) -> Iterator[Observation]:
        events = self._take[change.source](change)
        yield from events
        if any(event.kind != "scale_decision" or event.detail["from"] != event.detail["to"] for event in events):
            yield from self._replicas(change.t - self._clock.origin_s)

    def sample(self) -> Iterator[Observation]:
        for row in self._sampler.sample(self._clock, self._shared, self._usage):
            yield self._of_pod(row) if row.role == "replica" else row
        if self._deployed.node is None and time.monotonic() - self._metrics_t >= _METRICS_S:
            self._metrics_t = time.monotonic()
            yield from self._pod_metrics()
        yield from self._replicas(self._clock())

    def _replicas(self, t_s: float) -> list[ReplicaSample]:
        """Numbers of replicas, and of machines if machines scale."""
        rows = self._pods.sample(t_s, {name: hpa.desired for name, hpa in self._hpas.items()})
        if not self._machines_scale:
            return rows
        desired, ready = self._machines.desired, self._machines.ready
        return [replace(row, machines_desired=desired, machines_ready=ready) for row in rows]

    def _of_pod(self, row: ResourceSample) -> ResourceSample:
        name = row.subject.removeprefix(REPLICA)
        return replace(row, subject=name, component=self._pods.component_of(name))

    def _usage(self) -> Mapping[str, Usage]:
        usage = dict(self._deployed.load_cgroup.usage())
        node = self._deployed.node
        if node is not None:
            usage |= {REPLICA + name: usage for name, usage in node.pods(self._uids).items()}
            parts = node.parts()
            usage |= {} if parts is None else {"control_plane": parts}
        return usage

    def _pod_metrics(self) -> list[ResourceSample]:
        """Samples of metrics.k8s.io; none if it can't be read now."""
        path = path_of("PodMetrics", namespace=self._deployed.wanted.namespace)
        try:
            listing = self._deployed.api.get(path, timeout_s=_METRICS_TIMEOUT_S)
        except (Refused, MlscaleError):
            return []
        return self._metrics.samples(listing, self._on_clock)

    def _on_clock(self, moment: datetime) -> float:
        return (moment - self._clock.wall_start).total_seconds()

    def _pod(self, change: Change) -> list[Event]:
        if (change.thing["metadata"].get("labels") or {}).get(ROLE) in (BUFFER, LOAD):
            return []  # not a replica: it reserves room, or sends the load
        name = str(change.thing["metadata"]["name"])
        if change.kind == "DELETED":
            self._uids.pop(name, None)
        else:
            self._uids[name] = str(change.thing["metadata"]["uid"])
        return [self._with_start(event) for event in self._pods.take(change)]

    def _with_start(self, event: Event) -> Event:
        """Adds to replica_ready the timeline of the pod's start and its image pull."""
        if event.kind != "replica_ready":
            return event
        log = read_log(self._deployed.api, self._deployed.wanted.namespace, event.subject)
        return replace(
            event, detail={**event.detail, "timeline": timeline(log), "pull": self._pulls.get(event.subject)}
        )

    def _autoscaler(self, change: Change) -> list[Event]:
        hpa = self._hpas.get(str(change.thing["metadata"]["name"]))
        return [] if hpa is None else hpa.take(change)

    def _deployment(self, change: Change) -> list[Event]:
        hpa = self._hpas.get(str(change.thing["metadata"]["name"]))
        return [] if hpa is None else hpa.take_scale(change)

    def _event(self, change: Change) -> list[Event]:
        about: Json = change.thing.get("involvedObject") or {}
        if about.get("kind") == "HorizontalPodAutoscaler":
            hpa = self._hpas.get(str(about.get("name")))
            return [] if hpa is None else hpa.take_event(change)
        if about.get("kind") == "Pod" and change.thing.get("reason") == "Pulled":
            self._pulls[str(about.get("name"))] = str(change.thing.get("message", ""))
        return []


def timeline(log: str) -> dict[str, float] | None:
    """The timeline that the server logged of its start (`mlscale.serving.timeline`); None if it logged none."""
    for line in reversed(log.splitlines()):
        _, mark, text = line.partition(MARK + "{")
        if mark:
            try:
                times: dict[str, float] = json.loads("{" + text)
            except ValueError:
                return None
            return times
    return None
