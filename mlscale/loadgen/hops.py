"""What a partitioned application says of a request's way through its components: the header X-Mlscale-Hops.

JSON, a row for each visit of a component: [component, replica, started_s, queue_s, inference_s], times of the server's
time.monotonic(); queue_s is null for the front, whose queue only the client can tell (METHOD §1).
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NamedTuple

HEADER: Final = "X-Mlscale-Hops"
_MOST: Final = 64


class Hop(NamedTuple):
    """One visit of one component; NaN where it is not told."""

    component: str
    replica_id: str
    started_s: float
    queue_s: float
    inference_s: float


def read_hops(text: str | None, queue_s: float) -> tuple[Hop, ...]:
    """The rows of the header's ``text``; none where there is no header, or one that makes no sense.

    Args:
        queue_s: how long the request waited for the front.
    """
    if text is None:
        return ()
    try:
        return tuple(_hop(row, queue_s) for row in json.loads(text)[:_MOST])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()


def _hop(row: Any, queue_s: float) -> Hop:
    component, replica, started, queue, inference = row
    if not (isinstance(component, str) and isinstance(replica, str)):
        raise TypeError("a name is not text")
    return Hop(component, replica, _number(started), queue_s if queue is None else _number(queue), _number(inference))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise TypeError("a time is not a number")
    return float(value)
