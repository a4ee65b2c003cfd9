"""Why pods don't become ready, as one error with a remedy. Pure, from objects of the API server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.conditions import condition
from mlscale.environments.kubernetes.pods import container_status, termination
from mlscale.host.log_tail import last_lines
from mlscale.runs import MlscaleError

_PULL: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_START: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "PreCreateHookError"}
)
_LOG_LINES: Final = 8
# A restarting container has no log for a moment: the old one is gone, the new one has written nothing yet.
_LOG_WAIT_S: Final = 3.0

LogOf = Callable[[str, bool], str]
"""(pod, previous) -> the log of its container, or of the container that ended before it."""


@dataclass(frozen=True)
class Trouble:
    """An obstacle. ``patience_s``: how long it may last before it counts as an error, since it may resolve itself."""

    error: MlscaleError
    patience_s: float = 0.0


def diagnose(
    pods: Sequence[Json], deployments: Iterable[Json], events: Sequence[Json], log_of: LogOf, *, machines_scale: bool
) -> Trouble | None:
    """The first obstacle that keeps pods from becoming ready; None if there is none so far.

    Args:
        events: Kubernetes Events of the namespace, for messages that a status lacks.
        machines_scale: a machine may still be added for a pod that finds no room, so that is no obstacle.
    """
    pods = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]  # scaled down again: no obstacle
    for pod in pods:
        trouble = _container_trouble(pod, events, log_of) or (None if machines_scale else _scheduling_trouble(pod))
        if trouble is not None:
            return trouble
    for deployment in deployments:
        failure = condition(deployment, "ReplicaFailure")
        if failure.get("status") == "True":
            return _creation_trouble(deployment, str(failure.get("message", "")))
    return _mount_trouble(pods, events)


def _container_trouble(pod: Json, events: Sequence[Json], log_of: LogOf) -> Trouble | None:
    name = str(pod["metadata"]["name"])
    status = container_status(pod)
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = str(waiting.get("reason", ""))
    image = str(status.get("image") or _image(pod))
    if reason in _PULL:
        message = _longest_message(events, name, "Failed") if reason == "ImagePullBackOff" else ""
        text = message or str(waiting.get("message") or reason)
        remedy = "build and push the image (containers/app/Dockerfile), then fix the name or give the cluster access"
        return Trouble(MlscaleError(f"the image can't be pulled: {text}", f"image {image}", remedy))
    if reason in _START:
        text = f"{reason}: {waiting.get('message', '')}".rstrip(": ")
        return Trouble(MlscaleError(f"the container can't be started: {text}", f"pod {name}", "see the message"))
    crashed = "terminated" in state or reason == "CrashLoopBackOff" or int(status.get("restartCount", 0)) > 0
    if not crashed:
        return None
    end = state if "terminated" in state else status.get("lastState") or {}
    remedy = "fix what the log says; OOMKilled: give it more memory"
    lines = "\n  ".join(last_lines(log_of(name, "terminated" not in state), _LOG_LINES))
    tail = f"; its last log lines:\n  {lines}" if lines else "; its log is not available"
    error = MlscaleError(f"the application ends by itself: {termination(end)}{tail}", f"pod {name}", remedy)
    return Trouble(error, patience_s=0.0 if lines else _LOG_WAIT_S)


def _scheduling_trouble(pod: Json) -> Trouble | None:
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    text = str(scheduled.get("message", ""))
    lacks = [what for what in ("cpu", "memory", "pods") if f"Insufficient {what}" in text or f"Too many {what}" in text]
    what = f"no node has room for it (lacks {', '.join(lacks)})" if lacks else "no node takes it"
    where = f"pod {pod['metadata']['name']}"
    remedy = "lower cpu_cores or min_replicas, free the node, or add one"
    return Trouble(MlscaleError(f"{what}: {text}", where, remedy), patience_s=6.0)


def _creation_trouble(deployment: Json, text: str) -> Trouble:
    where = f"namespace {deployment['metadata']['namespace']}"
    if "exceeded quota" in text or "must specify" in text:
        remedy = "ask for a larger quota, or lower max_replicas or cpu_cores"
        return Trouble(MlscaleError(f"the quota leaves no room: {text}", where, remedy), patience_s=2.0)
    return Trouble(MlscaleError(f"pods can't be created: {text}", where, "see the message"), patience_s=5.0)


def _mount_trouble(pods: Sequence[Json], events: Sequence[Json]) -> Trouble | None:
    """Events outlive the problem that they report, so they only count before the pod has pulled its image."""
    waiting = {str(pod["metadata"]["name"]) for pod in pods if _waits_for_setup(pod)}
    waiting -= {_subject(event) for event in events if event.get("reason") in ("Pulling", "Pulled")}
    for event in events:
        pod = _subject(event)
        if pod in waiting and event.get("reason") in ("FailedMount", "FailedCreatePodSandBox"):
            return Trouble(
                MlscaleError(
                    f"the pod can't be set up: {event.get('message', '')}", f"pod {pod}", "see the node's kubelet"
                ),
                patience_s=30.0,
            )
    return None


def _waits_for_setup(pod: Json) -> bool:
    state = container_status(pod).get("state") or {}
    return str((state.get("waiting") or {}).get("reason", "")) == "ContainerCreating"


def _subject(event: Json) -> str:
    return str((event.get("involvedObject") or {}).get("name", ""))


def _image(pod: Json) -> str:
    containers: Sequence[Json] = (pod.get("spec") or {}).get("containers") or ({},)
    return str(containers[0].get("image", ""))


def _longest_message(events: Sequence[Json], pod: str, reason: str) -> str:
    """The longest message of events with this reason about the pod: it names the cause."""
    messages = [
        str(event.get("message", "")) for event in events if event.get("reason") == reason and _subject(event) == pod
    ]
    return max(messages, key=len, default="")
