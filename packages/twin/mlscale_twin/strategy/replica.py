"""What a profile says about one replica, in the few numbers of the fluid model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mlscale.environments.machine_types import catalogue
from mlscale_twin.durations import Duration
from mlscale_twin.profile import Profile

_PHASES: Final = 200
_POOLED: Final = ("shared-queue",)
_EVEN: Final = ("round-robin", "least-outstanding")
# Squared coefficient of variation of a replica's arrivals where a router spreads requests evenly (Poisson: 1).
_EVEN_CV2: Final = 0.3


@dataclass(frozen=True)
class ReplicaModel:
    """Mean times of one replica, s.

    ``light_s``, ``busy_s``: service on an idle replica, and on one that is never idle; ``service_cv2``,
    ``arrivals_cv2``: squared coefficients of variation; ``outside_s``: of a request outside the replica; ``start_s``:
    from a replica's request to its first; ``boot_s``: of a machine, until pods can start on it; ``pooled``: all
    replicas share one queue.
    """

    light_s: float
    busy_s: float
    service_cv2: float
    arrivals_cv2: float
    outside_s: float
    start_s: float
    boot_s: float
    pooled: bool


def replica_model(profile: Profile, scaling: Mapping[str, Any], work_factor: float = 1.0) -> ReplicaModel:
    """The model of an application in one component.

    Args:
        scaling: every setting of the environment. work_factor: CPU per answer relative to the profile's.
    """
    work = next(iter(profile.work.values()))
    photos = np.asarray(work.photos or (1.0,), dtype=float)
    work_s = work.mean_s.value * work_factor
    cores, period_s = float(scaling["cpu_cores"]), float(scaling["cpu_period_s"])
    return ReplicaModel(
        light_s=float(np.mean([service_alone_s(work_s * share, cores, period_s) for share in photos])),
        busy_s=work_s / min(cores, 1.0),
        service_cv2=float(work.spread.value**2 + photos.var() / photos.mean() ** 2),
        arrivals_cv2=_EVEN_CV2 if profile.requests.routing in _EVEN else 1.0,
        outside_s=profile.requests.outside_s.value,
        start_s=_start_s(profile, scaling),
        boot_s=_boot_s(profile, scaling),
        pooled=profile.requests.routing in _POOLED,
    )


def service_alone_s(work_s: float, cores: float, period_s: float) -> float:
    """Mean time of ``work_s`` of CPU on an idle replica under a CFS quota, over the phase at which it begins, s."""
    if cores >= 1.0:
        return work_s
    quota_s = cores * period_s
    begins_s = (np.arange(_PHASES) + 0.5) / _PHASES * period_s
    left_s = work_s - np.minimum(quota_s, period_s - begins_s)  # after what the current period gives
    full_periods = np.maximum(np.ceil(left_s / quota_s - 1e-9) - 1, 0)
    later_s = period_s - begins_s + full_periods * period_s + left_s - full_periods * quota_s
    return float(np.where(left_s <= 0, work_s, later_s).mean())


def _start_s(profile: Profile, scaling: Mapping[str, Any]) -> float:
    starts = profile.starts
    probe = starts.probe_period_s
    period_s = float(scaling[probe]) if isinstance(probe, str) else probe.value if probe is not None else 0.0
    return sum(_mean_s(step.takes) for step in starts.steps) + _mean_s(starts.noticed) + period_s / 2


def _boot_s(profile: Profile, scaling: Mapping[str, Any]) -> float:
    machines = profile.machines
    if machines is None:
        return 0.0
    parts = [machines.boot_overhead, machines.registers, machines.turns_ready]
    boot_s = _mean_s(machines.boot) if machines.boot is not None else 0.0
    if machines.boot is None and "boot" in scaling:
        boot_s = float(np.mean(catalogue().boot_times_of(str(scaling["boot"])).samples_s))
    return boot_s + sum(_mean_s(part) for part in parts)


def _mean_s(duration: Duration) -> float:
    return float(np.mean([duration.quantile(share) for share in (np.arange(20) + 0.5) / 20]))
