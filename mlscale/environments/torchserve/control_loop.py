"""The control loop of TorchServe's agent: observe, decide, act. What talks to TorchServe is passed in."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from mlscale.environments.emit import Emitter
from mlscale.environments.torchserve.api import ManagementApi, ModelState, worker_processes
from mlscale.environments.torchserve.board import Board
from mlscale.environments.torchserve.drain import DrainResult
from mlscale.environments.torchserve.lifecycle import Lifecycle
from mlscale.environments.worker_controller import (
    ControllerSettings,
    ControllerState,
    Decision,
    LookBack,
    WorkerObservation,
    decide,
)

_RETRY_DRAIN_S: Final = 1.0
_EARLY: Final = 0.1  # of a period: ticks are not exactly a fraction of a period apart


@dataclass(frozen=True)
class Spec:
    """What the agent needs to know of a component, which is a model of the same name in TorchServe; times in s."""

    component: str
    inference_port: int
    management_port: int
    keys: str
    board: str
    sockets: str
    start_timeout_s: float
    period_s: float
    sample_interval_s: float
    look_back_s: float
    controller: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> tuple[Spec, ...]:
        """The specs of all components, the front last."""
        return tuple(cls(**content) for content in json.loads(path.read_text()))


class Watch:
    """Reads TorchServe's list of workers, its processes and the board together."""

    def __init__(self, spec: Spec, board: Board, api: ManagementApi) -> None:
        self._spec, self._board, self._api = spec, board, api
        self._processes: dict[int, int] = {}

    def look(self) -> tuple[ModelState, dict[int, int], int]:
        """TorchServe's state, worker id -> pid, requests queued + in service. Raises ServerGone, NoAnswer."""
        processes = self._processes = worker_processes(self._spec.sockets, self._spec.component, self._processes)
        state = self._api.describe()
        if not processes and sys.platform != "linux":
            processes = {row.id: row.pid for row in state.workers if row.pid is not None}
        serving = sum(
            self._board.slot(row.id).in_service(row.pid) for row in state.workers if row.pid is not None and row.ready
        )
        return state, processes, state.pending + serving


class StateSource(Protocol):
    def look(self) -> tuple[ModelState, dict[int, int], int]: ...


class WorkerScaler(Protocol):
    def scale(self, workers: int) -> None: ...


class DrainAttempt(Protocol):
    """One attempt to remove ``worker`` (see `mlscale.environments.torchserve.drain.Drain`)."""

    worker: int
    held_s: float | None
    outcome: DrainResult | None

    def cancel(self) -> None: ...
    def join(self, timeout_s: float | None = None) -> None: ...


class Loop:
    """The control loop. Each ``tick`` observes and takes a step towards the target, which is set every ``period_s``."""

    def __init__(
        self,
        spec: Spec,
        out: Emitter,
        watch: StateSource,
        api: WorkerScaler,
        begin_drain: Callable[[ModelState], DrainAttempt],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec, self._out, self._clock = spec, out, clock
        self._watch, self._api, self._begin_drain = watch, api, begin_drain
        self._settings = ControllerSettings(**spec.controller)
        self._state, self._look_back, self._lifecycle = ControllerState(), LookBack(), Lifecycle()
        self._drain: DrainAttempt | None = None
        self._retry_drain_s = -math.inf
        self._decided_s = math.nan
        self._rule, self._postponed = "", False
        self.failed_starts = 0
        self.desired = self._settings.min_replicas
        self.controlling = False
        self.state: ModelState | None = None

    def tick(self) -> None:
        """Observe, decide, act. Raises ServerGone, NoAnswer; nothing is reported then, which leaves a gap."""
        state, processes, ongoing = self._watch.look()
        now = self._clock()
        self.state = state
        self._look_back = self._look_back.add(now, ongoing, self._spec.look_back_s)
        self._follow(now, state, processes)
        if self.controlling:
            due = self._due(now)
            if due != self._decided_s:
                self._decided_s = due
                self._decide(now, due)
            self._act(now, state, processes)
        ready = sum(row.ready for row in state.workers)
        self._out.replicas(self._spec.component, self.desired, len(state.workers) - ready, ready, t=now)

    def _follow(self, now: float, state: ModelState, processes: Mapping[int, int]) -> None:
        drain = self._drain
        # The order matters: a drain sets held_s before its worker can vanish from the lists that were just read.
        changes = [] if drain is None or drain.held_s is None else self._lifecycle.draining(drain.worker, drain.held_s)
        changes += self._lifecycle.update(now, processes, state.workers)
        for change in changes:
            self.failed_starts += change.kind == "replica_failed" and change.detail.get("stage") == "starting"
            self._out.event(
                self._spec.component,
                change.kind,
                change.subject,
                t=change.t_s,
                known_within_s=change.known_within_s,
                detail=change.detail,
            )

    def _due(self, now: float) -> float:
        """When the latest decision was due: now for the first, then every ``period_s``; missed ones are skipped."""
        if math.isnan(self._decided_s):
            return now
        period_s = self._spec.period_s
        return self._decided_s + math.floor((now - self._decided_s) / period_s + _EARLY) * period_s

    def _decide(self, now: float, due: float) -> None:
        """Decide as if it were ``due``: a tick that is a few ms late must not lengthen a delay by a whole period."""
        fresh_s = max(self._spec.period_s, 2 * self._spec.sample_interval_s)
        ongoing = self._look_back.mean(now, self._spec.look_back_s, fresh_s)
        decision = decide(WorkerObservation(due, ongoing, self.desired), self._settings, self._state)
        self._state = decision.state
        if decision.desired != self.desired or decision.rule != self._rule:
            self._report(now, decision)
        self._rule, self.desired = decision.rule, decision.desired

    def _report(self, now: float, decision: Decision) -> None:
        detail = {"from": self.desired, "to": decision.desired, "rule": decision.rule, "reason": decision.reason}
        self._out.event(self._spec.component, "scale_decision", t=now, detail=detail)

    def _act(self, now: float, state: ModelState, processes: Mapping[int, int]) -> None:
        """One step from TorchServe's target (``minWorkers``) towards the desired number."""
        if self._drain is not None and not self._finished(now, self._drain):
            return
        target = int(state.raw["minWorkers"])
        if self.desired > target:
            self._lifecycle.scaled_up(self._clock())
            self._api.scale(self.desired)
        elif self.desired < target and now >= self._retry_drain_s and len(state.workers) == target:
            newest = state.workers[-1]
            if newest.ready:
                self._drain = self._begin_drain(state)
            elif newest.id not in processes:  # no process, no request to lose
                self._api.scale(target - 1)
            else:
                self._postpone(now, f"worker {newest.id}, which TorchServe removes first, is still starting")

    def _finished(self, now: float, drain: DrainAttempt) -> bool:
        if self.desired > len(self.state.workers if self.state else ()) - 1:
            drain.cancel()
        if drain.outcome is None:
            return False
        self._drain = None
        if drain.outcome.removed:
            self._postponed = False
        else:
            self._lifecycle.drain_cancelled(drain.worker)
            if drain.outcome.reason != "called off":
                self._postpone(now, drain.outcome.reason)
        return True

    def _postpone(self, now: float, reason: str) -> None:
        self._retry_drain_s = now + _RETRY_DRAIN_S
        if not self._postponed:
            self._postponed = True
            detail = {
                "from": self.desired,
                "to": self.desired,
                "rule": "postponed",
                "reason": f"removal waits: {reason}",
            }
            self._out.event(self._spec.component, "scale_decision", t=now, detail=detail)

    def close(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
            self._drain.join(2.0)
