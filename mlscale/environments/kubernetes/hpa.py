"""What the HorizontalPodAutoscaler decided and why, read off its status and its events: pure.

The controller changes the scale, then writes an Event (SuccessfulRescale), then its status; which of these is seen
first varies. The first one that says so is the decision; a later one that says the same adds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.list_watch import Change, known_within
from mlscale.runs import Event

_SUFFIXES: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(1000),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
}
_NEW_SIZE: Final = re.compile(r"New size: (\d+); reason: (.*)", re.DOTALL)
_CONDITIONS: Final = ("ScalingActive", "AbleToScale", "ScalingLimited")


class HpaWatch:
    """Takes changes of one HPA, and of the events about it, in; gives ``scale_decision`` events.

    Args:
        origin_s: time.monotonic() of the run's zero.
        initial: replicas that were deployed.
    """

    def __init__(self, component: str, origin_s: float, initial: int) -> None:
        self._component, self._origin_s = component, origin_s
        self.desired = initial
        """What the autoscaler wants now."""
        self._held: tuple[tuple[str, str, str], ...] | None = None

    def take(self, change: Change) -> list[Event]:
        """A change of the HPA itself."""
        status = change.thing.get("status") or {}
        now = int(status.get("desiredReplicas") or 0)
        if not status.get("conditions") or change.kind == "DELETED":
            return []  # the controller has not looked yet
        if now and now != self.desired:
            self._held = None
            return [self._decided(change, now, _reason(change.thing), status.get("lastScaleTime"), change.thing)]
        return self._hold(change)

    def told(self, change: Change) -> list[Event]:
        """A Kubernetes Event about the HPA."""
        event = change.thing
        found = _NEW_SIZE.match(str(event.get("message", "")))
        if change.kind == "DELETED" or event.get("reason") != "SuccessfulRescale" or found is None:
            return []
        if int(found[1]) == self.desired:
            return []
        at = event.get("eventTime") or event.get("lastTimestamp") or event.get("firstTimestamp")
        return [self._decided(change, int(found[1]), found[2].strip(), at, None)]

    def _decided(self, change: Change, now: int, reason: str, at: Any, hpa: Json | None) -> Event:
        before, self.desired = self.desired, now
        detail: dict[str, Any] = {"from": before, "to": now, "reason": reason}
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
        """It wants what it wanted; reported where the reasons it gives have changed."""
        hpa = change.thing
        reasons = tuple(
            (str(each["type"]), str(each["status"]), str(each.get("reason", "")))
            for each in hpa["status"]["conditions"]
            if each["type"] in _CONDITIONS
        )
        if reasons == self._held:
            return []
        self._held = reasons
        detail = {"from": self.desired, "to": self.desired, "reason": f"held: {_reason(hpa)}", **numbers(hpa)}
        t_s = change.t - self._origin_s
        return [Event(t_s, self._component, "scale_decision", known_within_s=change.gap_s, detail=detail)]


def numbers(hpa: Json) -> dict[str, Any]:
    """What the HPA has measured and aims at: ``metric``, ``value``, ``target`` (per cent for cpu), ``replicas``."""
    found: dict[str, Any] = {"replicas": (hpa.get("status") or {}).get("currentReplicas")}
    wanted: Json = next(iter((hpa.get("spec") or {}).get("metrics") or ()), {})
    measured: Json = next(iter((hpa.get("status") or {}).get("currentMetrics") or ()), {})
    kind = str(wanted.get("type", "")).lower()
    source = wanted.get(kind) or {}
    now = (measured.get(kind) or {}).get("current") or {}
    found["metric"] = source.get("name") or (source.get("metric") or {}).get("name")
    found["target"] = _number(source.get("target") or {})
    found["value"] = _number(now)
    return {name: value for name, value in found.items() if value is not None}


def quantity(text: str | int | float) -> float:
    """A Kubernetes quantity: "250m" is 0.25, "12345678n" 0.0123, "64Mi" 67108864.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?\d+)?)([numkMGT]?i?)", str(text))
    if found is None or found[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity")
    return float(Decimal(found[1]) * _SUFFIXES[found[2]])


def _number(target: Mapping[str, Any]) -> float | None:
    for name in ("averageUtilization", "averageValue", "value"):
        if target.get(name) is not None:
            return quantity(target[name])
    return None


def _reason(hpa: Json) -> str:
    """The conditions' own words, those that say most first, and what was measured."""
    conditions = {each["type"]: each for each in hpa["status"]["conditions"]}
    said = [
        f"{conditions[kind].get('reason')}: {conditions[kind].get('message')}"
        for kind in _CONDITIONS
        if kind in conditions and not _empty(conditions[kind])
    ]
    measured = numbers(hpa)
    if "value" in measured:
        unit = " %" if measured.get("metric") == "cpu" else ""
        said.insert(0, f"{measured['metric']} {measured['value']:g}{unit}, target {measured.get('target'):g}{unit}")
    return "; ".join(said)


def _empty(condition: Json) -> bool:
    """A condition that says that nothing is the matter."""
    return (condition["type"], condition["status"]) in (("ScalingActive", "True"), ("ScalingLimited", "False"))
