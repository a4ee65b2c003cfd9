"""Turns Ray Serve's state into observations. Pure: does not import Ray.

There are two sources: readings of the autoscaling policy (policy.py), about 8 per second, and the Serve controller's
list of replicas, read twice a second, and more often while something changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlscale.environments.emit import Emitter

_STARTING: Final = frozenset({"STARTING", "UPDATING", "RECOVERING", "PENDING_MIGRATION"})
_PROCESS_TICK_S: Final = 0.02  # the kernel keeps start times in ticks of 10 ms


class DecisionWatch:
    """Turns the policy's readings into ``scale_decision`` events.

    A decision follows right after the reading that it is based on and shows in the next one, so it lies between the
    two. Holds are reported when their kind changes.
    """

    def __init__(
        self,
        component: str,
        emitter: Emitter,
        *,
        target_per_replica: float,
        upscale_delay_s: float,
        downscale_delay_s: float,
    ) -> None:
        self._component, self._emitter = component, emitter
        self._per_replica = target_per_replica
        self._delays = {"up": upscale_delay_s, "down": downscale_delay_s}
        self._last: Mapping[str, Any] | None = None
        self._held = ""

    def read(self, reading: Mapping[str, Any]) -> bool:
        """Process one reading; True if its numbers of replicas differ from the last one's."""
        last, self._last = self._last, reading
        if last is None:
            return True
        before, now = int(last["target"]), int(reading["target"])
        if before != now:
            direction = "up" if now > before else "down"
            self._held = ""
            reason = f"{self._summary(last)}, for {self._delays[direction]:g} s without a break"
            self._emit(reading, last, before, now, reason)
        else:
            self._hold(reading, now)
        return before != now or last["current"] != reading["current"]

    def _hold(self, reading: Mapping[str, Any], now: int) -> None:
        wanted = int(reading["wanted"])
        kind = "wants more" if wanted > now else "wants fewer" if wanted < now else "content"
        if kind == self._held:
            return
        first, self._held = not self._held, kind
        if first and kind == "content":
            return
        text = {
            "wants more": f"held: more are wanted, upscale_delay_s is {self._delays['up']:g}",
            "wants fewer": f"held: fewer are wanted, downscale_delay_s is {self._delays['down']:g}",
            "content": "held: as many as wanted",
        }[kind]
        self._emit(reading, reading, now, now, f"{self._summary(reading)}; {text}")

    def _summary(self, reading: Mapping[str, Any]) -> str:
        return (
            f"{reading['total']:.2f} requests queued or in service ({reading['queued']:.2f} queued) / "
            f"{self._per_replica:g} a replica = {reading['raw']:.2f}, within bounds {int(reading['wanted'])}"
        )

    def _emit(self, seen: Mapping[str, Any], basis: Mapping[str, Any], before: int, after: int, reason: str) -> None:
        numbers = {name: basis[name] for name in ("total", "queued", "current", "raw", "wanted")}
        self._emitter.event(
            self._component,
            "scale_decision",
            t=seen["t"],
            known_within_s=seen["t"] - basis["t"],
            detail={"from": before, "to": after, "reason": reason, **numbers},
        )


@dataclass(frozen=True)
class ReplicaView:
    """One replica as the Serve controller lists it; ``pid`` is missing early in its start. ``machine``: where it runs,
    if machines are observed."""

    replica_id: str
    state: str
    pid: int | None
    start_time_s: float | None = None
    machine: str | None = None


@dataclass
class _Known:
    view: ReplicaView
    created_t: float
    within_s: float
    named: bool = False
    ready: bool = False
    draining: bool = False
    failed: bool = False

    @property
    def subject(self) -> str:
        return f"replica-{self.view.pid}" if self.view.pid else self.view.replica_id

    @property
    def expected_alive(self) -> bool:
        """Whether its end would be a failure."""
        return not self.draining and not self.failed


class ReplicaWatch:
    """Turns lists of replicas into lifecycle events and ReplicaSamples.

    Args:
        process_started: pid -> time.monotonic() when the process was started, None if it has ended.
    """

    def __init__(self, component: str, emitter: Emitter, process_started: Callable[[int], float | None]) -> None:
        self._component, self._emitter, self._process_started = component, emitter, process_started
        self._known: dict[str, _Known] = {}

    @property
    def pids(self) -> dict[int, str]:
        """pid -> replica_id of replicas that should be alive."""
        return {k.view.pid: i for i, k in self._known.items() if k.view.pid and k.expected_alive}

    def poll(self, t: float, since: float, replicas: Iterable[ReplicaView], desired: int) -> None:
        """Process a list of replicas read at ``t``; the previous one was read at ``since`` (both time.monotonic())."""
        within = t - since
        views = {view.replica_id: view for view in replicas}
        for replica_id, view in views.items():
            known = self._known.setdefault(replica_id, _Known(view, t, within))
            known.view = view
            self._update(known, t, within)
        for replica_id in self._known.keys() - views.keys():
            known = self._known.pop(replica_id)
            self._report_created(known, t, within)
            if known.expected_alive:
                self._event("replica_failed", known, t, within, reason="Ray no longer lists it")
            self._event("replica_removed", known, t, within)
        alive = [known for known in self._known.values() if not known.failed]
        starting = sum(known.view.state in _STARTING for known in alive)
        ready = sum(known.view.state == "RUNNING" for known in alive)
        self._emitter.replicas(self._component, desired, starting, ready, t=t)

    def process_ended(self, replica_id: str, t: float, since: float) -> None:
        """The process has ended although Ray still lists the replica as starting or running."""
        known = self._known.get(replica_id)
        if known is not None and known.expected_alive:
            known.failed = True
            self._event("replica_failed", known, t, t - since, reason="its process ended")

    def _update(self, known: _Known, t: float, within: float) -> None:
        state = known.view.state
        if known.view.pid or state not in _STARTING:
            self._report_created(known, t, within)
        if state == "RUNNING" and not known.ready:
            known.ready = True
            self._event("replica_ready", known, t, within)
        if state == "STOPPING" and not known.draining and not known.failed:
            known.draining = True
            self._event("replica_draining", known, t, within)

    def _report_created(self, known: _Known, t: float, within: float) -> None:
        """Report the creation, which waits until the pid is known, since the replica's name depends on it."""
        if known.named:
            return
        known.named = True
        stamp = known.view.start_time_s
        self._event(
            "replica_created",
            known,
            known.created_t,
            known.within_s,
            source_time=None if stamp is None else f"{stamp:.3f}",
            **({"node": known.view.machine} if known.view.machine else {}),
        )
        started = self._process_started(known.view.pid) if known.view.pid else None
        if started is not None and known.view.machine:
            # Ray places an actor by starting its process.
            self._event("replica_scheduled", known, started, _PROCESS_TICK_S, node=known.view.machine)
        if started is not None:
            self._event("replica_started", known, started, _PROCESS_TICK_S)
        elif known.view.pid:
            self._event("replica_started", known, t, max(within, t - known.created_t))

    def _event(
        self, kind: str, known: _Known, t: float, within: float, source_time: str | None = None, **detail: str
    ) -> None:
        self._emitter.event(
            self._component,
            kind,
            known.subject,
            t=t,
            known_within_s=within,
            source_time=source_time,
            detail={"replica_id": known.view.replica_id, **detail},
        )
