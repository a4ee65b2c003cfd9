"""The HorizontalPodAutoscaler's decisions and their reasons, from its status and its Events. Pure.

The controller changes the scale, then writes an Event (SuccessfulRescale), then its status; either may be seen first.
Whichever comes first is reported as the decision; the other adds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.list_watch import Change, known_within
from mlscale.runs import Event

_NEW_SIZE: Final = re.compile(r"New size: (\d+); reason: (.*)", re.DOTALL)
_CONDITIONS: Final = ("ScalingActive", "AbleToScale", "ScalingLimited")


class HpaWatch:
    """Turns changes of one HPA, and of the Events about it, into ``scale_decision`` events.

    Args:
        origin_s: time.monotonic() of the run's zero.
        initial: replicas that were deployed.
    """

    def __init__(self, component: str, origin_s: float, initial: int) -> None:
        self._component, self._origin_s = component, origin_s
        self.desired = initial
        """Replicas that the autoscaler wants now."""
        self._last_reasons: tuple[tuple[str, str, str], ...] | None = None

    def take(self, change: Change) -> list[Event]:
        """A change of the HPA itself."""
        status = change.thing.get("status") or {}
        replicas = int(status.get("desiredReplicas") or 0)
        if not status.get("conditions") or change.kind == "DELETED":
            return []  # not evaluated by the controller yet
        if replicas and replicas != self.desired:
            self._last_reasons = None
            return [self._decision(change, replicas, _reason(change.thing), status.get("lastScaleTime"), change.thing)]
        return self._hold(change)

    def take_event(self, change: Change) -> list[Event]:
        """A Kubernetes Event about the HPA."""
        event = change.thing
        match = _NEW_SIZE.match(str(event.get("message", "")))
        if change.kind == "DELETED" or event.get("reason") != "SuccessfulRescale" or match is None:
            return []
        if int(match[1]) == self.desired:
            return []
        at = event.get("eventTime") or event.get("lastTimestamp") or event.get("firstTimestamp")
        return [self._decision(change, int(match[1]), match[2].strip(), at, None)]

    def take_scale(self, change: Change) -> list[Event]:
        """A change of the Deployment. KEDA starts the first replica and ends the last one; the HPA does neither."""
        replicas = int((change.thing.get("spec") or {}).get("replicas", self.desired))
        if change.kind == "DELETED" or replicas == self.desired or 0 not in (replicas, self.desired):
            return []
        reason = "KEDA: no request for its cooldown period" if replicas == 0 else "KEDA: its interceptor has a request"
        self._last_reasons = None
        return [self._decision(change, replicas, reason, None, None)]

    def _decision(self, change: Change, replicas: int, reason: str, at: Any, hpa: Json | None) -> Event:
        previous, self.desired = self.desired, replicas
        detail: dict[str, Any] = {"from": previous, "to": replicas, "reason": reason}
        if hpa is not None:
            detail |= numbers(hpa)
        return Event(
            change.t - self._origin_s,
            self._component,
            "scale_decision",
            source_time=at,
            known_within_s=known_within(change, at),
            detail=detail,
        )

    def _hold(self, change: Change) -> list[Event]:
        """No change of scale: reported only if the reasons for it changed."""
        hpa = change.thing
        reasons = tuple(
            (str(each["type"]), str(each["status"]), str(each.get("reason", "")))
            for each in hpa["status"]["conditions"]
            if each["type"] in _CONDITIONS
        )
        if reasons == self._last_reasons:
            return []
        self._last_reasons = reasons
        detail = {"from": self.desired, "to": self.desired, "reason": f"held: {_reason(hpa)}", **numbers(hpa)}
        t_s = change.t - self._origin_s
        return [Event(t_s, self._component, "scale_decision", known_within_s=change.gap_s, detail=detail)]


def numbers(hpa: Json) -> dict[str, Any]:
    """The HPA's ``metric``, its ``value`` and ``target`` (per cent for cpu), and the current ``replicas``."""
    values: dict[str, Any] = {"replicas": (hpa.get("status") or {}).get("currentReplicas")}
    metric: Json = next(iter((hpa.get("spec") or {}).get("metrics") or ()), {})
    measurement: Json = next(iter((hpa.get("status") or {}).get("currentMetrics") or ()), {})
    kind = str(metric.get("type", "")).lower()
    source = metric.get(kind) or {}
    current = (measurement.get(kind) or {}).get("current") or {}
    values["metric"] = source.get("name") or (source.get("metric") or {}).get("name")
    values["target"] = _number(source.get("target") or {})
    values["value"] = _number(current)
    return {name: value for name, value in values.items() if value is not None}


def quantity(text: str | int | float) -> float:
    """A Kubernetes quantity: "250m" is 0.25, "12345678n" 0.0123, "64Mi" 67108864.

    Raises:
        ValueError: not a quantity.
    """
    from kubernetes.utils.quantity import parse_quantity

    if re.search(r"\s", str(text)):  # parse_quantity allows it
        raise ValueError(f"{text!r} is not a quantity")
    return float(parse_quantity(text))


def _number(target: Mapping[str, Any]) -> float | None:
    for name in ("averageUtilization", "averageValue", "value"):
        if target.get(name) is not None:
            return quantity(target[name])
    return None


def _reason(hpa: Json) -> str:
    """The measurement, then the conditions' reasons and messages, most informative first."""
    conditions = {each["type"]: each for each in hpa["status"]["conditions"]}
    parts = [
        f"{conditions[kind].get('reason')}: {conditions[kind].get('message')}"
        for kind in _CONDITIONS
        if kind in conditions and not _normal(conditions[kind])
    ]
    values = numbers(hpa)
    if "value" in values:
        unit = " %" if values.get("metric") == "cpu" else ""
        parts.insert(0, f"{values['metric']} {values['value']:g}{unit}, target {values.get('target'):g}{unit}")
    return "; ".join(parts)


def _normal(condition: Json) -> bool:
    """Whether a condition is in its normal state."""
    return (condition["type"], condition["status"]) in (("ScalingActive", "True"), ("ScalingLimited", "False"))
