"""Load sharing after a scale-out: the new replicas' share of answers, against an even spread."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from mlscale.analysis.provisioning import known_before
from mlscale.analysis.response import horizon_of
from mlscale.runs import MlscaleError, Run

BIN_S: Final = 5.0


def new_replica_share(run: Run) -> pd.DataFrame:
    """Per bin of `BIN_S` since the step: t_s (its middle), answers, share (of right answers by new replicas), fair.

    New replicas are those created after the step. ``fair``: their share of the replicas ready at the bin's end, which
    is their share of the answers under an even spread; NaN before the first sample.

    Raises:
        MlscaleError: the schedule has no step.
    """
    t0 = run.info.step_s
    if t0 is None:
        raise MlscaleError("the schedule has no step, so no replica is new", str(run.path), "leave it out")
    right = run.requests[(run.requests["status"] == "ok") & (run.requests["done_s"] >= t0)]
    existing = known_before(run, t0)
    numbers = np.floor((right["done_s"] - t0) / BIN_S)
    is_new = ~right["replica_id"].astype(str).isin(existing)
    bins = pd.DataFrame({"bin": numbers, "new": is_new}).groupby("bin")["new"].agg(["size", "mean"])
    bins = bins[bins.index < np.ceil(horizon_of(run) / BIN_S)]
    ends_s = t0 + (bins.index.to_numpy(dtype=float) + 1) * BIN_S
    ready = [_ready(run, end_s) for end_s in ends_s]
    before = _ready(run, t0)
    fair = [max(0.0, count - before) / count if count else np.nan for count in ready]
    return pd.DataFrame(
        {
            "t_s": ends_s - t0 - BIN_S / 2,
            "answers": bins["size"].to_numpy(),
            "share": bins["mean"].to_numpy(dtype=float),
            "fair": fair,
        }
    )


def _ready(run: Run, t_s: float) -> float:
    samples = run.replicas[run.replicas["t_s"] <= t_s].sort_values("t_s", kind="stable")
    return float(samples.groupby("component")["ready"].last().sum()) if len(samples) else float("nan")
