"""Loops that request machines, in virtual time: Karpenter, and an ECS capacity provider's managed scaling."""

from __future__ import annotations

import numpy as np

from mlscale_twin.machines import Fleet, Host, Pod
from mlscale_twin.policies import capacity_provider, karpenter
from mlscale_twin.policies.karpenter import InstanceType
from mlscale_twin.timeline import Timeline


class KarpenterLoop:
    """Batches waiting pods and requests machines; looks for removable machines every 10 s, and validates 15 s later."""

    def __init__(
        self, fleet: Fleet, settings: karpenter.PoolSettings, timeline: Timeline, rng: np.random.Generator
    ) -> None:
        self._fleet, self._settings, self._timeline = fleet, settings, timeline
        self._first_s = self._last_s = float("nan")
        self._open = False
        fleet.when_pending(self._pending)
        timeline.every(karpenter.POLLING_S, timeline.now_s + float(rng.uniform(0, karpenter.POLLING_S)), self._look)
        self._busy = False

    def _pending(self, pod: Pod) -> None:
        now_s = self._timeline.now_s
        if not self._open:
            self._open, self._first_s = True, now_s
            self._timeline.after(self._settings.batch_idle_s, self._close)
        self._last_s = now_s

    def _close(self) -> None:
        ends_s = karpenter.batch_ends_s(self._first_s, self._last_s, self._settings)
        if ends_s > self._timeline.now_s + 1e-9:
            self._timeline.at(ends_s, self._close)
            return
        self._open = False
        machines = [host.machine for host in self._fleet.staying]
        pods = [pod.request for pod in self._fleet.pending.values()]
        for new in karpenter.provision(pods, machines, self._settings).new:
            self._fleet.ask(new.type)

    def _look(self) -> None:
        if self._busy or self._fleet.pending:
            return
        found = self._disruption()
        if found.machines:
            self._busy = True
            self._timeline.after(karpenter.VALIDATION_S, lambda: self._validated(found))

    def _disruption(self) -> karpenter.Disruption:
        machines = [host.machine for host in self._fleet.staying]
        return karpenter.disrupt(machines, self._timeline.now_s, self._settings)

    def _validated(self, before: karpenter.Disruption) -> None:
        self._busy = False
        if self._fleet.pending or not set(before.machines) <= set(self._disruption().machines):
            return
        going = [host for host in self._fleet.there if host.name in before.machines]
        if before.replacement is None:
            self._drain(going)
            return
        self._busy = True
        self._replaced(self._fleet.ask(before.replacement), going)

    def _replaced(self, new: Host, going: list[Host]) -> None:
        """Called once the replacement is ready."""
        if new.ready or new.gone:
            self._busy = False
            if new.ready:
                self._drain(going)
            return
        self._timeline.after(1.0, lambda: self._replaced(new, going))

    def _drain(self, going: list[Host]) -> None:
        for host in going:
            if not host.gone and not host.going:
                self._fleet.drain(host)


class ManagedScalingLoop:
    """Compares once per period the instances with those that the tasks need."""

    def __init__(
        self,
        fleet: Fleet,
        settings: capacity_provider.ManagedScalingSettings,
        kind: InstanceType,
        timeline: Timeline,
        rng: np.random.Generator,
    ) -> None:
        self._fleet, self._settings, self._kind, self._timeline = fleet, settings, kind, timeline
        self._state = capacity_provider.ManagedScalingState()
        period_s = settings.period_s
        timeline.every(period_s, timeline.now_s + float(rng.uniform(0, period_s)), self._look)

    def _look(self) -> None:
        hosts = self._fleet.staying
        running = [host for host in hosts if host.registered]
        room = self._kind.allocatable.cpu_milli
        shares = tuple(pod.requests.cpu_milli / room for pod in self._fleet.pending.values())
        in_use = sum(bool(host.pods) for host in running)
        observation = capacity_provider.InstancesObservation(
            self._timeline.now_s, len(hosts), len(running), in_use, shares
        )
        decision = capacity_provider.decide(observation, self._settings, self._state)
        self._state = decision.state
        for _ in range(decision.desired - len(hosts)):
            self._fleet.ask(self._kind)
        empty = [host for host in running if not host.pods]
        for host in empty[: max(0, len(hosts) - decision.desired)]:
            self._fleet.drain(host)
