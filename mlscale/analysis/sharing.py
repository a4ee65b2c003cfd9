"""Who answers after a scale-out: the share of replicas that are new, against the share that would be theirs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mlscale.analysis.provisioning import known_before
from mlscale.analysis.response import horizon_of
from mlscale.runs import MlscaleError, Run

BIN_S = 5.0


def new_replica_share(run: Run, bin_s: float = BIN_S) -> pd.DataFrame:
    """Per bin of ``bin_s`` since the step: t_s (its middle), answers, share (of right answers by new replicas), fair.

    New: created after the step. ``fair``: new ones among the replicas that are ready at the bin's end, which is what
    an even spread would give them; NaN before the first sample.

    Raises:
        MlscaleError: the schedule has no step.
    """
    t0 = run.info.step_s
    if t0 is None:
        raise MlscaleError("the schedule has no step, so no replica is new", str(run.path), "leave it out")
    right = run.requests[(run.requests["status"] == "ok") & (run.requests["done_s"] >= t0)]
    old = known_before(run, t0)
    numbers = np.floor((right["done_s"] - t0) / bin_s)
    new = ~right["replica_id"].astype(str).isin(old)
    found = pd.DataFrame({"bin": numbers, "new": new}).groupby("bin")["new"].agg(["size", "mean"])
    found = found[found.index < np.ceil(horizon_of(run) / bin_s)]
    ends_s = t0 + (found.index.to_numpy(dtype=float) + 1) * bin_s
    ready = [_ready(run, end_s) for end_s in ends_s]
    before = _ready(run, t0)
    fair = [max(0.0, now - before) / now if now else np.nan for now in ready]
    return pd.DataFrame(
        {
            "t_s": ends_s - t0 - bin_s / 2,
            "answers": found["size"].to_numpy(),
            "share": found["mean"].to_numpy(dtype=float),
            "fair": fair,
        }
    )


def _ready(run: Run, t_s: float) -> float:
    samples = run.replicas[run.replicas["t_s"] <= t_s].sort_values("t_s", kind="stable")
    return float(samples.groupby("component")["ready"].last().sum()) if len(samples) else float("nan")
