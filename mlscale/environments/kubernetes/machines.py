"""Life cycles of machines as events and numbers, from Karpenter's NodeClaims and their Nodes, or Nodes alone. Pure.

A machine is requested (its NodeClaim exists), booted (its programs have started, as the rehearsal's daemon reports),
registered (its Node exists), ready (it takes pods), removed. It has failed if it stops being ready, or its claim is
deleted before it registered. Each is reported once; ``subject`` is the NodeClaim's name.

A managed node group has no NodeClaims: a machine is registered when its Node appears, nothing in the cluster says when
it was requested, and ``subject`` is the Node's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.conditions import condition
from mlscale.environments.kubernetes.list_watch import Change, known_within
from mlscale.runs import Event, EventKind

TYPE: Final = "node.kubernetes.io/instance-type"
_CONDITIONS: Final[tuple[tuple[str, EventKind], ...]] = (
    ("Registered", "machine_registered"),
    ("Initialized", "machine_ready"),
)


@dataclass
class _Life:
    """Reported state of one machine."""

    reported: set[EventKind] = field(default_factory=set)
    provider: str = ""
    ready: bool = False
    ending: bool = False


class MachineWatch:
    """Turns changes of NodeClaims and Nodes into events on the run's clock.

    Args:
        component: of all events (`mlscale.environments.composition.shared_component`).
        origin_s: time.monotonic() of the run's zero.
        booted: annotation of a NodeClaim with the time at which its machine's programs had started.
        claims: whether machines have NodeClaims.
    """

    def __init__(self, component: str, origin_s: float, booted: str, *, claims: bool = True) -> None:
        self._component, self._origin_s, self._booted, self._claims = component, origin_s, booted, claims
        self._lives: dict[str, _Life] = {}

    @property
    def desired(self) -> int:
        """Machines that are requested now."""
        return sum(not life.ending for life in self._lives.values())

    @property
    def ready(self) -> int:
        """Machines that take pods now."""
        return sum(life.ready and not life.ending for life in self._lives.values())

    def claim(self, change: Change) -> list[Event]:
        """The events of a change of a NodeClaim, in the order of a machine's life cycle."""
        claim = change.thing
        name = str(claim["metadata"]["name"])
        life = self._lives.setdefault(name, _Life())
        life.provider = str((claim.get("status") or {}).get("providerID", "")) or life.provider
        events = self._once(change, name, "machine_requested", claim["metadata"].get("creationTimestamp"))
        booted = (claim["metadata"].get("annotations") or {}).get(self._booted)
        if booted:
            events += self._once(change, name, "machine_booted", booted)
        for kind, event in _CONDITIONS:
            state = condition(claim, kind)
            if state.get("status") == "True":
                events += self._once(change, name, event, state.get("lastTransitionTime"), **_kind(claim))
        life.ready = life.ready or "machine_ready" in life.reported
        life.ending = life.ending or bool(claim["metadata"].get("deletionTimestamp"))
        if change.kind == "DELETED":
            if "machine_registered" not in life.reported:
                events += self._once(change, name, "machine_failed", None, reason="gone before it was registered")
            events += self._once(change, name, "machine_removed", None)
            del self._lives[name]
        return events

    def node(self, change: Change) -> list[Event]:
        """The events of a change of a Node: a failure, or without NodeClaims the whole life cycle."""
        if not self._claims:
            return self._of_node(change)
        provider = str((change.thing.get("spec") or {}).get("providerID", ""))
        name = next((name for name, life in self._lives.items() if provider and life.provider == provider), None)
        if name is None:
            return []
        life, state = self._lives[name], condition(change.thing, "Ready")
        if state.get("status") == "True" or "machine_ready" not in life.reported or life.ending:
            return []
        life.ready = False
        reason = str(state.get("reason", ""))
        return self._once(change, name, "machine_failed", state.get("lastTransitionTime"), reason=reason)

    def _of_node(self, change: Change) -> list[Event]:
        name = str(change.thing["metadata"]["name"])
        life, state = self._lives.setdefault(name, _Life()), condition(change.thing, "Ready")
        events = self._once(change, name, "machine_registered", change.thing["metadata"].get("creationTimestamp"))
        life.ready = state.get("status") == "True"
        life.ending = bool(change.thing["metadata"].get("deletionTimestamp"))
        if life.ready:
            events += self._once(change, name, "machine_ready", state.get("lastTransitionTime"), **_kind(change.thing))
        elif "machine_ready" in life.reported and not life.ending and change.kind != "DELETED":
            reason = str(state.get("reason", ""))
            events += self._once(change, name, "machine_failed", state.get("lastTransitionTime"), reason=reason)
        if change.kind == "DELETED":
            events += self._once(change, name, "machine_removed", None)
            del self._lives[name]
        return events

    def _once(self, change: Change, name: str, kind: EventKind, at: Any, **detail: Any) -> list[Event]:
        life = self._lives[name]
        if kind in life.reported:
            return []
        life.reported.add(kind)
        within_s = known_within(change, at) if at else change.gap_s
        t_s = change.t - self._origin_s
        return [Event(t_s, self._component, kind, name, source_time=at, known_within_s=within_s, detail=detail)]


def _kind(thing: Json) -> dict[str, Any]:
    labels = thing["metadata"].get("labels") or {}
    return {"type": str(labels.get(TYPE, ""))}
