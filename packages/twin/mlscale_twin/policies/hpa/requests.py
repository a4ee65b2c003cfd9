"""Resource requests of pods, in milli-units: ``calculateRequests`` of Kubernetes' replica_calculator.go (v1.34)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mlscale_twin.policies.hpa.observed import Container, MetricError, Pod


def calculate_requests(pods: Sequence[Pod], container: str, resource: str) -> dict[str, int]:
    """Pod name to request: of the named container, else of the pod itself if it has any, else of all containers.

    Raises:
        MetricError: a request is missing.
    """
    return {pod.name: _pod_request(pod, container, resource) for pod in pods}


def _pod_request(pod: Pod, container: str, resource: str) -> int:
    if not container and any(_has_pod_level(name) for name in pod.requests):
        return _pod_level(pod, resource)
    counted = [spec for spec in pod.containers if not spec.init or spec.restarts]
    total = 0
    for spec in counted:
        if container and container != spec.name:
            continue
        if resource not in spec.requests:
            raise MetricError(f"missing request for {resource} in container {spec.name} of Pod {pod.name}")
        total += spec.requests[resource]
    return total


def _has_pod_level(resource: str) -> bool:
    """``IsSupportedPodLevelResource`` of component-helpers."""
    return resource in ("cpu", "memory") or resource.startswith("hugepages-")


def _pod_level(pod: Pod, resource: str) -> int:
    """``PodRequests`` of component-helpers: the pod's own take precedence over its containers'; plus the overhead."""
    reqs = _aggregate(pod.containers)
    reqs |= {name: number for name, number in pod.requests.items() if _has_pod_level(name)}
    _add(reqs, pod.overhead)
    if resource not in reqs:
        raise MetricError(f"missing pod-level request for {resource} in Pod {pod.name}")
    return reqs[resource]


def _aggregate(containers: Iterable[Container]) -> dict[str, int]:
    """``AggregateContainerRequests``: the containers' sum, or what starting up needs if that is more."""
    reqs: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    startup: dict[str, int] = {}
    for container in sorted(containers, key=lambda spec: spec.init):
        if not container.init:
            _add(reqs, container.requests)
            continue
        if container.restarts:
            _add(reqs, container.requests)
            _add(sidecars, container.requests)
            needed = sidecars
        else:
            needed = dict(container.requests)
            _add(needed, sidecars)
        _take_maximum(startup, needed)
    _take_maximum(reqs, startup)
    return reqs


def _add(to: dict[str, int], more: Mapping[str, int]) -> None:
    for name, number in more.items():
        to[name] = to.get(name, 0) + number


def _take_maximum(to: dict[str, int], other: Mapping[str, int]) -> None:
    for name, number in other.items():
        to[name] = max(to.get(name, number), number)
