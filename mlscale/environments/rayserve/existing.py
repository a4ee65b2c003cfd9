"""Ray Serve on a cluster that runs already: an application is added by Serve's REST API, watched by it, and removed.

Nothing here limits a replica: Ray's ``num_cpus`` is bookkeeping. Each replica says what limits it, and such a run is
compared only with runs like it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

from mlscale.environments.agent import to_observation
from mlscale.environments.base import App, ObservationLost, Problem
from mlscale.environments.composition import callees_first
from mlscale.environments.emit import Emitter
from mlscale.environments.rayserve import load_node, rest
from mlscale.environments.rayserve.cluster import deployment_options
from mlscale.environments.rayserve.metrics import Export, MetricsReader
from mlscale.environments.rayserve.settings import RayServeScaling
from mlscale.environments.rayserve.watch import ReplicaView, ReplicaWatch
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.load_cgroup import LoadCgroup, open_load_cgroup
from mlscale.host.reap import TargetUnreachable, despite_interrupt
from mlscale.host.sampling import Sampler
from mlscale.runs import Event, MlscaleError, Observation, ReplicaSample, RunClock

# Kind of the ledger entry.
KIND: Final = "ray_serve_application"
_START_S: Final = 300.0
_GONE_S: Final = 120.0
_LOOK_S: Final = 0.25
# Nodes join seldom.
_NODES_S: Final = 1.0
# Without an answer for so long, the source of observations is lost.
_SILENT_S: Final = 20.0
# The first body may wait for a replica to start.
_WARM_UP_S: Final = 240.0


@dataclass
class ExistingDeployed:
    """See `mlscale.environments.base.Deployed`. ``targets``: requests per replica aimed at, by component; ``remote``:
    argv for load that a node sends, None: it is sent from this host."""

    api: rest.ServeApi
    name: str
    targets: Mapping[str, float]
    url: str
    load_cgroup: LoadCgroup
    remote: Sequence[str] | None
    facts: dict[str, Any]
    versions: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def load_prefix(self) -> Sequence[str]:
        return self.load_cgroup.prefix if self.remote is None else self.remote

    def observe(self, clock: RunClock, stop: threading.Event) -> Iterator[Observation]:
        """What Serve's controller reports, and the use of the load generator and this host if it is here, until
        ``stop`` is set. How late each source was is in ``facts`` then.

        Raises:
            ObservationLost: it does not answer, or the application has been removed.
        """
        metrics, late_s = MetricsReader(self.api, self.name), list[float]()
        try:
            with metrics.reading():
                yield from self._observe(clock, stop, metrics, late_s)
        finally:
            api = {"late_median_s": round(median(late_s), 3), "late_at_most_s": round(max(late_s), 3)} if late_s else {}
            self.facts["sources"] = {"rest_api": {"read_every_s": _LOOK_S, **api}, "metrics": metrics.facts}

    def _observe(
        self, clock: RunClock, stop: threading.Event, metrics: MetricsReader, late_s: list[float]
    ) -> Iterator[Observation]:
        """``late_s``: gets how old each answer of the REST API made the one before."""
        watches = {name: DeploymentWatch(name, target) for name, target in self.targets.items()}
        machines, sampler = NodeWatch(), Sampler()
        answered_t = next_t = nodes_t = seen_t = time.monotonic()
        while not stop.is_set():
            asked_t = time.monotonic()
            try:
                details = self.api.details(timeout_s=5.0)
                nodes = self.api.nodes(timeout_s=5.0) if time.monotonic() >= nodes_t else None
            except MlscaleError as error:
                if time.monotonic() - answered_t > _SILENT_S:
                    raise ObservationLost(error.what, error.where, "the run can't be completed; repeat it") from error
            else:
                t, since = time.monotonic(), answered_t
                deployments = rest.deployments_of(details, self.name)
                if not deployments:
                    raise ObservationLost("somebody has removed it", f"application {self.name}", "repeat the run")
                if nodes is not None:
                    yield from machines.take(nodes, t - clock.origin_s, t - seen_t)
                    seen_t, nodes_t = t, t + _NODES_S
                exports = list(metrics.new())
                for name, watch in watches.items():
                    for message in watch.take(deployments[name], t, since, exports):
                        observation = to_observation(message, clock.origin_s)
                        if isinstance(observation, ReplicaSample):
                            yield replace(observation, machines_desired=machines.alive, machines_ready=machines.alive)
                        elif observation is not None:
                            yield observation
                late_s.append(t - since)
                answered_t = asked_t
            if self.remote is None:
                yield from sampler.sample(clock, "", self.load_cgroup.usage)
            next_t = max(next_t + _LOOK_S, time.monotonic())
            stop.wait(next_t - time.monotonic())


class NodeWatch:
    """Turns the cluster's nodes into events of machines; those that were there at first have none. Nobody tells when a
    node was asked for: Ray's autoscaler, or KubeRay's, decides elsewhere."""

    def __init__(self) -> None:
        self._known: set[str] | None = None

    @property
    def alive(self) -> int:
        """Nodes at the last look."""
        return len(self._known or ())

    def take(self, nodes: Sequence[rest.Json], t_s: float, within_s: float) -> Iterator[Event]:
        """``nodes``: read at ``t_s`` of the run's clock; the ones before were read ``within_s`` earlier."""
        starts = {str(node["node_id"]): node.get("start_time_ms") for node in nodes if node["state"] == "ALIVE"}
        known, self._known = self._known, set(starts)
        if known is None:
            return
        for name in sorted(self._known - known):
            began_ms = starts[name]
            at = None if began_ms is None else datetime.fromtimestamp(began_ms / 1000, UTC).isoformat()
            yield Event(t_s, "", "machine_registered", name, source_time=at, known_within_s=within_s)
        for name in sorted(known - self._known):
            yield Event(t_s, "", "machine_removed", name, known_within_s=within_s)


class DeploymentWatch:
    """Turns what REST API and metrics say of one deployment into an agent's messages (`mlscale.environments.agent`)."""

    def __init__(self, component: str, requests_per_replica: float) -> None:
        self._component, self._per_replica = component, requests_per_replica
        self._messages: list[dict[str, Any]] = []
        self._emitter = _Kept(self._messages)
        self._replicas = ReplicaWatch(component, self._emitter, lambda pid: None)
        self._target: int | None = None
        self._requests = 0.0

    def take(
        self, deployment: rest.Json, t: float, since: float, exports: Sequence[Export] = ()
    ) -> list[dict[str, Any]]:
        """``deployment``: its ``DeploymentDetails``, read at ``t``; the ones before were asked for at ``since``.
        ``exports``: new ones of the metrics."""
        target = int(deployment["target_num_replicas"])
        if self._target is not None and target != self._target:
            detail = {"from": self._target, "to": target, "reason": _reason(deployment)}
            self._emitter.event(self._component, "scale_decision", t=t, known_within_s=t - since, detail=detail)
        self._target = target
        # Processes of other machines have no process id here: replicas are named as Ray names them.
        views = [
            ReplicaView(each["replica_id"], each["state"], None, each.get("start_time_s"), each.get("node_ip"))
            for each in deployment["replicas"]
        ]
        self._replicas.poll(t, since, views, target)
        for export in exports:
            self._count(export, target)
        messages, self._messages[:] = list(self._messages), []
        return messages

    def _count(self, export: Export, target: int) -> None:
        """Report the requests that the autoscaler counts, which are the reason of its decisions and come after them."""
        requests = export.requests.get(self._component)
        if requests is None or requests == self._requests:
            return
        self._requests, raw = requests, requests / self._per_replica
        text = f"{requests:.2f} requests queued or in service / {self._per_replica:g} a replica = {raw:.2f} (metrics)"
        self._emitter.event(
            self._component,
            "scale_decision",
            t=export.t,
            known_within_s=export.t - export.since,
            detail={"from": target, "to": target, "reason": text, "total": requests, "raw": raw},
        )


class _Kept(Emitter):
    """Keeps messages instead of writing them."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        super().__init__()
        self._messages = messages

    def send(self, kind: str, /, **fields: Any) -> None:
        self._messages.append({"type": kind, **fields})


def _reason(deployment: rest.Json) -> str:
    """What Ray says of its last decision; its experimental ``autoscaling_detail`` is seldom there."""
    decisions = (deployment.get("autoscaling_detail") or {}).get("decisions") or ()
    return str(decisions[-1]["reason"]) if decisions else str(deployment.get("message") or "Ray gives no reason")


def problems(settings: RayServeScaling) -> list[Problem]:
    """Why the cluster can't be used; asks it only what it has and runs."""
    api = rest.ServeApi(settings.address)
    try:
        rest.without_application(details := api.details(), "")
        _url(api, details, "")
        if settings.load_from:
            load_node.check(api, settings.load_from)
            _url(api, details, "", load_node.head_ip(api))
    except MlscaleError as error:
        return [Problem.of(error)]
    return []


@contextmanager
def deployed_on(
    app: App, settings: Mapping[str, RayServeScaling], ledger: Ledger, warm_up: Sequence[bytes]
) -> Iterator[ExistingDeployed]:
    """The application beside what runs on the cluster, after every body of ``warm_up`` was served twice. On leaving it
    is removed, and Serve shut down if it did not run before.

    Raises:
        MlscaleError: Ray refuses the application or can't start it, with its message.
    """
    front = settings[app.front]
    api, name = rest.ServeApi(front.address), f"mlscale-{uuid.uuid4().hex[:8]}"
    details = api.details()
    node = load_node.find(api, front.load_from) if front.load_from else None
    with open_load_cgroup(ledger) as load_cgroup:
        entry = ledger.intend(KIND, address=api.address, name=name, served=rest.runs_serve(details))
        try:
            began_s = time.monotonic()
            api.put(rest.with_application(details, application(name, app, settings)))
            details = _wait_running(api, name, settings)
            url = _url(api, details, name)
            _warm_up(url, warm_up, 2 * max(1, *(one.min_replicas for one in settings.values())))
            deployments = rest.deployments_of(details, name)
            facts = {
                "deployments": {part: deployments[part]["deployment_config"] for part in settings},
                "deploy_s": round(time.monotonic() - began_s, 3),
                "http_options": details.get("http_options"),
                "proxy_location": details.get("proxy_location"),
                "node_cpus": {
                    each["node_ip"]: each["resources_total"].get("CPU", 0.0)
                    for each in api.nodes()
                    if each["state"] == "ALIVE"
                },
                "load": load_cgroup.facts if node is None else {"remote": f"a task on Ray's node {node['node_ip']}"},
                "limits": _asked(url),
                "sandbox": {"limited": False, "reasons": ["Ray limits no replica: num_cpus is bookkeeping"]},
            }
            remote = None if node is None else load_node.prefix(api, node, front.working_dir)
            if node is not None:
                url = _url(api, details, name, load_node.head_ip(api))
            targets = {part.name: settings[part.name].target_ongoing_requests for part in callees_first(app)}
            versions = {"ray": api.version()}
            yield ExistingDeployed(api, name, targets, url, load_cgroup, remote, facts, versions)
        finally:

            def end() -> None:
                remove(api, name, served=bool(entry.identity["served"]))
                ledger.done(entry)

            despite_interrupt(end)


def application(name: str, app: App, settings: Mapping[str, RayServeScaling]) -> dict[str, Any]:
    """Its ``ServeApplicationSchema``."""
    parts = [
        {
            "name": component.name,
            "entry": component.entry,
            "calls": list(component.calls),
            "options": deployment_options(settings[component.name].model_dump(mode="json"), component.name),
        }
        for component in callees_first(app)
    ]
    working_dir = settings[app.front].working_dir
    return {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "mlscale.environments.rayserve.application:build",
        "args": {"components": parts},
        "runtime_env": {"working_dir": working_dir} if working_dir else {},
    }


def remove(api: rest.ServeApi, name: str, *, served: bool) -> None:
    """Remove the application and wait until it is gone; shut Serve down if it did not run before (``served``) and
    nothing else runs there now. Idempotent.

    Raises:
        MlscaleError: it is still there after two minutes, or the cluster does not answer.
    """
    deadline_s, asked = time.monotonic() + _GONE_S, False
    while rest.runs_serve(details := api.details()):
        others = details["applications"].keys() - {name}
        if not served and not others:
            api.shut_down()
        elif name not in details["applications"]:
            return
        elif not asked:
            api.put(rest.without_application(details, name))
            asked = True
        if time.monotonic() > deadline_s:
            raise MlscaleError(f"still there after {_GONE_S:g} s", f"application {name}", "mlscale cleanup")
        time.sleep(_LOOK_S)


def reap(entry: LedgerEntry) -> None:
    """Remove the application that a ledger entry names.

    Raises:
        TargetUnreachable: its cluster does not answer now; the entry stays in the ledger.
    """
    try:
        remove(rest.ServeApi(entry.identity["address"]), entry.identity["name"], served=entry.identity["served"])
    except rest.Unreachable as error:
        raise TargetUnreachable(error.what, error.where, "mlscale cleanup, once it answers") from error


def _wait_running(api: rest.ServeApi, name: str, settings: Mapping[str, RayServeScaling]) -> rest.Json:
    """What runs there, once every component has its first replicas. Raises MlscaleError."""
    deadline_s = time.monotonic() + _START_S
    while True:
        details = api.details()
        found = details["applications"].get(name) or {}
        deployments = rest.deployments_of(details, name)
        if found.get("status") == "RUNNING" and all(
            part in deployments and rest.running(deployments[part]) >= scaling.min_replicas
            for part, scaling in settings.items()
        ):
            return details
        messages = [found.get("message", ""), *(each.get("message", "") for each in deployments.values())]
        said = "; ".join(dict.fromkeys(text.strip()[-500:] for text in messages if text)) or "Ray says nothing"
        remedy = (
            "every node needs mlscale and what the model imports, at this version of Python: in its image, or in a "
            "package (--scaling working_dir=URI)"
        )
        if found.get("status") in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise MlscaleError(f"Ray can't start it: {said}", f"application {name}", remedy)
        if time.monotonic() > deadline_s:
            raise MlscaleError(f"not ready after {_START_S:g} s: {said}", f"application {name}", remedy)
        time.sleep(_LOOK_S)


def _url(api: rest.ServeApi, details: rest.Json, name: str, head: str = "") -> str:
    """Where its proxy on the head node listens, as seen from here, or from where the head is ``head``. Raises
    MlscaleError: on the head's own loopback."""
    options = details.get("http_options") or {}
    head, host = head or urlsplit(api.address).hostname or "", options.get("host") or "0.0.0.0"
    if host in ("127.0.0.1", "localhost") and head not in ("127.0.0.1", "localhost"):
        raise MlscaleError(
            f"Serve's proxy listens on {host} of the head node only",
            f"Ray at {api.address}",
            "start Serve with http_options host 0.0.0.0",
        )
    return f"http://{head}:{options.get('port') or 8000}/{name}"


def _warm_up(url: str, bodies: Sequence[bytes], times: int) -> None:
    """POST every body so often, one after the other. Raises MlscaleError if the answer is a 5xx."""
    for number, body in enumerate(bodies):
        for _ in range(times):
            try:
                with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=_WARM_UP_S):
                    pass
            except urllib.error.HTTPError as error:
                if error.code >= 500:
                    said = error.read().decode(errors="replace")[:300]
                    where = f"warm-up body {number}"
                    raise MlscaleError(
                        f"answered {error.code}: {said}", where, "fix the component or the body"
                    ) from error
            except OSError as error:
                raise MlscaleError(f"Serve's proxy does not answer: {error}", url, "open its port") from error


def _asked(url: str) -> Any:
    """What a replica says of what limits it."""
    with contextlib.suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=_WARM_UP_S) as response:
        return json.loads(response.read())
    return None
