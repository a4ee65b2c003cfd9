"""How long requests wait while another replica is idle, a measure of routing, from the requests alone."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.durations import answered
from mlscale.runs import Run

Floats = npt.NDArray[np.float64]
# Shorter pauses between two answers do not count as idle.
PAUSE_S: Final = 0.05


def idle_while_queued_share(run: Run, from_s: float, to_s: float) -> float:
    """Share of the requests' waiting time during which another replica was idle; NaN if none waited.

    Near 0 with one shared queue; large where routing ignores which replicas are free. A replica counts from its first
    request to its last.

    Args:
        from_s, to_s: served requests scheduled in between count.
    """
    served = answered(run.requests).dropna(subset=["replica_id", "queue_s"])
    served = served.assign(start_s=served["done_s"] - served["inference_s"])
    inside = served[served["intended_s"].between(from_s, to_s)]
    gaps = {str(name): _gaps(requests) for name, requests in served.groupby("replica_id")}
    waited_s = beside_idle_s = 0.0
    for name, requests in inside.groupby("replica_id"):
        others = [spans for other, spans in gaps.items() if other != str(name)]
        idle_s = _union(np.concatenate(others)) if others else np.empty((0, 2))
        start_s, queue_s = requests["start_s"].to_numpy(float), requests["queue_s"].to_numpy(float)
        waited_s += float(queue_s.sum())
        beside_idle_s += float((_within(idle_s, start_s) - _within(idle_s, start_s - queue_s)).sum())
    return beside_idle_s / waited_s if waited_s > 0 else float("nan")


def _gaps(served: pd.DataFrame) -> Floats:
    """Idle times of one replica between requests: from, to (gaps, 2), s."""
    ordered = served.sort_values("start_s", kind="stable")
    begins = ordered["start_s"].to_numpy(float)[1:]
    ends = np.maximum.accumulate(ordered["done_s"].to_numpy(float))[:-1]
    return np.asarray(np.column_stack([ends, begins])[begins - ends > PAUSE_S])


def _union(spans: Floats) -> Floats:
    """Spans that may overlap -> their union, in order."""
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    if not len(spans):
        return spans
    reached = np.maximum.accumulate(spans[:, 1])
    first = np.concatenate([[True], spans[1:, 0] > reached[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.column_stack([spans[first, 0], reached[last]])


def _within(spans: Floats, at_s: Floats) -> Floats:
    """Total length of the spans (disjoint, in order) before each time, s."""
    if not len(spans):
        return np.zeros_like(at_s)
    lengths = np.column_stack([np.zeros(len(spans)), spans[:, 1] - spans[:, 0]]).ravel()
    return np.asarray(np.interp(at_s, spans.ravel(), np.cumsum(lengths)))
