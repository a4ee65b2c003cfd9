"""What an idle framework costs: CPU and memory by role before the load begins (METHOD §6)."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Final

from mlscale.runs import Observation, ResourceSample

_ROLES: Final = ("replica", "data_plane", "control_plane", "host")


class IdleMeter:
    """Averages resource samples taken until ``until_s`` (run clock), in constant memory.

    A role's cores are the sum of its subjects' means; likewise its resident memory.
    """

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s
        self._sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])

    def add(self, observation: Observation) -> None:
        """Count a sample if it was taken by ``until_s``; NaN values are ignored."""
        if (
            not isinstance(observation, ResourceSample)
            or observation.t_s > self._until_s
            or observation.role not in _ROLES
        ):
            return
        sums = self._sums[observation.role, observation.subject]
        for column, value in ((0, observation.cpu_cores), (2, observation.rss_bytes)):
            if not math.isnan(value):
                sums[column] += value
                sums[column + 1] += 1

    def result(self) -> dict[str, float]:
        """``{"control_plane_cores": 0.12, "control_plane_rss_bytes": 1.1e9, ...}`` for every role with samples."""
        totals: dict[str, float] = {}
        for (role, _), (cores, cores_n, rss, rss_n) in list(self._sums.items()):
            for name, total, number in ((f"{role}_cores", cores, cores_n), (f"{role}_rss_bytes", rss, rss_n)):
                if number:
                    totals[name] = totals.get(name, 0.0) + total / number
        return {name: round(value, 6) for name, value in sorted(totals.items())}
