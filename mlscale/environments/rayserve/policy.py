"""Ray's default autoscaling policy, saying aloud what it saw.

Ray pickles this module's class by value into its controller. Nothing gives decisions with their reasons from outside
(Ray 2.60 never fills ``autoscaling_detail``), so the policy is wrapped: it returns exactly what Ray's own returns, and
sends one datagram about it to a Unix socket. Factors, delays and bounds stay Ray's: they are applied around any policy.
"""

from __future__ import annotations

import json
import math
import socket
import time
from typing import Any


class ReportingPolicy:
    """``address``: path of a Unix datagram socket. A reader that is slow or gone never holds a decision up."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def __call__(self, ctx: Any) -> tuple[int | float, dict[str, Any]]:
        """``ctx``: ray.serve.config.AutoscalingContext."""
        from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy

        decision: tuple[int | float, dict[str, Any]] = replica_queue_length_autoscaling_policy(ctx)
        message = json.dumps(reading(ctx, decision[0])).encode()
        try:
            self._socket.sendto(message, self._address)
        except OSError:
            self.lost = getattr(self, "lost", 0) + 1
        return decision


def reading(ctx: Any, raw: float) -> dict[str, float]:
    """What the policy saw and wants: t (time.monotonic()), total, queued, current, target, raw, wanted.

    ``total`` and ``queued`` are Ray's aggregates over the look-back; ``current`` replicas run, ``target`` are desired
    so far, ``raw`` is the policy's output, ``wanted`` the same after factors and bounds and before delays.
    """
    from ray.serve.autoscaling_policy import _apply_scaling_factors

    wanted = _apply_scaling_factors(raw, ctx.current_num_replicas, ctx.config)
    return {
        "t": time.monotonic(),
        "total": float(ctx.total_num_requests),
        "queued": float(ctx.total_queued_requests),
        "current": ctx.current_num_replicas,
        "target": ctx.target_num_replicas,
        "raw": float(raw),
        "wanted": max(ctx.capacity_adjusted_min_replicas, min(ctx.capacity_adjusted_max_replicas, math.ceil(wanted))),
    }
