"""Use of the host's CPU under load: in total, by programs outside the run, stolen (METHOD §6)."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from mlscale.runs import Run

WINDOW_S: Final = 5
_LEAST_KNOWN: Final = 0.8
# Least share of replica samples taken together with the host's; fewer means that the replicas run elsewhere.
_LEAST_TOGETHER: Final = 0.9


def host_use(run: Run) -> pd.DataFrame:
    """Mean shares of the host's cores over the last 5 s (a shorter load: over all of it), at the end of each whole
    second under load.

    A sample's cpu_cores is the mean since its subject's previous sample; it is weighted by that time and counted in the
    second in which it was taken.

    Returns:
        ``t_s``; ``busy``: everything that ran; ``outside``: busy less what all roles of the run used, NaN where unknown
        (replicas that run on another machine, or that were not sampled); ``stolen``: what the hypervisor gave to
        other VMs, NaN where it was not recorded. Windows known for less than 4 s in 5 are left out. Empty where the
        host's cores or CPU are unknown.
    """
    cores = _cores(run)
    by_second = _by_second(run)
    if cores is None or by_second.empty:
        return pd.DataFrame({"t_s": [], "busy": [], "outside": [], "stolen": []}, dtype=float)
    seconds = np.arange(int(by_second.index.min()), int(by_second.index.max()) + 1)
    window_s = max(1, min(WINDOW_S, int(run.info.schedule.duration_s)))
    sums = by_second.reindex(seconds).fillna(0.0).rolling(window_s).sum()
    ends_s = seconds + 1.0
    known = sums["known_s"] >= _LEAST_KNOWN * window_s
    complete = (ends_s >= window_s) & (seconds < run.info.schedule.duration_s) & known
    sums, ends_s = sums[complete], ends_s[complete.to_numpy()]
    available_s = cores * sums["known_s"].to_numpy(dtype=float)
    busy = sums["busy_s"].to_numpy(dtype=float) / available_s
    stolen, run_share = (sums[column].to_numpy(dtype=float) / available_s for column in ("stolen_s", "run_s"))
    unknown = np.full(len(busy), np.nan)
    return pd.DataFrame(
        {
            "t_s": ends_s,
            "busy": busy,
            "outside": np.maximum(busy - run_share, 0.0) if _on_this_host(run) else unknown,
            "stolen": stolen if run.resources["stolen_cores"].notna().any() else unknown,
        }
    )


def _by_second(run: Run) -> pd.DataFrame:
    """CPU seconds by second: known_s (for how long the host's use is known), busy_s, stolen_s, run_s (all roles)."""
    samples = run.resources.sort_values("t_s", kind="stable")
    width_s = samples.groupby(["component", "role", "subject"], dropna=False)["t_s"].diff()
    second = np.floor(samples["t_s"])
    host = samples["role"] == "host"
    known = width_s.notna() & samples["cpu_cores"].notna()
    used_s = (width_s * samples["cpu_cores"]).where(known, 0.0)
    columns = {
        "known_s": width_s.where(host & known, 0.0),
        "busy_s": used_s.where(host, 0.0),
        "stolen_s": (width_s * samples["stolen_cores"]).where(host & known, 0.0).fillna(0.0),
        "run_s": used_s.where(~host, 0.0),
    }
    return pd.DataFrame(columns).groupby(second).sum() if host.any() else pd.DataFrame()


def _on_this_host(run: Run) -> bool:
    """Whether the replicas were sampled together with the host."""
    host, replicas = (run.resources.loc[run.resources["role"] == role, "t_s"] for role in ("host", "replica"))
    return bool(len(replicas)) and bool(replicas.isin(host).mean() >= _LEAST_TOGETHER)


def _cores(run: Run) -> float | None:
    """The host's cores: the capacity of which its cpu_cores is a part."""
    cores = run.info.host.get("cores_online") or run.info.host.get("cores")
    return float(cores) if isinstance(cores, int | float) else None
