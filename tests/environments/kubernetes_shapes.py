"""Objects as the API server sends them: built from the official client's own models, so that no name is made up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kubernetes import client

from mlscale.environments.kubernetes.list_watch import Change
from mlscale.environments.kubernetes.names import COMPONENT

ORIGIN_T = 1000.0
WALL = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
_PLAIN = client.ApiClient(client.Configuration())


def plain(model: Any) -> dict[str, Any]:
    """The JSON of a model."""
    made: dict[str, Any] = _PLAIN.sanitize_for_serialization(model)
    return made


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(WALL.timestamp() + seconds, UTC)


def change(
    source: str, thing: dict[str, Any], seconds: float = 0.0, kind: str = "MODIFIED", gap_s: float = 0
) -> Change:
    """Seen ``seconds`` after WALL and after the run's zero."""
    return Change(source, kind, thing, ORIGIN_T + seconds, at(seconds), gap_s)  # type: ignore[arg-type]


def metadata(name: str, version: str = "1", deleted: datetime | None = None, **labels: str) -> Any:
    return client.V1ObjectMeta(
        name=name,
        namespace="mlscale-0123abcd",
        uid=f"uid-{name}",
        resource_version=version,
        creation_timestamp=WALL,
        deletion_timestamp=deleted,
        labels={COMPONENT: "app", **labels},
    )


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Any:
    return client.V1PodCondition(
        type=kind, status=status, reason=reason or None, message=message or None, last_transition_time=WALL
    )


def pod(
    name: str = "app-1",
    *,
    scheduled: bool | None = None,
    ready: bool = False,
    state: Any = None,
    last_state: Any = None,
    restarts: int = 0,
    deleted: bool = False,
    unschedulable: str = "",
    version: str = "1",
) -> dict[str, Any]:
    """A pod of the component "app"."""
    conditions = []
    if scheduled:
        conditions.append(condition("PodScheduled", "True"))
    if unschedulable:
        conditions.append(condition("PodScheduled", "False", "Unschedulable", unschedulable))
    if scheduled:
        conditions.append(condition("Ready", "True" if ready else "False"))
    statuses = None
    if state is not None:
        statuses = [
            client.V1ContainerStatus(
                name="app",
                image="app:1",
                image_id="",
                ready=ready,
                restart_count=restarts,
                state=state,
                last_state=last_state or client.V1ContainerState(),
            )
        ]
    return plain(
        client.V1Pod(
            metadata=metadata(name, version, at(0) if deleted else None),
            spec=client.V1PodSpec(node_name="node" if scheduled else None, containers=[container()]),
            status=client.V1PodStatus(phase="Pending", conditions=conditions, container_statuses=statuses),
        )
    )


def container() -> Any:
    return client.V1Container(name="app", image="registry.example/app:1")


def running() -> Any:
    return client.V1ContainerState(running=client.V1ContainerStateRunning(started_at=WALL))


def waiting(reason: str, message: str = "") -> Any:
    return client.V1ContainerState(waiting=client.V1ContainerStateWaiting(reason=reason, message=message or None))


def terminated(code: int, reason: str = "Error") -> Any:
    return client.V1ContainerState(terminated=client.V1ContainerStateTerminated(exit_code=code, reason=reason))


def event(kind: str, name: str, reason: str, message: str) -> dict[str, Any]:
    return plain(
        client.CoreV1Event(
            metadata=metadata(f"{name}.{reason}"),
            involved_object=client.V1ObjectReference(kind=kind, name=name),
            reason=reason,
            message=message,
            last_timestamp=WALL,
        )
    )


def hpa(
    desired: int, *conditions: tuple[str, str, str, str], cpu: int | None = None, flying: str = ""
) -> dict[str, Any]:
    """An HPA on CPU, or with ``flying`` (a quantity) on requests in flight."""
    if flying:
        metric = client.V2MetricIdentifier(name="mlscale_in_flight")
        target = client.V2MetricTarget(type="AverageValue", average_value="1")
        spec = client.V2MetricSpec(
            type="External", external=client.V2ExternalMetricSource(metric=metric, target=target)
        )
        current = client.V2MetricStatus(
            type="External",
            external=client.V2ExternalMetricStatus(
                metric=metric, current=client.V2MetricValueStatus(average_value=flying)
            ),
        )
    else:
        target = client.V2MetricTarget(type="Utilization", average_utilization=50)
        spec = client.V2MetricSpec(type="Resource", resource=client.V2ResourceMetricSource(name="cpu", target=target))
        current = client.V2MetricStatus(
            type="Resource",
            resource=client.V2ResourceMetricStatus(
                name="cpu", current=client.V2MetricValueStatus(average_utilization=cpu)
            ),
        )
    reference = client.V2CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="app")
    return plain(
        client.V2HorizontalPodAutoscaler(
            metadata=metadata("app"),
            spec=client.V2HorizontalPodAutoscalerSpec(max_replicas=4, scale_target_ref=reference, metrics=[spec]),
            status=client.V2HorizontalPodAutoscalerStatus(
                current_replicas=1,
                desired_replicas=desired,
                last_scale_time=WALL,
                current_metrics=[current] if cpu is not None or flying else None,
                conditions=[
                    client.V2HorizontalPodAutoscalerCondition(type=kind, status=status, reason=reason, message=message)
                    for kind, status, reason, message in conditions
                ],
            ),
        )
    )
