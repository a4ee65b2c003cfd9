"""AWS's answers about an ECS service turned into observations. Pure.

AWS's timestamps are those of its own clock, and are converted to seconds from the run's zero; ``known_within_s`` is the
uncertainty of the offset between the two clocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from mlscale.runs import Event, EventKind, ReplicaSample, ResourceSample

# Of ecs.yaml.
SERVICE: Final = "app"
# Most tasks that one describe_tasks call accepts.
TASKS_PER_CALL: Final = 100
_DESIRED: Final = re.compile(r"desired count to (\d+)")
# A task's timestamps. Its network interface is attached (``connectivityAt``) once it is placed.
_TIMESTAMPS: Final[tuple[tuple[str, EventKind], ...]] = (
    ("createdAt", "replica_created"),
    ("connectivityAt", "replica_scheduled"),
    ("startedAt", "replica_started"),
    ("stoppingAt", "replica_draining"),
    ("stoppedAt", "replica_removed"),
)
# Stop codes of tasks that have not failed.
_STOP_CODES: Final = frozenset({"ServiceSchedulerInitiated", "UserInitiated", ""})


class ServiceWatch:
    """Turns answers into events: each event once, in the order of its time.

    Args:
        component: of the application.
        zero_at: zero of the run's clock, Unix time by AWS's clock.
        within_s: uncertainty of ``zero_at``, s.
        initial: number of tasks deployed.
    """

    def __init__(self, component: str, zero_at: float, within_s: float, initial: int) -> None:
        self._component, self._zero_at, self._within_s = component, zero_at, within_s
        self._decided = initial
        self._seen: set[tuple[str, str]] = set()
        self._addresses: dict[str, str] = {}
        self._held = ""

    def tasks(self, tasks: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
        """``describe_tasks`` of the service's tasks, running and stopped."""
        events = []
        for task in tasks:
            name = task_id(task)
            self._addresses |= dict.fromkeys(addresses(task), name)
            for field, kind in _TIMESTAMPS:
                if task.get(field) is not None and self._first(name, kind):
                    events.append(self._event(task[field], kind, name, _detail(task, field)))
            if task.get("stopCode", "") not in _STOP_CODES and self._first(name, "replica_failed"):
                moment = task.get("stoppingAt") or task.get("stoppedAt") or task["createdAt"]
                events.append(self._event(moment, "replica_failed", name, {"reason": task.get("stoppedReason", "")}))
        yield from sorted(events, key=lambda event: event.t_s)

    def targets(self, health: Sequence[Mapping[str, Any]], at: float, since_s: float) -> Iterator[Event]:
        """``describe_target_health`` at ``at`` (Unix time, AWS's clock), ``since_s`` after the previous call."""
        for target in health:
            name = self._addresses.get(str(target["Target"]["Id"]))
            if name is None or target["TargetHealth"]["State"] != "healthy" or not self._first(name, "replica_ready"):
                continue
            t_s = at - self._zero_at
            yield Event(t_s, self._component, "replica_ready", name, known_within_s=since_s + self._within_s)

    def activities(self, activities: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
        """``describe_scaling_activities``, including those that did not scale."""
        for activity in sorted(activities, key=lambda activity: activity["StartTime"]):
            if not self._first(str(activity["ActivityId"]), "activity"):
                continue
            reason = f"{activity.get('StatusCode', '')}: {activity.get('Cause', '')}"
            held = [str(cause.get("Code")) for cause in activity.get("NotScaledReasons", ())]
            wanted = _DESIRED.search(str(activity.get("Description", "")))
            before, after = self._decided, self._decided if held or wanted is None else int(wanted[1])
            if before == after and reason == self._held:
                continue
            self._held, self._decided = (reason if before == after else ""), after
            detail = {"from": before, "to": after, "reason": reason, **({"held_by": held} if held else {})}
            yield self._event(activity["StartTime"], "scale_decision", "", detail)

    def alarms(self, items: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
        """``describe_alarm_history`` of state changes, as decisions that change nothing."""
        for item in sorted(items, key=lambda item: item["Timestamp"]):
            identity = f"{item['AlarmName']} {item['Timestamp'].isoformat()}"
            if self._first(identity, "alarm"):
                reason = f"{item['AlarmName']}: {item.get('HistorySummary', '')}"
                detail = {"from": self._decided, "to": self._decided, "reason": reason}
                yield self._event(item["Timestamp"], "scale_decision", "", detail)

    def replicas(self, service: Mapping[str, Any], health: Sequence[Mapping[str, Any]], at: float) -> ReplicaSample:
        """``describe_services`` and ``describe_target_health`` at ``at``."""
        desired, existing = int(service["desiredCount"]), int(service["runningCount"]) + int(service["pendingCount"])
        ready = sum(target["TargetHealth"]["State"] == "healthy" for target in health)
        return ReplicaSample(at - self._zero_at, self._component, desired, max(0, existing - ready), ready)

    def usage(
        self, moment: datetime, percent: float, period_s: float, cores: float, tasks: int
    ) -> Iterator[ResourceSample]:
        """``get_metric_data`` of the service's CPU: the mean over all tasks in the period that begins at ``moment``."""
        if self._first(moment.isoformat(), "usage"):
            t_s = moment.timestamp() + period_s - self._zero_at
            used = percent / 100 * cores * tasks
            yield ResourceSample(t_s, self._component, "service", "replica", used, float("nan"))

    def _first(self, what: str, kind: str) -> bool:
        if (what, kind) in self._seen:
            return False
        self._seen.add((what, kind))
        return True

    def _event(self, moment: datetime, kind: EventKind, subject: str, detail: Mapping[str, Any]) -> Event:
        t_s = moment.timestamp() - self._zero_at
        return Event(t_s, self._component, kind, subject, moment.isoformat(), self._within_s, detail)


def task_id(task: Mapping[str, Any]) -> str:
    """The last part of a task's ARN."""
    return str(task["taskArn"]).rpartition("/")[2]


def addresses(task: Mapping[str, Any]) -> list[str]:
    """A task's private IPv4 addresses, which name its target."""
    details = [detail for attachment in task.get("attachments", ()) for detail in attachment.get("details", ())]
    return [str(detail["value"]) for detail in details if detail.get("name") == "privateIPv4Address"]


def stop_reason(task: Mapping[str, Any]) -> str:
    """Why a task stopped, and what its containers say of it."""
    reasons = [task.get("stoppedReason"), *(container.get("reason") for container in task.get("containers", ()))]
    return "; ".join(str(reason) for reason in reasons if reason) or "no reason given"


def _detail(task: Mapping[str, Any], field: str) -> dict[str, Any]:
    """For a start: how long the image's pull took, and the replica's id in requests; for an end: the reason."""
    if field == "startedAt":
        pulled = (task.get("pullStartedAt"), task.get("pullStoppedAt"))
        pull_s = (pulled[1] - pulled[0]).total_seconds() if pulled[0] and pulled[1] else None
        runtime = [str(row["runtimeId"]) for row in task.get("containers", ()) if row.get("runtimeId")]
        return {"pull_s": pull_s, "replica_id": runtime[0] if runtime else ""}
    return (
        {"reason": task["stoppedReason"]} if field in ("stoppingAt", "stoppedAt") and task.get("stoppedReason") else {}
    )
