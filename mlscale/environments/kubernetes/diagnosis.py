"""Why pods don't come up, in one line with a remedy: pure, from what the API server shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.pods import condition, container_status, ended
from mlscale.runs import MlscaleError

_PULL: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_START: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "PreCreateHookError"}
)
_LOG_LINES: Final = 8
# For a moment a restarting container has no log: the one that ended is gone, the next says nothing yet.
_LOG_WAIT_S: Final = 3.0

LogOf = Callable[[str, bool], str]
"""(pod, previous) -> the log of its container, or of the container that ended before it."""


@dataclass(frozen=True)
class Trouble:
    """What stands in the way. ``patience_s``: how long it may last before it counts, since it often fixes itself."""

    error: MlscaleError
    patience_s: float = 0.0


def diagnose(
    pods: Iterable[Json], deployments: Iterable[Json], events: Sequence[Json], log_of: LogOf, *, machines_scale: bool
) -> Trouble | None:
    """The first thing that keeps pods from becoming ready; None where nothing does, or not yet.

    Args:
        events: Kubernetes Events of the namespace, for words that a status lacks.
        machines_scale: whether a machine may still come for a pod that finds no room (then that is no trouble).
    """
    for pod in pods:
        found = _of_container(pod, events, log_of) or (None if machines_scale else _of_scheduling(pod))
        if found is not None:
            return found
    for deployment in deployments:
        failure = condition(deployment, "ReplicaFailure")
        if failure.get("status") == "True":
            return _not_created(deployment, str(failure.get("message", "")))
    return _of_mounts(events)


def _of_container(pod: Json, events: Sequence[Json], log_of: LogOf) -> Trouble | None:
    name = str(pod["metadata"]["name"])
    status = container_status(pod)
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = str(waiting.get("reason", ""))
    image = str(status.get("image") or _image(pod))
    if reason in _PULL:
        told = _told(events, name, "Failed") if reason == "ImagePullBackOff" else ""
        text = told or str(waiting.get("message") or reason)
        remedy = "build and push the image (containers/app/Dockerfile), then fix the name or give the cluster access"
        return Trouble(MlscaleError(f"the image can't be pulled: {text}", f"image {image}", remedy))
    if reason in _START:
        text = f"{reason}: {waiting.get('message', '')}".rstrip(": ")
        return Trouble(MlscaleError(f"the container can't be started: {text}", f"pod {name}", "see the message"))
    crashed = "terminated" in state or reason == "CrashLoopBackOff" or int(status.get("restartCount", 0)) > 0
    if not crashed:
        return None
    last = state if "terminated" in state else status.get("lastState") or {}
    remedy = "fix what the log says; OOMKilled: give it more memory"
    lines = _last_lines(log_of(name, "terminated" not in state))
    tail = f"; its last log lines:\n  {lines}" if lines else "; no log of it is to be had"
    error = MlscaleError(f"the application ends by itself: {ended(last)}{tail}", f"pod {name}", remedy)
    return Trouble(error, patience_s=0.0 if lines else _LOG_WAIT_S)


def _of_scheduling(pod: Json) -> Trouble | None:
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    text = str(scheduled.get("message", ""))
    lacks = [what for what in ("cpu", "memory", "pods") if f"Insufficient {what}" in text or f"Too many {what}" in text]
    what = f"no node has room for it (lacks {', '.join(lacks)})" if lacks else "no node takes it"
    where = f"pod {pod['metadata']['name']}"
    remedy = "lower cpu_cores or min_replicas, free the node, or add one"
    return Trouble(MlscaleError(f"{what}: {text}", where, remedy), patience_s=6.0)


def _not_created(deployment: Json, text: str) -> Trouble:
    where = f"namespace {deployment['metadata']['namespace']}"
    if "exceeded quota" in text or "must specify" in text:
        remedy = "ask for a larger quota, or lower max_replicas or cpu_cores"
        return Trouble(MlscaleError(f"the quota leaves no room: {text}", where, remedy), patience_s=2.0)
    return Trouble(MlscaleError(f"pods can't be created: {text}", where, "see the message"), patience_s=5.0)


def _of_mounts(events: Sequence[Json]) -> Trouble | None:
    for event in events:
        if event.get("reason") in ("FailedMount", "FailedCreatePodSandBox"):
            pod = str((event.get("involvedObject") or {}).get("name", ""))
            return Trouble(
                MlscaleError(
                    f"the pod can't be set up: {event.get('message', '')}", f"pod {pod}", "see the node's kubelet"
                ),
                patience_s=30.0,
            )
    return None


def _image(pod: Json) -> str:
    containers: Sequence[Json] = (pod.get("spec") or {}).get("containers") or ({},)
    return str(containers[0].get("image", ""))


def _told(events: Sequence[Json], pod: str, reason: str) -> str:
    """The longest message of events with this reason about the pod: the one with the cause in it."""
    said = [
        str(event.get("message", ""))
        for event in events
        if event.get("reason") == reason and (event.get("involvedObject") or {}).get("name") == pod
    ]
    return max(said, key=len, default="")


def _last_lines(text: str) -> str:
    return "\n  ".join([line.rstrip() for line in text.splitlines() if line.strip()][-_LOG_LINES:])
