"""The twin of one run: a profile's platform under a schedule, with its control loops in virtual time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlscale.runs import ClosedLoop, Event, MlscaleError, OpenLoop, ReplicaSample, ResourceSample
from mlscale_twin.control import start_loop
from mlscale_twin.durations import Duration, Fixed
from mlscale_twin.engine import Engine, Statistics
from mlscale_twin.loops import LoopContext
from mlscale_twin.machine_loops import ClusterAutoscalerLoop, KarpenterLoop, ManagedScalingLoop
from mlscale_twin.machines import Arrival, Fleet, FleetPlacer, Pod
from mlscale_twin.policies import capacity_provider, karpenter
from mlscale_twin.policies.karpenter import InstanceType, Resources
from mlscale_twin.profile import Profile
from mlscale_twin.replicas import Lifecycle, Log, Replicas
from mlscale_twin.settings import NO_LIMIT, Clients, Processor, Queueing, Service
from mlscale_twin.timeline import Timeline

# Period at which replicas are counted.
SAMPLE_S: Final = 0.5
# Period at which their CPU is read, at most `_MAX_READINGS` times.
USAGE_S: Final = 1.0
_MAX_READINGS: Final = 3600
_INSTANT: Final = Fixed(value_s=0.0, source="by definition", date="2026-11")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What is simulated.

    ``scalings``: settings by component with every default filled in; the first component is the front. ``photos``:
    names in the photo set. ``work_factor``: its photos' work relative to the profile's. ``types``, ``boot``: of
    machines, if the profile has any (its own boot time takes precedence); ``machine_failures_per_h``: random failures
    per machine. ``seed``, ``block``: of client behaviour, as in the load generator; ``draw``: seed of everything else.
    ``hpa_sync_at_s``: a known time at which the HPA decided; the others follow from the period. ``scheduled_min``: from
    when, s, there are at least how many replicas of each component. ``records``: of requests, and counts of replicas;
    ``usage``: their CPU with them. Else there are statistics alone, of requests sent from ``begin_s`` on.
    ``initial``: replicas of each component at first; None: the minimum, one at least. ``sends_s``: when requests are
    sent, in place of the schedule's times, ascending (n,).
    """

    profile: Profile
    schedule: ClosedLoop | OpenLoop
    scalings: Mapping[str, Mapping[str, Any]]
    photos: Sequence[str] = ("photo",)
    work_factor: float = 1.0
    types: Sequence[InstanceType] = ()
    boot: Duration | None = None
    machine_failures_per_h: float = 0.0
    timeout_s: float = 30.0
    seed: int = 0
    block: int = 0
    draw: int = 0
    hpa_sync_at_s: float | None = None
    records: bool = True
    usage: bool = True
    begin_s: float = 0.0
    scheduled_min: Sequence[tuple[float, int]] = ()
    initial: int | None = None
    sends_s: npt.NDArray[np.float64] | None = None

    def first_replicas(self, scaling: Mapping[str, Any]) -> int:
        """Replicas of a component with which the run begins; one if it scales to zero, as after a live deployment."""
        return max(1, int(scaling["min_replicas"])) if self.initial is None else self.initial


@dataclass(frozen=True, slots=True)
class TwinResult:
    """``rows``: requests (`layout.ROWS`), empty without records; ``names``: replica names by their number in
    ``rows``."""

    rows: npt.NDArray[np.void]
    names: Mapping[int, str]
    events: Sequence[Event]
    samples: Sequence[ReplicaSample]
    resources: Sequence[ResourceSample]
    statistics: Statistics


class Twin:
    """One simulated world, built from a `Setup` but not started.

    Raises:
        MlscaleError: the profile lacks a component, or a setting is not supported.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._rng = np.random.default_rng([setup.seed, setup.block, _STREAM, setup.draw])
        self._timeline = Timeline(_engine(setup))
        self._log = Log()
        self._samples: list[ReplicaSample] = []
        self._resources: list[ResourceSample] = []
        self._cpu_s: dict[str, float] = {}
        self._usage_period_s = max(USAGE_S, setup.schedule.duration_s / _MAX_READINGS)
        self._fleet = self._machines()
        self._components = [self._component(place, name) for place, name in enumerate(setup.scalings)]

    def run(self, progress: Any = None) -> TwinResult:
        """Runs from the first request until the last one ends; ``progress`` is called with the share done."""
        setup = self._setup
        duration_s = setup.schedule.duration_s
        if setup.records:
            self._timeline.every(SAMPLE_S, 0.0, self._sample_replicas)
        if setup.records and setup.usage:
            self._timeline.every(self._usage_period_s, 0.0, self._sample_cpu)
        if progress is not None:
            self._timeline.every(duration_s / 100, 0.0, lambda: progress(self._share_done(duration_s)))
        self._timeline.run(duration_s + (setup.timeout_s if math.isfinite(setup.timeout_s) else 0.0))
        engine = self._timeline.engine
        return TwinResult(
            engine.take_rows(),
            self._log.names,
            self._log.events,
            self._samples,
            self._resources,
            engine.statistics(),
        )

    def _share_done(self, duration_s: float) -> float:
        return min(1.0, self._timeline.engine.now_s / duration_s)

    def _component(self, place: int, name: str) -> Replicas:
        setup, scaling = self._setup, self._setup.scalings[name]
        placer = None
        if self._fleet is not None:
            placer = FleetPlacer(self._fleet, _requests(scaling))
        replicas = Replicas(
            name, place, _lifecycle(setup.profile, scaling), self._timeline, self._log, self._rng, placer
        )
        replicas.start_initial(setup.first_replicas(scaling))
        context = LoopContext(self._timeline, replicas, place, self._rng, setup.hpa_sync_at_s)
        start_loop(context, scaling, setup.profile)
        for from_s, least in setup.scheduled_min:
            self._timeline.at(from_s, partial(replicas.schedule_min, least))
        return replicas

    def _machines(self) -> Fleet | None:
        """The initial machines, and the loop that requests more."""
        setup, profile = self._setup, self._setup.profile
        if profile.machines is None or not setup.types:
            return None
        machines = profile.machines
        boot = (machines.boot or setup.boot or _INSTANT, machines.boot_overhead)
        apart_s = machines.apart.value if machines.apart is not None else 0.0
        arrival = Arrival(boot, machines.registers, machines.turns_ready, apart_s)
        fleet = Fleet(arrival, self._timeline, self._log, self._rng)
        front = next(iter(setup.scalings.values()))
        instance_type = min(setup.types, key=lambda candidate: candidate.price)
        for _ in range(_initial_hosts(setup, instance_type)):
            fleet.add_initial(instance_type)
        if profile.machines.by != "capacity-provider":
            loop = KarpenterLoop if profile.machines.by == "karpenter" else ClusterAutoscalerLoop
            loop(fleet, _pool(setup, front), self._timeline, self._rng)
        else:
            limits = {"min_instances": front["min_instances"], "max_instances": front["max_instances"]}
            settings = capacity_provider.ManagedScalingSettings(target_capacity=front["target_capacity"], **limits)
            ManagedScalingLoop(fleet, settings, instance_type, self._timeline, self._rng)
        for number in range(front.get("buffer_replicas", 0)):
            fleet.place(Pod(f"kept-free-{number + 1}", _requests(front), 0.0))
        if setup.machine_failures_per_h:
            self._next_failure(fleet)
        return fleet

    def _next_failure(self, fleet: Fleet) -> None:
        number = max(1, len(fleet.present))
        wait_s = float(self._rng.exponential(3600 / (self._setup.machine_failures_per_h * number)))

        def fail() -> None:
            registered = [host for host in fleet.present if host.registered]
            if registered:
                fleet.fail(registered[int(self._rng.integers(len(registered)))])
            self._next_failure(fleet)

        self._timeline.after(wait_s, fail)

    def _sample_replicas(self) -> None:
        for replicas in self._components:
            sample = replicas.sample()
            if self._fleet is not None:
                ready = sum(host.ready for host in self._fleet.present)
                sample = ReplicaSample(
                    sample.t_s, sample.component, sample.desired, sample.starting, sample.ready,
                    self._fleet.desired, ready,
                )  # fmt: skip
            self._samples.append(sample)

    def _sample_cpu(self) -> None:
        now_s = self._timeline.now_s
        for replicas in self._components:
            for replica in replicas.in_state("ready", "draining"):
                if replica.slot < 0:
                    continue
                used_s = self._timeline.engine.cpu_s(replica.slot)
                cores = (used_s - self._cpu_s.get(replica.name, 0.0)) / self._usage_period_s
                self._cpu_s[replica.name] = used_s
                self._resources.append(ResourceSample(now_s, replicas.name, replica.name, "replica", cores, 0.0))


# Stream of random numbers for everything but requests.
_STREAM: Final = 11
# The limit of waiting requests in TorchServe, Ray Serve and the application's container.
_QUEUE_LIMIT_SETTINGS: Final = ("job_queue_size", "max_queued_requests", "max_waiting")
# For replicas that drain while others serve.
_SPARE_SLOTS: Final = 32


def _engine(setup: Setup) -> Engine:
    profile, names = setup.profile, list(setup.scalings)
    missing = [name for name in names if name not in profile.work]
    if missing:
        raise MlscaleError(
            f"component {missing[0]!r} is missing",
            f"profile {profile.environment}",
            "calibrate it with runs of that component",
        )
    front = setup.scalings[names[0]]
    samples = np.stack([profile.work[name].samples_s(len(setup.photos)) for name in names]) * setup.work_factor
    calls = None
    if len(names) > 1:
        calls = np.tile(np.array(profile.calls or (1,), np.int64), (len(setup.photos), 1))
    requests = profile.requests
    stale_s = requests.stale_s.value if requests.stale_s is not None else 0.0
    return Engine(
        setup.schedule,
        Service(
            distribution="measured",
            samples_s=samples,
            calls=calls,
            ahead_cpu_s=tuple(profile.work[name].ahead_cpu_s * setup.work_factor for name in names),
            after_cpu_s=tuple(profile.work[name].after_cpu_s * setup.work_factor for name in names),
            poll_cpu_s=tuple(profile.work[name].poll_cpu_s * setup.work_factor for name in names),
            waits_s=tuple(profile.work[name].waits_s for name in names),
        ),
        Processor(quota_cores=front["cpu_cores"], period_s=front["cpu_period_s"]),
        [_queueing(profile, setup.scalings[name], stale_s) for name in names],
        Clients(setup.timeout_s, requests.drops_given_up, requests.outside_s.value),
        max_replicas=sum(scaling["max_replicas"] for scaling in setup.scalings.values()) + _SPARE_SLOTS,
        photos=len(setup.photos),
        seed=setup.seed,
        block=setup.block,
        draw=setup.draw,
        records=setup.records,
        begin_s=setup.begin_s,
        sends_s=setup.sends_s,
    )


def _queueing(profile: Profile, scaling: Mapping[str, Any], stale_s: float) -> Queueing:
    routing, polling = profile.requests.routing, profile.polling(scaling)
    limit = _queue_limit(profile, scaling)
    if routing != "shared-queue" or polling is None:
        return Queueing(routing, limit, stale_s, holds=scaling["min_replicas"] == 0)
    return Queueing("polled-queue", limit, polling=polling)


def _queue_limit(profile: Profile, scaling: Mapping[str, Any]) -> int:
    """Most requests that may wait, at the component or in each replica: the profile's number, else the setting's. A
    negative setting (Ray Serve's default) means no limit."""
    own = profile.requests.queue_limit
    limit = (
        int(own.value)
        if own is not None
        else next((scaling[name] for name in _QUEUE_LIMIT_SETTINGS if name in scaling), -1)
    )
    return limit if limit >= 0 else NO_LIMIT


def _lifecycle(profile: Profile, scaling: Mapping[str, Any]) -> Lifecycle:
    starts = profile.starts
    probe = starts.probe_period_s
    probe_s = scaling["readiness_period_s"] if isinstance(probe, str) else (probe.value if probe is not None else 0.0)
    at_once = int(starts.at_once.value) if starts.at_once is not None else 1_000_000
    return Lifecycle(
        starts.steps,
        starts.noticed,
        starts.leaves,
        float(probe_s),
        scaling.get("startup_concurrency") or at_once,
        starts.one_by_one,
        starts.alike.value if starts.alike is not None else 0.0,
        starts.crowding.value if starts.crowding is not None else 0.0,
    )


def _requests(scaling: Mapping[str, Any]) -> Resources:
    return Resources(round(1000 * scaling["cpu_cores"]), scaling["memory_mib"] * 2**20)


def _pool(setup: Setup, scaling: Mapping[str, Any]) -> karpenter.PoolSettings:
    smallest = min(candidate.capacity.memory_bytes for candidate in setup.types)
    return karpenter.PoolSettings(
        tuple(setup.types),
        scaling["max_machines"] * smallest,
        float(scaling["consolidate_after_s"]),
        scaling["consolidation"],
    )


def _initial_hosts(setup: Setup, instance_type: InstanceType) -> int:
    """Machines needed for the first replicas and the reserved room."""
    pods = [_requests(scaling) for scaling in setup.scalings.values() for _ in range(setup.first_replicas(scaling))]
    front = next(iter(setup.scalings.values()))
    pods += [_requests(front)] * front.get("buffer_replicas", 0)
    if any(not pod.fits(instance_type.allocatable) for pod in pods):
        raise MlscaleError(
            f"{instance_type.name} has no room for a replica",
            "machine types",
            "choose a larger type, or smaller replicas",
        )
    room: list[Resources] = []
    for pod in pods:
        for index, left in enumerate(room):
            if pod.fits(left):
                room[index] = left - pod
                break
        else:
            room.append(instance_type.allocatable - pod)
    return max(len(room), int(front.get("min_instances", 0)))
