"""The manifests of all objects of a run. Pure.

They are in the run's own namespace, and the ConfigMap ``mlscale-run`` owns all others: deleting either deletes
everything. A component calls another at its Service's ClusterIP, which the API server assigns: so Services are created
first, and the Deployments contain their addresses. No DNS is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.names import (
    BUFFER,
    BUFFER_PRIORITY,
    COMPONENT,
    HTTP_SCALER,
    HTTP_SCALER_PORT,
    KEDA_NAMESPACE,
    MANAGED_BY,
    PORT,
    ROLE,
    RUN,
    RUN_HEADER,
    TOOL,
)
from mlscale.environments.kubernetes.settings import KubernetesScaling, ZeroScaling

OWNER: Final = "mlscale-run"
CONTAINER: Final = "app"
# Path to POST bodies to.
PATH: Final = "/decode"
# Largest body that a called component accepts: a client's (10 MB) and what was detected in it.
_CALLED_BYTES: Final = 12_000_000
# How long the first replica may take to start, s.
_FIRST_START_S: Final = 240
# Not a user of the node; as in containers/app/Dockerfile.
USER: Final = 65532

# The DNS name of KEDA's HTTP add-on, as its Helm chart installs it.
HTTP_SCALER_ADDRESS: Final = f"{HTTP_SCALER}.{KEDA_NAMESPACE}:{HTTP_SCALER_PORT}"

ServiceType = Literal["NodePort", "LoadBalancer", "ClusterIP"]


@dataclass(frozen=True)
class Packaging:
    """How the application gets into its container.

    ``mounts``: folders and files of the node, mounted read-only at the same path (on our own cluster only).
    """

    image: str
    command: tuple[str, ...]
    pull_policy: Literal["IfNotPresent", "Never"] = "IfNotPresent"
    mounts: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DeployedComponent:
    """One deployed component of an application. ``front``: load goes to it; ``calls``: components that it calls."""

    name: str
    entry: str
    scaling: KubernetesScaling
    packaging: Packaging
    front: bool = True
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """What a run deploys. ``app``: the application's name; ``run``: the identifier that labels all objects."""

    namespace: str
    run: str
    app: str
    parts: tuple[DeployedComponent, ...]
    service_type: ServiceType = "NodePort"
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that its pods may run on."""
    buffer_replicas: int = 0
    """Replicas to reserve room for, by pods that are preempted."""
    buffer_image: str = "registry.k8s.io/pause:3.10"
    """Image of those pods."""
    http_scaler: str = HTTP_SCALER_ADDRESS
    """Where KEDA asks its HTTP add-on for requests."""

    @property
    def held(self) -> bool:
        """Whether requests pass KEDA's interceptor, which holds them while nothing runs."""
        return self.front.scaling.min_replicas == 0

    @property
    def front(self) -> DeployedComponent:
        """The component that load goes to."""
        return next(part for part in self.parts if part.front)


def namespace(wanted: Deployment) -> Json:
    """The run's namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": wanted.namespace, "labels": _labels(wanted)},
    }


def owner(wanted: Deployment) -> Json:
    """The ConfigMap that owns all other objects."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": OWNER, "namespace": wanted.namespace, "labels": _labels(wanted)},
        "data": {"run": wanted.run, "app": wanted.app, "components": " ".join(part.name for part in wanted.parts)},
    }


def services(wanted: Deployment, owner_uid: str) -> list[Json]:
    """A Service for each component, to be applied before the Deployments."""
    return [_service(wanted, part, owner_uid) for part in wanted.parts]


def addresses(applied: Sequence[Json]) -> dict[str, str]:
    """Component -> URL to POST its bodies to, from Services as the API server returned them."""
    ips = {each["metadata"]["name"]: str(each["spec"]["clusterIP"]) for each in applied}
    return {name: http_url(ip, PORT) + PATH for name, ip in ips.items() if ip != "None"}


def http_url(host: str, port: int) -> str:
    """ "http://10.0.0.7:8080"; an IPv6 address in brackets."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def objects(wanted: Deployment, owner_uid: str, reached_at: Mapping[str, str]) -> list[Json]:
    """All other objects, in the order to apply them: disruption budgets first, autoscalers last.

    Args:
        reached_at: `addresses` of the components that are called.
    """
    manifests: list[Json] = []
    for part in wanted.parts:
        if part.scaling.min_available is not None:
            manifests.append(_budget(wanted, part, owner_uid))
        manifests.append(_deployment(wanted, part, owner_uid, reached_at))
    if wanted.buffer_replicas:
        manifests.append(_buffer(wanted, owner_uid))
    if wanted.held:
        manifests.append(_route(wanted, owner_uid))
    return manifests + [_autoscaler(wanted, part, owner_uid) for part in wanted.parts if not part.scaling.fixed]


def front_service(wanted: Deployment, kind: ServiceType, owner_uid: str) -> Json:
    """The front component's Service, with type ``kind``."""
    return _service(replace(wanted, service_type=kind), wanted.front, owner_uid)


def selector(wanted: Deployment, part: DeployedComponent) -> dict[str, str]:
    """The labels that select the pods of a part."""
    return {RUN: wanted.run, COMPONENT: part.name}


def _labels(wanted: Deployment, part: DeployedComponent | None = None) -> dict[str, str]:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", wanted.app)[:63].strip("._-")  # what a label may hold
    labels = {MANAGED_BY: TOOL, "app.kubernetes.io/name": name, RUN: wanted.run}
    return labels if part is None else labels | {COMPONENT: part.name}


def _metadata(wanted: Deployment, part: DeployedComponent, owner_uid: str) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": OWNER, "uid": owner_uid}
    return {
        "name": part.name,
        "namespace": wanted.namespace,
        "labels": _labels(wanted, part),
        "ownerReferences": [reference],
    }


def _service(wanted: Deployment, part: DeployedComponent, owner_uid: str) -> Json:
    spec = {
        "type": wanted.service_type if part.front else "ClusterIP",
        "selector": selector(wanted, part),
        "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
    }
    return _object("v1", "Service", _metadata(wanted, part, owner_uid), spec)


def _budget(wanted: Deployment, part: DeployedComponent, owner_uid: str) -> Json:
    spec = {"minAvailable": part.scaling.min_available, "selector": {"matchLabels": selector(wanted, part)}}
    return _object("policy/v1", "PodDisruptionBudget", _metadata(wanted, part, owner_uid), spec)


def _deployment(wanted: Deployment, part: DeployedComponent, owner_uid: str, reached_at: Mapping[str, str]) -> Json:
    pod = _pod(wanted, part, reached_at)
    metadata = _metadata(wanted, part, owner_uid)
    replicas = max(1, part.scaling.min_replicas)  # one has to start for the warm-up
    return _pods(metadata, replicas, selector(wanted, part), _labels(wanted, part), pod)


def _pods(metadata: Json, replicas: int, selected: Mapping[str, str], labels: Mapping[str, str], pod: Json) -> Json:
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": selected},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return _object("apps/v1", "Deployment", metadata, spec)


def _object(version: str, kind: str, metadata: Json, spec: Json) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _buffer(wanted: Deployment, owner_uid: str) -> Json:
    """Idle pods with the front's requests, preempted at once when a replica needs their room."""
    labels = {RUN: wanted.run, ROLE: BUFFER}
    pod = {
        "priorityClassName": BUFFER_PRIORITY,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "nodeSelector": dict(wanted.selector),
        "containers": [
            {
                "name": BUFFER,
                "image": wanted.buffer_image,
                "imagePullPolicy": "IfNotPresent",
                "resources": {"requests": resource_requests(wanted.front.scaling)},
            }
        ],
    }
    metadata = _metadata(wanted, wanted.front, owner_uid) | {"name": BUFFER, "labels": _labels(wanted)}
    return _pods(metadata, wanted.buffer_replicas, labels, _labels(wanted) | labels, pod)


def resource_requests(scaling: KubernetesScaling) -> dict[str, str]:
    """What a replica reserves of a node."""
    return {"cpu": f"{round(scaling.cpu_cores * 1000)}m", "memory": f"{scaling.memory_mib}Mi"}


def _pod(wanted: Deployment, part: DeployedComponent, reached_at: Mapping[str, str]) -> Json:
    scaling = part.scaling
    return {
        **({"nodeSelector": dict(wanted.selector)} if wanted.selector else {}),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": scaling.grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(part, reached_at)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            *(
                {"name": f"host-{number}", "hostPath": {"path": path}}
                for number, path in enumerate(part.packaging.mounts)
            ),
        ],
    }


def _container(part: DeployedComponent, reached_at: Mapping[str, str]) -> Json:
    scaling, packaging = part.scaling, part.packaging
    requests = resource_requests(scaling)
    drain = {"lifecycle": {"preStop": {"sleep": {"seconds": scaling.drain_delay_s}}}} if scaling.drain_delay_s else {}
    return {
        "name": CONTAINER,
        "image": packaging.image,
        "imagePullPolicy": packaging.pull_policy,
        "command": [*packaging.command, *_options(part), *_component_options(part, reached_at)],
        "env": _environment(packaging.environment),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": requests, "limits": {"cpu": requests["cpu"]}},
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "http"},
            "periodSeconds": scaling.readiness_period_s,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            *(
                {"name": f"host-{number}", "mountPath": path, "readOnly": True}
                for number, path in enumerate(packaging.mounts)
            ),
        ],
        **drain,
    }


def _options(part: DeployedComponent) -> list[str]:
    scaling = part.scaling
    averaging = ["--in-flight-window", f"{scaling.metric_window_s:g}"] if scaling.metric == "in_flight" else []
    return ["--entry", part.entry, "--port", str(PORT), "--waiting", str(scaling.max_waiting), *averaging]


def _component_options(part: DeployedComponent, reached_at: Mapping[str, str]) -> list[str]:
    """Options of a component that calls others or is called."""
    calls = [option for name in part.calls for option in ("--call", f"{name}={reached_at[name]}")]
    own = ["--component", part.name, *calls] if part.calls else []
    return own if part.front else [*own, "--max-bytes", str(_CALLED_BYTES)]


def _environment(more: Mapping[str, str]) -> list[Json]:
    fixed = {
        "HOME": "/tmp",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    name = {"name": "MLSCALE_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return [name, *({"name": key, "value": value} for key, value in (fixed | dict(more)).items())]


def _autoscaler(wanted: Deployment, part: DeployedComponent, owner_uid: str) -> Json:
    made = autoscaler(part.name, part.scaling, wanted.namespace, wanted.http_scaler)
    return {**made, "metadata": _metadata(wanted, part, owner_uid)}


def _route(wanted: Deployment, owner_uid: str) -> Json:
    front = wanted.front
    rule = {"hosts": ["*"], "headers": [{"name": RUN_HEADER, "value": wanted.run}]}
    return {**route(front.name, front.scaling, rule), "metadata": _metadata(wanted, front, owner_uid)}


def route(name: str, scaling: KubernetesScaling, rule: Json) -> Json:
    """What KEDA's interceptor does with the requests that ``rule`` selects: count them, and send them to the Service
    ``name`` once a pod is ready."""
    spec = {
        "target": {"service": name, "port": PORT},
        "rules": [rule],
        "scalingMetric": {"concurrency": {"targetValue": round(scaling.target_in_flight)}},
    }
    return _object("http.keda.sh/v1beta1", "InterceptorRoute", {"name": name}, spec)


def autoscaler(
    name: str,
    scaling: KubernetesScaling,
    namespace: str,
    http_scaler: str = HTTP_SCALER_ADDRESS,
    more_triggers: Sequence[Json] = (),
) -> Json:
    """What scales the Deployment ``name``, whose Service has the same name: a HorizontalPodAutoscaler; by requests in
    flight, or with triggers beside the metric, a ScaledObject, of which KEDA makes a HorizontalPodAutoscaler called
    ``name``.

    Args:
        http_scaler: where KEDA asks its HTTP add-on, if there may be no replica.
    """
    if scaling.metric == "cpu" and not more_triggers:
        return _hpa(name, scaling)
    if scaling.metric == "cpu":
        target = {"value": str(scaling.target_cpu_percent)}
        trigger: Json = {"type": "cpu", "metricType": "Utilization", "metadata": target}
    elif scaling.min_replicas == 0:
        trigger = _interceptor_trigger(name, http_scaler)
    else:
        trigger = _gauge_trigger(name, scaling, namespace)
    return _scaled_object(name, scaling, [trigger, *more_triggers])


def _scaled_object(name: str, scaling: KubernetesScaling, triggers: Sequence[Json]) -> Json:
    behaviour = _behaviour(scaling)
    spec = {
        "scaleTargetRef": {"name": name},
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "triggers": [*triggers],
        "advanced": {
            "horizontalPodAutoscalerConfig": {"name": name, **({"behavior": behaviour} if behaviour else {})},
        },
    }
    if isinstance(scaling, ZeroScaling):
        spec |= {"pollingInterval": scaling.polling_interval_s, "cooldownPeriod": scaling.cooldown_s}
    if scaling.min_replicas == 0:  # else the first replica ends before it has started: no request has been seen yet
        spec |= {"initialCooldownPeriod": _FIRST_START_S}
    return _object("keda.sh/v1alpha1", "ScaledObject", {"name": name}, spec)


def _interceptor_trigger(name: str, http_scaler: str) -> Json:
    """Requests that the interceptor holds or that are being answered, for the InterceptorRoute ``name``; it reports the
    first one by itself."""
    return {"type": "external-push", "metadata": {"scalerAddress": http_scaler, "interceptorRoute": name}}


def _gauge_trigger(name: str, scaling: KubernetesScaling, namespace: str) -> Json:
    """Metrics API scaler: KEDA reads the gauge of every ready pod when the HPA asks, and adds them up."""
    source = {
        "url": f"http://{name}.{namespace}.svc:{PORT}/metrics",
        "format": "prometheus",
        "valueLocation": scaling.in_flight_metric,
        "aggregateFromKubeServiceEndpoints": "true",
        "aggregationType": "sum",
        "targetValue": f"{scaling.target_in_flight:g}",
    }
    return {"type": "metrics-api", "metricType": "AverageValue", "metadata": source}


def _hpa(name: str, scaling: KubernetesScaling) -> Json:
    behaviour = _behaviour(scaling)
    target = {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        **({"behavior": behaviour} if behaviour else {}),
    }
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", {"name": name}, spec)


def _behaviour(scaling: KubernetesScaling) -> dict[str, Any]:
    """Only what the settings give: the API server fills in the rest; without any, the controller's flags apply."""
    pairs: Sequence[tuple[str, int | None]] = (
        ("scaleUp", scaling.upscale_stabilisation_s),
        ("scaleDown", scaling.downscale_stabilisation_s),
    )
    return {name: {"stabilizationWindowSeconds": seconds} for name, seconds in pairs if seconds is not None}
