"""Ray's default autoscaling policy, which also reports its inputs.

Ray does not expose the reasons for its decisions (Ray 2.60 never fills ``autoscaling_detail``). So its policy is
wrapped: the result is exactly Ray's own, and one datagram per decision goes to a Unix socket. Ray applies its factors,
delays and bounds around any policy, and pickles this module's class by value into its controller.
"""

from __future__ import annotations

import json
import math
import socket
import time
from typing import Any


class ReportingPolicy:
    """``address``: path of a Unix datagram socket. A slow or missing reader never delays a decision."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.lost = 0
        """Reports that were not delivered."""

    def __call__(self, ctx: Any) -> tuple[int | float, dict[str, Any]]:
        """``ctx``: ray.serve.config.AutoscalingContext."""
        from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy

        decision: tuple[int | float, dict[str, Any]] = replica_queue_length_autoscaling_policy(ctx)
        message = json.dumps(reading(ctx, decision[0])).encode()
        try:
            self._socket.sendto(message, self._address)
        except OSError:
            self.lost += 1
        return decision


def reading(ctx: Any, raw: float) -> dict[str, float]:
    """The policy's inputs and result: t (time.monotonic()), total, queued, current, target, raw, wanted.

    ``total`` and ``queued`` are Ray's aggregates over the look-back; ``current`` is the number of running replicas,
    ``target`` the desired number so far, ``raw`` the policy's output, ``wanted`` that after factors and bounds and
    before delays.
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
