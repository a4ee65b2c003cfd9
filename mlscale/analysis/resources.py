"""The resources that a run uses: CPU-seconds, memory and throttling by role over a time span."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

# Roles that serve requests; the load generator and the whole host are accounted for separately.
SERVING: Final = ("replica", "data_plane", "control_plane")


def cpu_by_role(resources: pd.DataFrame, from_s: float, to_s: float) -> pd.DataFrame:
    """CPU-seconds and memory by role in [from_s, to_s].

    A sample's cpu_cores is the mean since its subject's previous sample, so it is multiplied by that time (clipped
    to the span). Use before a subject's first sample is not counted (a replica's first half second).

    Returns:
        Index role; columns cpu_s, mean_cores (cpu_s over the span), mean_rss_bytes and peak_rss_bytes (of the
        role's sum).
    """
    cpu_s = cpu_s_by_role(resources, from_s, to_s)
    inside = resources.loc[resources["t_s"].between(from_s, to_s), ["role", "t_s", "rss_bytes"]]
    memory = inside.groupby(["role", "t_s"])["rss_bytes"].sum().groupby("role")
    span_s = to_s - from_s if to_s > from_s else float("nan")
    columns = {"cpu_s": cpu_s, "mean_cores": cpu_s / span_s}
    return pd.DataFrame(columns | {"mean_rss_bytes": memory.mean(), "peak_rss_bytes": memory.max()}).rename_axis("role")


def cpu_s_by_role(resources: pd.DataFrame, from_s: float, to_s: float) -> pd.Series:
    """The column cpu_s of `cpu_by_role` alone."""
    ordered = resources.sort_values("t_s", kind="stable")
    before = ordered.groupby(["role", "subject"])["t_s"].shift()
    width = np.clip(np.minimum(ordered["t_s"], to_s) - np.maximum(before, from_s), 0.0, None)
    return (width * ordered["cpu_cores"]).groupby(ordered["role"]).sum()


def cpu_per_answer(cpu_s: pd.Series, right: int, suffix: str = "_s") -> dict[str, float]:
    """``cpu_per_answer`` + suffix, and the same by role of `SERVING`: CPU-seconds per correct answer.

    Args:
        cpu_s: of `cpu_by_role`, over the same time span.
    Returns:
        NaN without an answer, and for a role that was not sampled.
    """
    per_answer = cpu_s.reindex(SERVING) / (right or float("nan"))
    by_role = {f"cpu_per_answer_{role}{suffix}": float(value) for role, value in per_answer.items()}
    return {f"cpu_per_answer{suffix}": float(per_answer.sum(min_count=1)), **by_role}


def throttling(resources: pd.DataFrame, from_s: float, to_s: float) -> tuple[float, float]:
    """(share of the replicas' quota periods that were throttled, throttled seconds) in [from_s, to_s]; NaN if unknown.

    Counters are cumulative and begin at 0 with a replica, so a replica that appeared inside the span counts from 0.
    """
    total = np.zeros(3)
    known = resources[(resources["role"] == "replica") & resources["nr_periods"].notna()]
    replicas = known.sort_values("t_s", kind="stable")
    t_s, counters = replicas["t_s"].to_numpy(), replicas[["nr_periods", "nr_throttled", "throttled_s"]].to_numpy()
    for samples in replicas.groupby("subject").indices.values():
        before, until_end = np.searchsorted(t_s[samples], from_s), np.searchsorted(t_s[samples], to_s, side="right")
        if before < until_end:
            total += counters[samples[until_end - 1]] - (np.nan_to_num(counters[samples[before - 1]]) if before else 0)
    periods, throttled, seconds = total
    return (float(throttled / periods), float(seconds)) if periods > 0 else (float("nan"), float("nan"))


def used_over_time(resources: pd.DataFrame) -> pd.DataFrame:
    """Cores in use by role over time: t_s, role, cpu_cores (sum over the role's subjects at one sampling),
    rss_bytes; in order of role and time."""
    known = resources[resources["cpu_cores"].notna()]
    summed = known.groupby(["role", "t_s"], as_index=False)[["cpu_cores", "rss_bytes"]].sum()
    return summed[["t_s", "role", "cpu_cores", "rss_bytes"]]
