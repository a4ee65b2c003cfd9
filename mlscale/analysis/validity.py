"""Whether latency claims may rest on a run (METHOD §6). Every violated rule is named, with its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis.durations import durations
from mlscale.analysis.provisioning import MAX_CPU_BEFORE_QUOTA_S, cpu_before_quota, grew_before
from mlscale.analysis.windows import Floats
from mlscale.runs import OpenLoop, Run, StimulusReport, Validity

MAX_DEVIATION: Final = 0.01
MAX_CLIENT_ERROR_S: Final = 0.2
MAX_LATENESS_S: Final = 0.1
LATENESS_FLOOR_S: Final = 0.005
LATENESS_SHARE: Final = 0.02
MAX_LOAD_CORES: Final = 0.7
MAX_HOST_SHARE: Final = 0.9
HOST_WINDOW_S: Final = 5.0
MAX_PSI_PCT: Final = 20.0
PSI_WINDOW_S: Final = 10.0


def judge(run: Run) -> Validity:
    """Judge a run by METHOD §6.

    ``pre_scaled`` is a mark and makes no run invalid: it is the framework's doing, and leaving such runs out, or
    repeating them, would choose runs by their outcome. CPU used before the quota invalidates provisioning times
    alone; it is named among the reasons. A simulated run has no host and no load generator to judge: what is due is
    sent.
    """
    t0 = run.info.step_s
    fatal: list[str] = []
    host_bound = False
    if run.info.mode != "simulated":
        bound = list(_host_faults(run))
        host_bound = bool(bound)
        fatal = [*_stimulus_faults(run), *(bound or _unobserved(run))]
    remarks = []
    cpu_s = cpu_before_quota(run)
    if cpu_s > MAX_CPU_BEFORE_QUOTA_S:
        remarks.append(
            f"provisioning times don't count: a replica used {1000 * cpu_s:.0f} ms CPU before its quota "
            f"(at most {1000 * MAX_CPU_BEFORE_QUOTA_S:.0f} ms)"
        )
    return Validity(
        valid=not fatal,
        host_bound=host_bound,
        pre_scaled=t0 is not None and grew_before(run, t0),
        reasons=(*fatal, *remarks),
    )


def lateness_limit(run: Run) -> float:
    """What the 99th percentile of lateness may be: max(5 ms, 2 % of the median response before t0), s."""
    t0 = run.info.step_s
    frame = durations(run.requests, timeout_s=run.info.timeout_s)
    baseline = frame if t0 is None else frame[frame["intended_s"] < t0]
    median = float(baseline.loc[baseline["ok"], "response_s"].median())
    return max(LATENESS_FLOOR_S, LATENESS_SHARE * median) if np.isfinite(median) else LATENESS_FLOOR_S


def host_share(run: Run) -> pd.DataFrame:
    """Mean share of the host's CPU in use over the last 5 s, at each sample of the host under load: t_s, share.

    A sample's cpu_cores is the mean since the sample before it, so the mean is weighted by those times; a window that
    isn't covered to at least 80 % by samples is left out. Empty where the number of cores is unknown.
    """
    cores = _host_cores(run)
    host = run.resources[(run.resources["role"] == "host")].sort_values("t_s", kind="stable")
    t, used = host["t_s"].to_numpy(dtype=float), host["cpu_cores"].to_numpy(dtype=float)
    if cores is None or len(t) < 2:
        return pd.DataFrame({"t_s": [], "share": []}, dtype=float)
    width = np.diff(t, prepend=t[0])
    known = np.isfinite(used)
    ends, shares = [], []
    for end_s in t[_under_load(run, t, HOST_WINDOW_S)]:
        part = np.clip(np.minimum(t, end_s) - np.maximum(t - width, end_s - HOST_WINDOW_S), 0.0, None) * known
        if part.sum() >= 0.8 * HOST_WINDOW_S:
            ends.append(end_s)
            shares.append(float(np.sum(part * np.where(known, used, 0.0)) / part.sum() / cores))
    return pd.DataFrame({"t_s": ends, "share": shares}, dtype=float)


def _stimulus_faults(run: Run) -> Iterator[str]:
    report = run.info.stimulus
    if report is None:
        yield "there is no report of what the load generator sent"
        return
    if report.aborted:
        yield f"the load was stopped before its end: {report.aborted}"
    if isinstance(run.info.schedule, OpenLoop):
        yield from _open_faults(report)
    elif report.client_change_error_s is None:
        yield "it is not known when the number of active clients changed"
    elif report.client_change_error_s > MAX_CLIENT_ERROR_S:
        yield (
            f"the number of active clients was wrong for {report.client_change_error_s:.3f} s after a change "
            f"(at most {MAX_CLIENT_ERROR_S:g} s)"
        )
    limit_s = lateness_limit(run)
    if not report.lateness_p99_s <= limit_s:
        yield f"1 % of requests were sent over {_ms(report.lateness_p99_s)} late (at most {_ms(limit_s)})"
    if not report.lateness_max_s <= MAX_LATENESS_S:
        yield f"a request was sent {_ms(report.lateness_max_s)} late (at most {_ms(MAX_LATENESS_S)})"
    if not report.load_cpu_cores < MAX_LOAD_CORES:
        yield f"the load generator used {report.load_cpu_cores:.2f} core (less than {MAX_LOAD_CORES:g} core)"


def _open_faults(report: StimulusReport) -> Iterator[str]:
    worst = report.worst_window
    if worst is None:
        yield "it is not known how many requests were due and sent in each 5 s window"
    elif abs(worst.sent - worst.due) > MAX_DEVIATION * worst.due:
        yield (
            f"in the 5 s from {worst.start_s:g} s on, {worst.sent} requests were sent where {worst.due} were due "
            f"(within {MAX_DEVIATION:.0%})"
        )


def _host_faults(run: Run) -> Iterator[str]:
    shares = host_share(run)
    if len(shares) and shares["share"].max() > MAX_HOST_SHARE:
        at = shares.loc[shares["share"].idxmax()]
        yield (
            f"host-bound: {at['share']:.0%} of the host's CPU was in use in the {HOST_WINDOW_S:g} s up to "
            f"{at['t_s']:.0f} s (at most {MAX_HOST_SHARE:.0%})"
        )
    if _has_quota(run):  # PSI counts a task that its quota has stopped as one that waits for a CPU
        return
    host = run.resources[run.resources["role"] == "host"]
    psi = host.loc[_under_load(run, host["t_s"].to_numpy(dtype=float), PSI_WINDOW_S), ["t_s", "psi_avg10_pct"]].dropna()
    if len(psi) and psi["psi_avg10_pct"].max() > MAX_PSI_PCT:
        at = psi.loc[psi["psi_avg10_pct"].idxmax()]
        yield (
            f"host-bound: tasks waited for a CPU in {at['psi_avg10_pct']:.0f} % of the 10 s up to {at['t_s']:.0f} s "
            f"(at most {MAX_PSI_PCT:.0f} %)"
        )


def _has_quota(run: Run) -> bool:
    return bool(run.resources["nr_periods"].notna().any())


def _unobserved(run: Run) -> Iterator[str]:
    if host_share(run).empty:
        yield "the host's CPU was not observed, so it can't be told whether the host was the bottleneck"


def _under_load(run: Run, t_s: Floats, window_s: float) -> Any:
    """Which moments end a window that lies under load as a whole (before it, the load generator starts up)."""
    return (t_s >= window_s) & (t_s <= run.info.schedule.duration_s)


def _host_cores(run: Run) -> float | None:
    """All cores of the host: what the host's cpu_cores is measured against."""
    cores = run.info.host.get("cores_online") or run.info.host.get("cores")
    return float(cores) if isinstance(cores, int | float) else None


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
