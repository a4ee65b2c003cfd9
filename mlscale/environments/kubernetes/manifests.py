"""Every object of a run, rendered in one place: pure.

All lie in a namespace of the run's own, and the ConfigMap ``mlscale-run`` owns all others in it: deleting either
deletes all. A component reaches another at the address of the other's Service, which the API server chooses: so the
Services come first, and their addresses stand in the Deployments. That needs no DNS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.environments.kubernetes_names import (
    BUFFER,
    BUFFER_PRIORITY,
    COMPONENT,
    IN_FLIGHT,
    MANAGED_BY,
    PORT,
    ROLE,
    RUN,
    TOOL,
    WINDOW_LABEL,
)

OWNER: Final = "mlscale-run"
CONTAINER: Final = "app"
# Where a component takes bodies.
PATH: Final = "/decode"
# What a called component takes: the largest photo that is served (10 MB), and what was found in it.
_CALLED_BYTES: Final = 12_000_000
# No user of the node's; the same as in containers/app/Dockerfile.
USER: Final = 65532

ServiceType = Literal["NodePort", "LoadBalancer", "ClusterIP"]


@dataclass(frozen=True)
class Packaging:
    """How the application gets into its container.

    ``mounts`` are folders and files of the node, mounted read-only where they lie there (our own cluster alone).
    """

    image: str
    command: tuple[str, ...]
    pull_policy: Literal["IfNotPresent", "Never"] = "IfNotPresent"
    mounts: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One component of an application as it is deployed. ``front``: load comes in here; ``calls``: the components that
    it calls."""

    name: str
    entry: str
    scaling: KubernetesScaling
    packaging: Packaging
    front: bool = True
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """What a run deploys: ``app`` is the application's name, ``run`` the identifier all objects are labelled with."""

    namespace: str
    run: str
    app: str
    parts: tuple[Part, ...]
    service_type: ServiceType = "NodePort"
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that its pods may go to."""
    buffer_replicas: int = 0
    """So much room of replicas is kept free, by pods that give way."""
    buffer_image: str = "registry.k8s.io/pause:3.10"
    """What those run."""


def namespace(wanted: Deployment) -> Json:
    """The run's namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": wanted.namespace, "labels": _labels(wanted)},
    }


def owner(wanted: Deployment) -> Json:
    """The ConfigMap that owns all the rest."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": OWNER, "namespace": wanted.namespace, "labels": _labels(wanted)},
        "data": {"run": wanted.run, "app": wanted.app, "components": " ".join(part.name for part in wanted.parts)},
    }


def services(wanted: Deployment, owner_uid: str) -> list[Json]:
    """The way to each component, to be applied before what it leads to."""
    return [_service(wanted, part, owner_uid) for part in wanted.parts]


def addresses(applied: Sequence[Json]) -> dict[str, str]:
    """Component -> where others POST bodies for it; of Services as the API server holds them."""
    found = {each["metadata"]["name"]: str(each["spec"]["clusterIP"]) for each in applied}
    return {name: f"http://{f'[{ip}]' if ':' in ip else ip}:{PORT}{PATH}" for name, ip in found.items() if ip != "None"}


def objects(wanted: Deployment, owner_uid: str, reached_at: Mapping[str, str]) -> list[Json]:
    """All the rest, in the order to apply them in: what limits disruption first, what decides last.

    Args:
        reached_at: see `addresses`; of the components that are called.
    """
    made: list[Json] = []
    for part in wanted.parts:
        if part.scaling.min_available is not None:
            made.append(_budget(wanted, part, owner_uid))
        made.append(_deployment(wanted, part, owner_uid, reached_at))
    if wanted.buffer_replicas:
        made.append(_buffer(wanted, owner_uid))
    return made + [_hpa(wanted, part, owner_uid) for part in wanted.parts if not part.scaling.fixed]


def front_service(wanted: Deployment, kind: ServiceType, owner_uid: str) -> Json:
    """The Service that load comes in by, with another way in."""
    front = next(part for part in wanted.parts if part.front)
    return _service(replace(wanted, service_type=kind), front, owner_uid)


def selector(wanted: Deployment, part: Part) -> dict[str, str]:
    """The labels that a part's pods, and no others, have."""
    return {RUN: wanted.run, COMPONENT: part.name}


def _labels(wanted: Deployment, part: Part | None = None) -> dict[str, str]:
    labels = {MANAGED_BY: TOOL, "app.kubernetes.io/name": wanted.app, RUN: wanted.run}
    return labels if part is None else labels | {COMPONENT: part.name}


def _metadata(wanted: Deployment, part: Part, owner_uid: str) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": OWNER, "uid": owner_uid}
    return {
        "name": part.name,
        "namespace": wanted.namespace,
        "labels": _labels(wanted, part),
        "ownerReferences": [reference],
    }


def _service(wanted: Deployment, part: Part, owner_uid: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(wanted, part, owner_uid),
        "spec": {
            "type": wanted.service_type if part.front else "ClusterIP",
            "selector": selector(wanted, part),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def _budget(wanted: Deployment, part: Part, owner_uid: str) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(wanted, part, owner_uid),
        "spec": {
            "minAvailable": part.scaling.min_available,
            "selector": {"matchLabels": selector(wanted, part)},
        },
    }


def _deployment(wanted: Deployment, part: Part, owner_uid: str, reached_at: Mapping[str, str]) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(wanted, part, owner_uid),
        "spec": {
            "replicas": part.scaling.min_replicas,
            "selector": {"matchLabels": selector(wanted, part)},
            "template": {"metadata": {"labels": _labels(wanted, part)}, "spec": _pod(wanted, part, reached_at)},
        },
    }


def _buffer(wanted: Deployment, owner_uid: str) -> Json:
    """Pods that do nothing, as large as the front's, and are ended at once where a replica needs their room."""
    front = next(part for part in wanted.parts if part.front)
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
                "resources": {"requests": _requests(front.scaling)},
            }
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(wanted, front, owner_uid) | {"name": BUFFER, "labels": _labels(wanted)},
        "spec": {
            "replicas": wanted.buffer_replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": _labels(wanted) | labels}, "spec": pod},
        },
    }


def _requests(scaling: KubernetesScaling) -> dict[str, str]:
    return {"cpu": f"{round(scaling.cpu_cores * 1000)}m", "memory": f"{scaling.memory_mib}Mi"}


def _pod(wanted: Deployment, part: Part, reached_at: Mapping[str, str]) -> Json:
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


def _container(part: Part, reached_at: Mapping[str, str]) -> Json:
    scaling, packaging = part.scaling, part.packaging
    requests = _requests(scaling)
    drain = {"lifecycle": {"preStop": {"sleep": {"seconds": scaling.drain_delay_s}}}} if scaling.drain_delay_s else {}
    return {
        "name": CONTAINER,
        "image": packaging.image,
        "imagePullPolicy": packaging.pull_policy,
        "command": [*packaging.command, *_options(part), *_composed(part, reached_at)],
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


def _options(part: Part) -> list[str]:
    return ["--entry", part.entry, "--port", str(PORT), "--waiting", str(part.scaling.max_waiting)]


def _composed(part: Part, reached_at: Mapping[str, str]) -> list[str]:
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


def _hpa(wanted: Deployment, part: Part, owner_uid: str) -> Json:
    scaling = part.scaling
    behaviour = _behaviour(scaling)
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(wanted, part, owner_uid),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": part.name},
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [_metric(part)],
            **({"behavior": behaviour} if behaviour else {}),
        },
    }


def _metric(part: Part) -> Json:
    scaling = part.scaling
    if scaling.metric == "cpu":
        target: Json = {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent}
        return {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    labels = {"component": part.name, WINDOW_LABEL: str(round(scaling.metric_window_s * 1000))}
    target = {"type": "AverageValue", "averageValue": f"{round(scaling.target_in_flight * 1000)}m"}
    metric = {"name": IN_FLIGHT, "selector": {"matchLabels": labels}}
    return {"type": "External", "external": {"metric": metric, "target": target}}


def _behaviour(scaling: KubernetesScaling) -> dict[str, Any]:
    """Only what was asked for: the API server fills the rest in, and without any the controller's flags hold."""
    pairs: Sequence[tuple[str, int | None]] = (
        ("scaleUp", scaling.upscale_stabilisation_s),
        ("scaleDown", scaling.downscale_stabilisation_s),
    )
    return {name: {"stabilizationWindowSeconds": seconds} for name, seconds in pairs if seconds is not None}
