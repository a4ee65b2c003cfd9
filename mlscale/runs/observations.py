"""What is observed during a run: replicas, events, resource use. Each becomes one row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["replica", "data_plane", "control_plane", "load_generator", "host"]

EventKind = Literal[
    "load_step",
    "scale_decision",
    "replica_created",
    "replica_unschedulable",
    "replica_scheduled",
    "replica_started",
    "replica_ready",
    "replica_draining",
    "replica_failed",
    "replica_removed",
    "machine_requested",
    "machine_booted",
    "machine_registered",
    "machine_ready",
    "machine_failed",
    "machine_removed",
]


@dataclass(frozen=True, slots=True)
class ReplicaSample:
    """Replica counts of one component at ``t_s`` (run clock). Machines are None where they don't scale."""

    t_s: float
    component: str
    desired: int
    starting: int
    ready: int
    machines_desired: int | None = None
    machines_ready: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something seen at ``t_s`` (run clock), which happened in [t_s - known_within_s, t_s].

    ``subject`` is the replica or machine (empty for a component-wide decision); ``source_time`` is the source's own
    timestamp, as text, if it gives one. A ``scale_decision`` has ``detail`` = {"from": n, "to": n, "reason": text,
    ...}; it is recorded when the desired number changes; decisions to hold are recorded when their reason changes.
    """

    t_s: float
    component: str
    kind: EventKind
    subject: str = ""
    source_time: str | None = None
    known_within_s: float = 0.0
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResourceSample:
    """Resource use of one subject at ``t_s`` (run clock).

    ``cpu_cores`` is the mean since the subject's last sample; ``nr_periods``, ``nr_throttled`` and ``throttled_s`` are
    cumulative (cpu.stat), NaN where there is no quota. The ``host`` role has rss_bytes = memory in use.
    Only for the host: ``psi_avg10_pct`` (/proc/pressure/cpu some avg10; NaN if the kernel lacks it) and
    ``stolen_cores``, taken by the hypervisor since the last sample (/proc/stat steal), not part of ``cpu_cores``.
    """

    t_s: float
    component: str
    subject: str
    role: Role
    cpu_cores: float
    rss_bytes: float
    nr_periods: float = float("nan")
    nr_throttled: float = float("nan")
    throttled_s: float = float("nan")
    psi_avg10_pct: float = float("nan")
    stolen_cores: float = float("nan")


Observation = ReplicaSample | Event | ResourceSample
