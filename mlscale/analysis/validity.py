"""Whether a run can support latency claims (METHOD §6). Every violated rule is named, with its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from mlscale.analysis.durations import durations
from mlscale.analysis.host_use import host_use
from mlscale.analysis.provisioning import MAX_CPU_BEFORE_QUOTA_S, cpu_before_quota, grew_before
from mlscale.analysis.response import horizon_of
from mlscale.runs import OpenLoop, Run, StimulusReport, Validity

MAX_DEVIATION: Final = 0.01
MAX_CLIENT_ERROR_S: Final = 0.2
MAX_LATENESS_S: Final = 0.1
LATENESS_FLOOR_S: Final = 0.005
LATENESS_SHARE: Final = 0.02
MAX_LOAD_CORES: Final = 0.7
NO_QUOTA: Final = "no CPU quota was in force, so the run is compared with others of its kind alone"
UNOBSERVED: Final = "the host's CPU was not observed, so it can't be told whether the host was the bottleneck"
# The host counts as the bottleneck above this share of its CPU in a 5 s window.
MAX_BUSY: Final = 0.90
# The same for CPU used outside the run or stolen. What a new replica uses before its first sample counts as outside,
# too: up to 0.12 in undisturbed runs on two cores.
MAX_OTHERS: Final = 0.15
# Share of the judged time for which either may be exceeded.
MAX_TIME: Final = 0.05
MAX_PSI_PCT: Final = 20.0
PSI_WINDOW_S: Final = 10.0


def judge(run: Run) -> Validity:
    """Judge a run by METHOD §6.

    ``pre_scaled`` does not make a run invalid: it is the framework's doing, and leaving such runs out, or repeating
    them, would select runs by their outcome. CPU used before the quota applied invalidates provisioning times only; it
    is listed among the reasons. A simulated run has no host and no load generator to judge. If the load came from
    another machine (``facts["load"]["remote"]``), there is no common host to judge, and the lateness of requests shows
    whether that machine kept up. CPU that was used outside the run, or stolen, makes a run ``disturbed`` and never
    ``host_bound``, since neither the framework nor the protocol causes it.
    """
    t0 = run.info.step_s
    fatal: list[str] = []
    disturbed = host_bound = ""
    if run.info.mode != "simulated":
        usage = _judged_time(run, host_use(run))
        disturbed = _disturbed(usage)
        host_bound = "" if disturbed else _host_bound(run, usage)
        remote_load = "remote" in (run.info.facts.get("load") or {})
        unknown = UNOBSERVED if usage.empty and not remote_load else ""
        fatal = [*_stimulus_faults(run), *filter(None, (disturbed, host_bound, unknown))]
    remarks = [NO_QUOTA] if run.info.no_quota else []
    if others := run.info.facts.get("other_runs"):
        remarks.append(f"at the same time on this host ran {', '.join(others)}")
    cpu_s = cpu_before_quota(run)
    if cpu_s > MAX_CPU_BEFORE_QUOTA_S:
        remarks.append(
            f"provisioning times don't count: a replica used {1000 * cpu_s:.0f} ms CPU before its quota "
            f"(at most {1000 * MAX_CPU_BEFORE_QUOTA_S:.0f} ms)"
        )
    return Validity(
        valid=not fatal,
        host_bound=bool(host_bound),
        disturbed=bool(disturbed),
        pre_scaled=t0 is not None and grew_before(run, t0),
        reasons=(*fatal, *remarks),
    )


def lateness_limit(run: Run) -> float:
    """Upper limit of the 99th percentile of lateness: max(5 ms, 2 % of the median response before t0), s."""
    t0 = run.info.step_s
    frame = durations(run.requests, timeout_s=run.info.timeout_s)
    baseline = frame if t0 is None else frame[frame["intended_s"] < t0]
    median = float(baseline.loc[baseline["ok"], "response_s"].median())
    return max(LATENESS_FLOOR_S, LATENESS_SHARE * median) if np.isfinite(median) else LATENESS_FLOOR_S


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


def _judged_time(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """Of rows with ``t_s``, those in [t0, t0 + H], or all where the run has no step."""
    t0 = run.info.step_s
    return rows if t0 is None else rows[rows["t_s"].between(t0, t0 + horizon_of(run))]


def _disturbed(usage: pd.DataFrame) -> str:
    outside, stolen = usage["outside"].fillna(0.0), usage["stolen"].fillna(0.0)
    share = float((outside + stolen > MAX_OTHERS).mean()) if len(usage) else 0.0
    if share <= MAX_TIME:
        return ""
    means = {"other programs": outside.mean(), "other virtual machines": stolen.mean()}
    used = " and ".join(f"{name} used {mean:.0%}" for name, mean in means.items() if mean >= 0.01)
    limit = f"over {MAX_OTHERS:.0%} for {share:.0%} of the time (at most {MAX_TIME:.0%})"
    return f"disturbed: {used} of the host's CPU, {limit}"


def _host_bound(run: Run, usage: pd.DataFrame) -> str:
    share = float((usage["busy"] > MAX_BUSY).mean()) if len(usage) else 0.0
    if share > MAX_TIME:
        return (
            f"host-bound: over {MAX_BUSY:.0%} of the host's CPU was in use for {share:.0%} of the time "
            f"(at most {MAX_TIME:.0%})"
        )
    if run.resources["nr_periods"].notna().any():  # PSI counts a task that its quota has stopped as one that waits
        return ""
    host = run.resources[run.resources["role"] == "host"]
    psi = _judged_time(run, host[host["t_s"] >= PSI_WINDOW_S])["psi_avg10_pct"].dropna()
    share = float((psi > MAX_PSI_PCT).mean()) if len(psi) else 0.0
    if share > MAX_TIME:
        return (
            f"host-bound: tasks waited for a CPU over {MAX_PSI_PCT:.0f} % of the time in {share:.0%} of the 10 s "
            f"windows (at most {MAX_TIME:.0%})"
        )
    return ""


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
