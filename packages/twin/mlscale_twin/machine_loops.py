"""Loops that request machines, in virtual time: Karpenter, the Cluster Autoscaler, and an ECS capacity provider's
managed scaling."""

from __future__ import annotations

from typing import Final

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
        self._batch_open = False
        fleet.on_pending(self._on_pending)
        timeline.every(karpenter.POLLING_S, timeline.now_s + float(rng.uniform(0, karpenter.POLLING_S)), self._check)
        self._busy = False

    def _on_pending(self, pod: Pod) -> None:
        now_s = self._timeline.now_s
        if not self._batch_open:
            self._batch_open, self._first_s = True, now_s
            self._timeline.after(karpenter.BATCH_IDLE_S, self._close_batch)
        self._last_s = now_s

    def _close_batch(self) -> None:
        ends_s = karpenter.batch_ends_s(self._first_s, self._last_s)
        if ends_s > self._timeline.now_s + 1e-9:
            self._timeline.at(ends_s, self._close_batch)
            return
        self._batch_open = False
        machines = [host.machine for host in self._fleet.active]
        pods = [pod.request for pod in self._fleet.pending.values()]
        for new in karpenter.provision(pods, machines, self._settings).new:
            self._fleet.request(new.type)

    def _check(self) -> None:
        if self._busy or self._fleet.pending:
            return
        disruption = self._find_disruption()
        if disruption.machines:
            self._busy = True
            self._timeline.after(karpenter.VALIDATION_S, lambda: self._validate(disruption))

    def _find_disruption(self) -> karpenter.Disruption:
        machines = [host.machine for host in self._fleet.active]
        return karpenter.disrupt(machines, self._timeline.now_s, self._settings)

    def _validate(self, before: karpenter.Disruption) -> None:
        self._busy = False
        if self._fleet.pending or not set(before.machines) <= set(self._find_disruption().machines):
            return
        hosts = [host for host in self._fleet.present if host.name in before.machines]
        if before.replacement is None:
            self._drain(hosts)
            return
        self._busy = True
        self._drain_when_ready(self._fleet.request(before.replacement), hosts)

    def _drain_when_ready(self, new: Host, hosts: list[Host]) -> None:
        """Drains the replaced machines once their replacement is ready."""
        if new.ready or new.gone:
            self._busy = False
            if new.ready:
                self._drain(hosts)
            return
        self._timeline.after(1.0, lambda: self._drain_when_ready(new, hosts))

    def _drain(self, hosts: list[Host]) -> None:
        for host in hosts:
            if not host.gone and not host.draining:
                self._fleet.drain(host)


# The Cluster Autoscaler's defaults (kubernetes/autoscaler, FAQ: --scan-interval, --scale-down-unneeded-time).
SCAN_S: Final = 10.0
UNNEEDED_S: Final = 600.0


class ClusterAutoscalerLoop:
    """Scans for pods without room, and requests as many machines as they need beyond those on their way; removes
    machines that have been empty for ten minutes. (Our simplification: it never moves pods to empty a machine.)"""

    def __init__(
        self, fleet: Fleet, settings: karpenter.PoolSettings, timeline: Timeline, rng: np.random.Generator
    ) -> None:
        self._fleet, self._settings, self._timeline = fleet, settings, timeline
        timeline.every(SCAN_S, timeline.now_s + float(rng.uniform(0, SCAN_S)), self._scan)

    def _scan(self) -> None:
        pods = [pod.request for pod in self._fleet.pending.values()]
        machines = [host.machine for host in self._fleet.active]
        for new in karpenter.provision(pods, machines, self._settings).new if pods else ():
            self._fleet.request(new.type)
        for host in self._fleet.active[1:]:
            if host.registered and not host.pods and self._timeline.now_s - host.quiet_since_s >= UNNEEDED_S:
                self._fleet.drain(host)


class ManagedScalingLoop:
    """Compares once per period the instances with those that the tasks need."""

    def __init__(
        self,
        fleet: Fleet,
        settings: capacity_provider.ManagedScalingSettings,
        instance_type: InstanceType,
        timeline: Timeline,
        rng: np.random.Generator,
    ) -> None:
        self._fleet, self._settings, self._instance_type, self._timeline = fleet, settings, instance_type, timeline
        self._state = capacity_provider.ManagedScalingState()
        period_s = capacity_provider.PERIOD_S
        timeline.every(period_s, timeline.now_s + float(rng.uniform(0, period_s)), self._check)

    def _check(self) -> None:
        hosts = self._fleet.active
        running = [host for host in hosts if host.registered]
        capacity_milli = self._instance_type.allocatable.cpu_milli
        shares = tuple(pod.requests.cpu_milli / capacity_milli for pod in self._fleet.pending.values())
        in_use = sum(bool(host.pods) for host in running)
        observation = capacity_provider.InstancesObservation(
            self._timeline.now_s, len(hosts), len(running), in_use, shares
        )
        decision = capacity_provider.decide(observation, self._settings, self._state)
        self._state = decision.state
        for _ in range(decision.desired - len(hosts)):
            self._fleet.request(self._instance_type)
        empty = [host for host in running if not host.pods]
        for host in empty[: max(0, len(hosts) - decision.desired)]:
            self._fleet.drain(host)
