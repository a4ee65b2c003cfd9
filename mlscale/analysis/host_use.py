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
    width_s = samples.groupby(["component", "role", "subject"], dropna=False)["t_s"].diff().to_numpy()
    t_s, cores, stolen_cores = (samples[name].to_numpy() for name in ("t_s", "cpu_cores", "stolen_cores"))
    host = (samples["role"] == "host").to_numpy(dtype=bool)
    known = ~np.isnan(width_s * cores)
    used_s = np.where(known, width_s * cores, 0.0)
    columns = {
        "known_s": np.where(host & known, width_s, 0.0),
        "busy_s": np.where(host, used_s, 0.0),
        "stolen_s": np.nan_to_num(np.where(host & known, width_s * stolen_cores, 0.0)),
        "run_s": np.where(host, 0.0, used_s),
    }
    return pd.DataFrame(columns).groupby(np.floor(t_s)).sum() if host.any() else pd.DataFrame()


def _on_this_host(run: Run) -> bool:
    """Whether the replicas were sampled together with the host."""
    role, t_s = run.resources["role"].to_numpy(dtype=object), run.resources["t_s"].to_numpy()
    together = np.isin(t_s[role == "replica"], t_s[role == "host"])
    return bool(len(together)) and bool(together.mean() >= _LEAST_TOGETHER)


def _cores(run: Run) -> float | None:
    """The host's cores: the capacity of which its cpu_cores is a part."""
    cores = run.info.host.get("cores_online") or run.info.host.get("cores")
    return float(cores) if isinstance(cores, int | float) else None
