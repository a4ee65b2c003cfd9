"""Checks before a run on a cluster; they leave nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mlscale.environments.base import App, Problem, Scaling
from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.facts import external_metrics_server, quota_period_s
from mlscale.environments.kubernetes.hpa import quantity
from mlscale.environments.kubernetes.names import INTERCEPTOR, KEDA_NAMESPACE
from mlscale.environments.kubernetes.own_cluster import OwnNode
from mlscale.environments.kubernetes.paths import (
    ACCESS_REVIEWS,
    EXTERNAL_METRICS,
    HTTP_ADD_ON,
    KEDA,
    METRICS,
    group_and_plural,
    path_of,
)
from mlscale.environments.kubernetes.settings import KubernetesScaling

_TOLERANCE: Final = 1e-6
# Valid Service names (RFC 1035).
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_APPLY: Final = ("create", "patch")  # both, for what doesn't exist yet
_FOLLOW: Final = ("list", "watch")
_RIGHTS: Final[Mapping[str, Sequence[str]]] = {
    "Namespace": (*_APPLY, "get", "delete"),
    "ConfigMap": (*_APPLY, "get", "delete"),
    "Service": (*_APPLY, "get"),
    "Deployment": (*_APPLY, *_FOLLOW),
    "HorizontalPodAutoscaler": (*_APPLY, *_FOLLOW),
    "Pod": _FOLLOW,
    "Event": _FOLLOW,
}
_INSTALL_KEDA: Final = (
    "helm repo add kedacore https://kedacore.github.io/charts && "
    "helm install keda kedacore/keda --namespace keda --create-namespace; or use the arm shipped (CPU)"
)
_INSTALL_ADD_ON: Final = "helm install http-add-on kedacore/keda-add-ons-http --namespace keda; or set min_replicas=1"
_RIGHTS_REMEDY: Final = "ask an administrator for it; mlscale creates a namespace for each run"


def name_problems(app: App) -> list[Problem]:
    """Components whose name can't be that of their Service."""
    remedy = "use lower-case letters, digits and hyphens, a letter first"
    return [
        Problem("not a valid Service name", f"component {component.name}", remedy)
        for component in app.components
        if _NAME.fullmatch(component.name) is None
    ]


def cluster_problems(
    api: Api,
    app: App,
    scalings: Mapping[str, Scaling],
    own: OwnNode | None,
    kubelet: Json | None,
    hpa_sync_s: Callable[[], float],
) -> list[Problem]:
    """What the cluster lacks: permissions, metrics APIs, an image, or the settings' CFS period or HPA sync period.

    Raises:
        Unreachable: it does not answer.
    """
    settings = [scaling for scaling in scalings.values() if isinstance(scaling, KubernetesScaling)]
    zero = any(scaling.min_replicas == 0 for scaling in settings)
    problems = _missing_rights(api, keda=any(map(_needs_keda, settings)), zero=zero)
    problems += [*_called_at_zero(app, scalings), *(_add_on_problems(api, own) if zero else ())]
    for scaling in settings:
        problems += [
            *_metric_problems(api, scaling, own),
            *_image_problems(app, scaling, own),
            *_period_problems(scaling, own, kubelet),
        ]
        problems += _sync_problems(scaling, own, hpa_sync_s)
    return problems


def room_problems(nodes: Sequence[Json], pods: Sequence[Json], scalings: Sequence[KubernetesScaling]) -> list[Problem]:
    """Whether max_replicas pods of all components fit at once by their requests. Not fatal: machines may be added, or
    other pods end."""
    free = sum(quantity((node.get("status") or {}).get("allocatable", {}).get("cpu", 0)) for node in nodes)
    free -= sum(_requested(pod) for pod in pods)
    wanted = sum(scaling.max_replicas * scaling.cpu_cores for scaling in scalings)
    if free + _TOLERANCE >= wanted:
        return []
    replicas = sum(scaling.max_replicas for scaling in scalings)
    what = f"{wanted:g} cores for {replicas} replicas, of which {max(free, 0.0):.2f} are free by requests"
    return [Problem(what, "nodes", "lower max_replicas or cpu_cores, or pods will stay pending", fatal=False)]


def _needs_keda(scaling: KubernetesScaling) -> bool:
    return scaling.metric == "in_flight" and not scaling.fixed


def _called_at_zero(app: App, scalings: Mapping[str, Scaling]) -> Iterator[Problem]:
    """Components that would not wake up: the interceptor holds a client's requests, not calls between components."""
    for name, scaling in scalings.items():
        if name != app.front and scaling.min_replicas == 0:
            remedy = f"--scaling {name}.min_replicas=1"
            yield Problem("a component that is called can't scale to zero: nothing would wake it", name, remedy)


def _add_on_problems(api: Api, own: OwnNode | None) -> Iterator[Problem]:
    trouble = _unserved(api, HTTP_ADD_ON)
    where = f"service {KEDA_NAMESPACE}/{INTERCEPTOR}"
    try:
        if not trouble and api.find(path_of("Service", INTERCEPTOR, KEDA_NAMESPACE)) is None:
            trouble = "its interceptor has no Service"
    except Refused as refused:
        trouble = f"may not be read: {refused.message}"
    if trouble:
        what = f"no HTTP add-on of KEDA, which holds requests while nothing runs: {trouble}"
        yield Problem(what, where, _INSTALL_ADD_ON if own is None else "make cluster ZERO=1")


def _missing_rights(api: Api, *, keda: bool, zero: bool) -> list[Problem]:
    """A problem for each permission that a run needs and the user lacks, or a single one if the server does not say.
    Uses SelfSubjectAccessReviews, which leave nothing behind."""
    pairs = [(verb, kind) for kind, verbs in _RIGHTS.items() for verb in verbs]
    wanted = [(verb, kind, "", "" if kind == "Namespace" else "mlscale-0") for verb, kind in pairs]
    wanted.append(("get", "Pod", "log", "mlscale-0"))
    wanted += [(verb, "ScaledObject", "", "mlscale-0") for verb in _APPLY if keda]
    wanted += [(verb, "InterceptorRoute", "", "mlscale-0") for verb in _APPLY if zero]
    try:
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = list(pool.map(lambda each: _allowed(api, *each), wanted))
    except Refused as refused:
        return [Problem.of(refused.as_error(str(api.kube_context)))]
    return [
        Problem(f"may not {verb} {_named(kind, part)}", str(api.kube_context), _RIGHTS_REMEDY)
        for (verb, kind, part, _), allowed in zip(wanted, answers, strict=True)
        if not allowed
    ]


def _allowed(api: Api, verb: str, kind: str, part: str, namespace: str) -> bool:
    group, plural = group_and_plural(kind)
    attributes = {"verb": verb, "group": group, "resource": plural, "subresource": part, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = api.post(ACCESS_REVIEWS, review)
    return bool((answer.get("status") or {}).get("allowed"))


def _named(kind: str, part: str) -> str:
    group, plural = group_and_plural(kind)
    words: Sequence[str] = (plural + (f".{group}" if group else ""), part)
    return "/".join(word for word in words if word)


def _metric_problems(api: Api, scaling: KubernetesScaling, own: OwnNode | None) -> Iterator[Problem]:
    if scaling.fixed:
        return
    if scaling.metric == "cpu":
        trouble = _unserved(api, METRICS)
        if trouble:
            remedy = "install metrics-server" if own is None else "make cluster"
            yield Problem(f"no CPU metrics: {trouble}", "metrics.k8s.io", remedy)
    else:
        yield from _keda_problems(api, own)


def _keda_problems(api: Api, own: OwnNode | None) -> Iterator[Problem]:
    """Whether KEDA is there and serves the HPA: one server of external metrics excludes all others."""
    remedy = _INSTALL_KEDA if own is None else "make cluster"
    trouble, server = _unserved(api, KEDA), external_metrics_server(api)
    if trouble:
        beside = f", and external.metrics.k8s.io is served by {server.name}" if server.name else ""
        yield Problem(f"no KEDA, which gives requests in flight to the HPA: {trouble}{beside}", "keda.sh", remedy)
    elif server.name and not server.is_keda:
        yield Problem(
            f"external.metrics.k8s.io is served by {server.name}, not by KEDA, and a cluster has one such server",
            "APIService v1beta1.external.metrics.k8s.io",
            "remove that adapter and install KEDA again, or use the arm shipped (CPU)",
        )
    elif trouble := _unserved(api, EXTERNAL_METRICS):
        where = "external.metrics.k8s.io"
        restart = "kubectl rollout restart deployment --namespace keda" if own is None else "make cluster"
        yield Problem(f"KEDA does not give requests in flight to the HPA: {trouble}", where, restart)


def _unserved(api: Api, path: str) -> str:
    """Why an aggregated API does not answer; empty if it does."""
    try:
        answer = api.find(path)
    except Refused as refused:
        return f"{refused.status} {refused.message or refused.reason}"
    return "" if answer is not None else "the API is not registered"


def _image_problems(app: App, scaling: KubernetesScaling, own: OwnNode | None) -> Iterator[Problem]:
    if own is not None and not own.here:
        yield Problem("its node does not run on this host", "ConfigMap kube-system/mlscale", "make cluster")
    if own is None and not (scaling.image or app.image):
        yield Problem(
            "no image for it, and this cluster can't mount the application from here",
            f"app {app.name}",
            "build containers/app/Dockerfile, push it where the cluster can pull it, and give --scaling image=NAME",
        )


def _period_problems(scaling: KubernetesScaling, own: OwnNode | None, kubelet: Json | None) -> Iterator[Problem]:
    period_s = quota_period_s(kubelet)
    if period_s is None or abs(period_s - scaling.cpu_period_s) < _TOLERANCE:
        return
    remedy = (
        f"mlscale cluster up --cfs-period {1000 * scaling.cpu_period_s:g}ms"
        if own is not None
        else "set cpuCFSQuotaPeriod in the kubelets' configuration (gate CustomCPUCFSQuotaPeriod), or cpu_period_s"
    )
    yield Problem(
        f"the kubelet's CFS period is {1000 * period_s:g} ms, not {1000 * scaling.cpu_period_s:g} ms",
        "cpu_period_s",
        remedy,
    )


def _sync_problems(
    scaling: KubernetesScaling, own: OwnNode | None, hpa_sync_s: Callable[[], float]
) -> Iterator[Problem]:
    wanted_s = scaling.sync_period_s
    if wanted_s is None or abs(wanted_s - (sync_s := hpa_sync_s())) < _TOLERANCE:
        return
    flag = "--horizontal-pod-autoscaler-sync-period of kube-controller-manager"
    remedy = f"mlscale cluster up --hpa-sync {wanted_s:g}s" if own is not None else f"set {flag}"
    yield Problem(f"the HPA's sync period is {sync_s:g} s, not {wanted_s:g} s", "sync_period_s", remedy)


def _requested(pod: Json) -> float:
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return 0.0
    containers = (pod.get("spec") or {}).get("containers") or ()
    return sum(quantity(((each.get("resources") or {}).get("requests") or {}).get("cpu", 0)) for each in containers)
