"""An environment on Kubernetes: containers scaled by its HorizontalPodAutoscaler, on the cluster of the kubeconfig.

What `k3s` and `eks` share; they differ in where their pods are placed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any, ClassVar, Final, Self

from mlscale.environments.base import App, Problem, Scaling, raise_fatal
from mlscale.environments.composition import app_problems, callees_first
from mlscale.environments.kubernetes import endpoint_probe, namespace
from mlscale.environments.kubernetes import preflight as kubernetes_preflight
from mlscale.environments.kubernetes.client import (
    Api,
    KubeContext,
    Query,
    Refused,
    connect,
    default_kubeconfig,
    no_kubeconfig,
)
from mlscale.environments.kubernetes.cluster import Cluster, look
from mlscale.environments.kubernetes.deployed import KubernetesDeployed
from mlscale.environments.kubernetes.endpoint import Endpoint, find_endpoint, inner_endpoint, interceptor_endpoint
from mlscale.environments.kubernetes.load_job import LEAD_S, body_maps
from mlscale.environments.kubernetes.manifests import PATH, DeployedComponent, Deployment, Packaging
from mlscale.environments.kubernetes.names import HTTP_SCALER, HTTP_SCALER_PORT, KEDA_NAMESPACE, RUN_HEADER
from mlscale.environments.kubernetes.namespace import new_name
from mlscale.environments.kubernetes.own_cluster import packaging
from mlscale.environments.kubernetes.paths import path_of
from mlscale.environments.kubernetes.rollout import Rollout, Watches
from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.load_cgroup import open_load_cgroup
from mlscale.host.state import own_kubeconfig
from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.remote import prefix, refuse_local_files
from mlscale.runs import ClosedLoop, Level, MlscaleError, Mode, OpenLoop

_START_S: Final = 240.0
_METRICS_S: Final = 90.0
_ROUNDS: Final = 2
# In the application's image (containers/app/Dockerfile).
_COMMAND: Final = ("python", "-m", "mlscale.serving.container")


@dataclass(frozen=True)
class Room:
    """Where a run's pods are placed: by default, on existing nodes.

    ``selector``: labels of the nodes that the pods may run on; ``follows``: lists to watch besides the namespace,
    source -> path and query; ``serving``: called once the application serves; ``machines_scale``: machines are added
    for pods that find no room; ``buffer_replicas``: replicas to reserve room for; ``facts``: for run.json.
    """

    selector: Mapping[str, str] = field(default_factory=dict)
    follows: Mapping[str, tuple[str, Query]] = field(default_factory=dict)
    serving: Callable[[], None] = lambda: None
    machines_scale: bool = False
    buffer_replicas: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


class KubernetesEnvironment:
    """See `mlscale.environments.base.Environment`. A subclass adds its name and where pods are placed."""

    name: ClassVar[str]
    level: ClassVar[Level]
    modes: ClassVar[frozenset[Mode]]
    settings: ClassVar[type[Scaling]] = KubernetesScaling
    ledger_kinds: ClassVar[frozenset[str]] = frozenset({namespace.KIND})

    _load: tuple[ClosedLoop | OpenLoop, BodySet] | None = None

    def for_load(self, schedule: ClosedLoop | OpenLoop, bodies: BodySet) -> Self:
        """The same, once it is known what will be sent: a pod can't send everything."""
        told = copy(self)
        told._load = schedule, bodies
        return told

    def arm(self, arm: str) -> KubernetesScaling:
        return KubernetesScaling.of_arm(arm)

    def start_up_s(self, scaling: Scaling) -> float:
        """The longest time from a load step until a new pod is ready: the HPA's sync period (15 s, the default, if the
        cluster sets it), doubled for CPU metrics, which lag by one window, plus 30 s for the pod (assumed)."""
        assert isinstance(scaling, KubernetesScaling)
        return (scaling.sync_period_s or 15.0) * (2 if scaling.metric == "cpu" else 1) + 30.0

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """What would prevent a run. Creates nothing, here or on the cluster."""
        problems = [*app_problems(self, app, scalings, mode, here=False), *kubernetes_preflight.name_problems(app)]
        try:
            if self._load is not None and self.loads_inside(mode):
                problems += _load_problems(*self._load)
            with closing(_connect()) as api:
                cluster = look(api)
                problems += kubernetes_preflight.cluster_problems(
                    api, app, scalings, cluster.own, cluster.kubelet, lambda: cluster.hpa_sync_s(api)
                )
                problems += self.no_room(api, cluster, scalings, mode)
        except Refused as refused:
            problems.append(Problem.of(refused.as_error(f"API server {refused.path}")))
        except MlscaleError as error:
            problems.append(Problem.of(error))
        return problems

    def no_room(self, api: Api, cluster: Cluster, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """Why the pods would not find room."""
        try:
            pods = api.get(path_of("Pod"))["items"]
        except Refused:  # a run does not need this right
            return []
        known = [scaling for scaling in scalings.values() if isinstance(scaling, KubernetesScaling)]
        return kubernetes_preflight.room_problems(cluster.nodes, pods, known)

    @contextmanager
    def room(self, api: Api, name: str, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger) -> Iterator[Room]:
        """Where the pods of the run ``name`` are placed, for as long as it lasts."""
        yield Room()

    def loads_inside(self, mode: Mode) -> bool:
        """Whether a pod on the cluster sends the load, to the ClusterIP, instead of this host."""
        return False

    def on_own_cluster(self) -> bool:
        """Whether the kubeconfig in use is that of ``make cluster``."""
        own = own_kubeconfig()
        return default_kubeconfig(own) == str(own)

    def description(self) -> str:
        """The cluster that the kubeconfig names, for the doctor.

        Raises:
            MlscaleError: it does not answer.
        """
        with closing(_connect()) as api:
            cluster = look(api)
            return f"{cluster.distribution} {cluster.versions['kubernetes']} at {api.server}"

    @contextmanager
    def deploy(
        self, app: App, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger, warm_up: Sequence[bytes]
    ) -> Iterator[KubernetesDeployed]:
        """A namespace with a Deployment, Service and HPA for each component, after every body of ``warm_up`` was served
        twice. Deleted on leaving.

        Raises:
            MlscaleError: a preflight problem, or what prevents the pods from serving (an image that can't be pulled, a
                quota, no room, a container that exits: with its last log lines).
        """
        raise_fatal(self.preflight(app, scalings, mode))
        name = new_name()
        with (
            closing(_connect()) as api,
            open_load_cgroup(ledger) as load_cgroup,
            self.room(api, name, scalings, mode, ledger) as room,
        ):
            cluster = look(api)
            deployment = _deployment(name, app, scalings, cluster, room)
            if deployment.held:
                deployment = replace(deployment, http_scaler=_http_scaler(api))
            with namespace.created(api, deployment, ledger):
                watches = Watches(api, deployment.namespace, room.follows)
                try:
                    watches.start()
                    inside = self.loads_inside(mode)
                    endpoint = _wait_serving(
                        api, deployment, watches, cluster, None if inside else warm_up, room.machines_scale
                    )
                    room.serving()
                    load = load_cgroup.facts
                    if inside:
                        load = {"remote": "a pod on a node of its own", "clock_within_s": api.skew().within_s}
                    hpas = watches.now("autoscalers")
                    facts = {**cluster.facts(api, hpas), "load": load, "way_in": endpoint.kind, **room.facts}
                    versions = {**cluster.versions, "kubernetes-client": version("kubernetes")}
                    usage = cluster.node_usage()
                    remote = self._remote_prefix(deployment, api, room) if inside else None
                    yield KubernetesDeployed(
                        api,
                        deployment,
                        watches,
                        load_cgroup,
                        usage,
                        endpoint.url + PATH,
                        facts,
                        versions,
                        _headers(deployment),
                        remote,
                    )
                finally:
                    watches.stop()

    def _remote_prefix(self, wanted: Deployment, api: Api, room: Room) -> list[str]:
        """argv for load that a pod sends, with the files that it mounts. Raises Refused."""
        maps = body_maps(wanted.namespace, self._load[1]) if self._load else []
        names = [str(each["metadata"]["name"]) for each in maps]
        for name, each in zip(names, maps, strict=True):
            api.apply(path_of("ConfigMap", name, wanted.namespace), each)
        return prefix(
            "mlscale.environments.kubernetes.load_job:PodJob",
            LEAD_S,
            kubeconfig=api.kube_context.kubeconfig,
            context=api.kube_context.context,
            namespace=wanted.namespace,
            packaging=asdict(wanted.front.packaging),
            never_on=dict(room.selector) if room.machines_scale else {},
            maps=names,
        )

    def reap(self, entry: LedgerEntry) -> None:
        """Delete the namespace that ``entry`` names, if its cluster answers."""
        namespace.reap(entry, own_kubeconfig())


def _connect() -> Api:
    kubeconfig = default_kubeconfig(own_kubeconfig())
    if kubeconfig is None:
        raise no_kubeconfig("KUBECONFIG, ~/.kube/config")
    return connect(KubeContext(kubeconfig))


def _deployment(name: str, app: App, scalings: Mapping[str, Scaling], cluster: Cluster, room: Room) -> Deployment:
    parts = []
    for component in callees_first(app):
        scaling = scalings[component.name]
        assert isinstance(scaling, KubernetesScaling)
        image = scaling.image or app.image
        if image:
            packed = Packaging(image=image, command=_COMMAND)
        else:
            assert cluster.own is not None, "checked by preflight"
            packed = packaging(cluster.own)
        front = component.name == app.front
        parts.append(DeployedComponent(component.name, component.entry, scaling, packed, front, component.calls))
    deployment = Deployment(namespace=name, run=name, app=app.name, parts=tuple(parts))
    deployment = replace(deployment, selector=room.selector, buffer_replicas=room.buffer_replicas)
    return deployment if cluster.own is None else replace(deployment, buffer_image=cluster.own.pause_image)


def _wait_serving(
    api: Api,
    wanted: Deployment,
    watches: Watches,
    cluster: Cluster,
    warm_up: Sequence[bytes] | None,
    machines_scale: bool,
) -> Endpoint:
    """Wait until the application serves; returns where to send load. ``warm_up`` None: load from inside, which warms up
    by itself."""
    rollout = Rollout(api, wanted, watches, machines_scale=machines_scale or cluster.machines_scale)
    rollout.wait_ready(_START_S)
    if warm_up is None:
        rollout.wait_metrics(_METRICS_S)
        return inner_endpoint(api, wanted)
    preferred, headers = (cluster.own.node_address,) if cluster.own is not None else (), _headers(wanted)
    if wanted.held:
        endpoint = interceptor_endpoint(api, headers, cluster.nodes, preferred)
    else:
        endpoint = find_endpoint(api, wanted, cluster.nodes, preferred)
    replicas = max(1, *(part.scaling.min_replicas for part in wanted.parts))
    endpoint_probe.warm_up(endpoint.url, warm_up, _ROUNDS * replicas, headers)
    rollout.wait_metrics(_METRICS_S)
    return endpoint


def _headers(wanted: Deployment) -> Mapping[str, str]:
    """By which KEDA's interceptor knows whose request it is."""
    return {RUN_HEADER: wanted.run} if wanted.held else {}


def _http_scaler(api: Api) -> str:
    """Where KEDA asks its HTTP add-on; by address, since KEDA may run where the cluster's DNS does not reach."""
    spec = api.get(path_of("Service", HTTP_SCALER, KEDA_NAMESPACE))["spec"]
    return f"{spec['clusterIP']}:{HTTP_SCALER_PORT}"


def _load_problems(schedule: ClosedLoop | OpenLoop, bodies: BodySet) -> Iterator[Problem]:
    """Where a pod sends the load. Raises MlscaleError for a recorded trace."""
    refuse_local_files(schedule)
    if not body_maps("", bodies):
        what = "the files to send don't fit into ConfigMaps (1 MB each, 16 MB together, names of [-._a-zA-Z0-9])"
        yield Problem(what, "load", "build the image with them (containers/app/Dockerfile)", fatal=False)
