"""A request's path through the components of a partitioned application, from the header X-Mlscale-Hops.

JSON with a row per visit to a component: [component, replica, started_s, queue_s, inference_s]. Times are the server's
time.monotonic(); queue_s is null for the front, whose queueing only the client can measure (METHOD §1).
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NamedTuple

HEADER: Final = "X-Mlscale-Hops"
_MAX_HOPS: Final = 64


class Hop(NamedTuple):
    """One visit to a component; NaN where not reported."""

    component: str
    replica_id: str
    started_s: float
    queue_s: float
    inference_s: float


def read_hops(text: str | bytes | None, queue_s: float) -> tuple[Hop, ...]:
    """The rows of the header's ``text``; none if the header is missing or malformed.

    Args:
        queue_s: how long the request waited for the front.
    """
    if text is None:
        return ()
    try:
        return tuple(_hop(row, queue_s) for row in json.loads(text)[:_MAX_HOPS])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return ()


def _hop(row: Any, queue_s: float) -> Hop:
    component, replica, started, queue, inference = row
    if not (isinstance(component, str) and isinstance(replica, str)):
        raise TypeError("a name is not text")
    (component + replica).encode()  # half a surrogate pair can't be written: a ValueError
    return Hop(component, replica, _number(started), queue_s if queue is None else _number(queue), _number(inference))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise TypeError("a time is not a number")
    return float(value)
