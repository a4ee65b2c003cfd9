"""KEDA's own part of scaling: to and from zero replicas. In between, the HPA that it makes decides. Pure.

Source: KEDA 2.20.2, pkg/scaling/executor/scale_scaledobjects.go (RequestScale, scaleFromZeroOrIdle, scaleToZeroOrIdle).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# How often the HTTP add-on's scaler asks the interceptor for its requests (http-add-on 0.15.0, scaler/config.go,
# KEDA_HTTP_QUEUE_TICK_DURATION); it tells KEDA of the first one within another 0.2 s.
PING_S = 0.5


@dataclass(frozen=True, slots=True)
class KedaState:
    """``last_active_s``: when there was a request at the last look that saw one."""

    last_active_s: float = -math.inf


def look(now_s: float, active: bool, replicas: int, cooldown_s: float, state: KedaState) -> tuple[int, KedaState]:
    """The replicas from now on.

    Args:
        active: whether the interceptor has a request, held or being answered.
        replicas: wanted until now.
    """
    if active:
        return max(1, replicas), KedaState(now_s)
    if replicas > 0 and state.last_active_s + cooldown_s < now_s:
        return 0, state
    return replicas, state
