"""What pods ask for, in milli-units: ``calculateRequests`` of Kubernetes' replica_calculator.go (v1.34)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mlscale_twin.policies.hpa.observed import Container, MetricError, Pod


def calculate_requests(pods: Sequence[Pod], container: str, resource: str) -> dict[str, int]:
    """Pod name to request: of one container where one is named, of the pod where it has any, else of all containers.

    Raises:
        MetricError: a request is missing.
    """
    return {pod.name: _of_pod(pod, container, resource) for pod in pods}


def _of_pod(pod: Pod, container: str, resource: str) -> int:
    if not container and any(_has_pod_level(name) for name in pod.requests):
        return _pod_level(pod, resource)
    counted = [each for each in pod.containers if not each.init or each.restarts]
    total = 0
    for each in counted:
        if container and container != each.name:
            continue
        if resource not in each.requests:
            raise MetricError(f"missing request for {resource} in container {each.name} of Pod {pod.name}")
        total += each.requests[resource]
    return total


def _has_pod_level(resource: str) -> bool:
    """``IsSupportedPodLevelResource`` of component-helpers."""
    return resource in ("cpu", "memory") or resource.startswith("hugepages-")


def _pod_level(pod: Pod, resource: str) -> int:
    """``PodRequests`` of component-helpers: the pod's own before those of its containers, and the overhead."""
    reqs = _aggregate(pod.containers)
    reqs |= {name: number for name, number in pod.requests.items() if _has_pod_level(name)}
    _add(reqs, pod.overhead)
    if resource not in reqs:
        raise MetricError(f"missing pod-level request for {resource} in Pod {pod.name}")
    return reqs[resource]


def _aggregate(containers: Iterable[Container]) -> dict[str, int]:
    """``AggregateContainerRequests``: the containers' sum, or what starting up takes where that is more."""
    reqs: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    most: dict[str, int] = {}
    for container in sorted(containers, key=lambda each: each.init):
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
        _raise_to(most, needed)
    _raise_to(reqs, most)
    return reqs


def _add(to: dict[str, int], more: Mapping[str, int]) -> None:
    for name, number in more.items():
        to[name] = to.get(name, 0) + number


def _raise_to(to: dict[str, int], other: Mapping[str, int]) -> None:
    for name, number in other.items():
        to[name] = max(to.get(name, number), number)
