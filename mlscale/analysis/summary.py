"""One row per run: the primary and secondary endpoints and the run's labels (METHOD §1 to §7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis.durations import (
    FAILURES,
    body_standardised,
    durations,
    failure_share,
    intended_between,
    right_answers,
)
from mlscale.analysis.host_use import host_use
from mlscale.analysis.moving import LAST_REQUESTS, WINDOW_S, WINDOWS_S, knots_mean, last_n, moving_exact
from mlscale.analysis.resources import SERVING, cpu_by_role, cpu_per_answer, throttling
from mlscale.analysis.response import confirmed_s, horizon_of, recovery, upscaling_response
from mlscale.analysis.steady import steady_state
from mlscale.analysis.validity import judge
from mlscale.analysis.variance import PARTS, variance_parts
from mlscale.runs import ClosedLoop, OpenLoop, Run, RunInfo
from mlscale.runs.info import host_name

NAN: Final = float("nan")


def summarise(
    runs: Sequence[Run], level_s: float | None, progress: Callable[[str, float], None] | None = None
) -> pd.DataFrame:
    """`run_summary` of every run, in the given order. ``progress``: told the step and the share done after each."""
    rows = []
    for run in runs:
        rows.append(run_summary(run, level_s))
        if progress is not None:
            progress("summarising runs", len(rows) / len(runs))
    return pd.DataFrame(rows)


def run_summary(run: Run, level_s: float | None) -> dict[str, Any]:
    """All numbers of one run that tables and inference use; names end in their unit.

    P1 is ``mean_response_s`` and P2 ``sd_response_s`` (ddof 0), over requests intended in [t0, t0 + H) with each
    failure as the timeout; P3 is ``t_slo_s`` (and ``t_slo_confirmed_s``, see `UpscalingResponse.confirmed_s`), NaN
    without a step. Without a step, the span is the whole schedule.
    """
    from_s, to_s = span(run)
    frame = durations(run.requests, timeout_s=run.info.timeout_s)
    inside = intended_between(frame, from_s, to_s)
    response = upscaling(run, level_s, to_s - from_s)
    return {
        **labels(run),
        "level_s": NAN if level_s is None else level_s,
        "from_s": from_s,
        **_responses(inside),
        **_throughput(frame, inside, from_s, to_s),
        **_cpu_use(run, frame, from_s, to_s),
        **_host(run, from_s, to_s),
        **_parts(run, from_s, to_s),
        **_by_window(run, level_s, from_s, to_s),
        **response,
        **_steady(run, frame, response),
    }


def span(run: Run) -> tuple[float, float]:
    """[t0, t0 + H), or the whole schedule where there is no step."""
    t0 = run.info.step_s
    return (0.0, run.info.schedule.duration_s) if t0 is None else (t0, t0 + horizon_of(run))


def labels(run: Run) -> dict[str, Any]:
    """What identifies a run, and whether claims may rest on it."""
    info = run.info
    validity = info.validity or judge(run)
    periods = {float(setting["cpu_period_s"]) for setting in info.scaling.values() if "cpu_period_s" in setting}
    return {
        "run_id": info.run_id,
        "application": info.application,
        "bodies": str(info.bodies.get("sha256", ""))[:12],
        "environment": info.environment,
        "arm": info.arm,
        "cell": info.cell,
        "block": info.block,
        "position": info.position,
        "predecessor": info.predecessor,
        "aa_label": info.aa_label,
        "attempt": info.attempt,
        "mode": info.mode,
        "loop": info.schedule.loop,
        "load": _load(info.schedule),
        "connections": info.connections,
        "quota": _quota(info),
        "cpu_period_s": periods.pop() if len(periods) == 1 else NAN,
        "host": host_name(info.host),
        "complete": info.complete,
        "valid": validity.valid and info.complete,
        "host_bound": validity.host_bound,
        "disturbed": validity.disturbed,
        "reasons": "; ".join(validity.reasons),
    }


def _quota(info: RunInfo) -> str:
    """Whether the CPU quota was in force; on a cluster of the user's own, what limits a replica is that cluster's."""
    places = sorted({str(each["address"]) for each in info.scaling.values() if each.get("address")})
    return "in force" if not info.no_quota else "none" + "".join(f", on {place}" for place in places)


def _load(schedule: ClosedLoop | OpenLoop) -> str:
    """What clients ask for, apart from when: lengths of baselines are drawn."""
    levels = [f"{level:g}" for level in schedule.levels]
    asked = ", then ".join(levels) if len(levels) < 4 else f"{levels[0]} to {levels[-1]}"
    if isinstance(schedule, ClosedLoop):
        return f"{asked} clients, think time {schedule.think_mean_s:g} s"
    return f"{schedule.rate.shape}, {asked} requests/s"


def _responses(inside: pd.DataFrame) -> dict[str, Any]:
    ok = inside[inside["ok"]]
    standardised = body_standardised(inside)
    quantiles = inside["response_s"].quantile([0.50, 0.95, 0.99])
    counts = inside["status"].value_counts()
    return {
        "requests": len(inside),
        "mean_response_s": float(inside["response_s"].mean()),
        "sd_response_s": float(inside["response_s"].std(ddof=0)),
        "mean_response_ok_s": float(ok["response_s"].mean()),
        "sd_response_ok_s": float(ok["response_s"].std(ddof=0)),
        **{f"p{100 * share:.0f}_response_s": float(value) for share, value in quantiles.items()},
        "mean_send_to_done_s": float(inside["send_to_done_s"].mean()),
        "mean_response_by_body_s": standardised[0],
        "sd_response_by_body_s": standardised[1],
        "mean_queue_s": float(ok["queue_s"].mean()),
        "mean_inference_s": float(ok["inference_s"].mean()),
        "sd_inference_s": float(ok["inference_s"].std(ddof=0)),
        "mean_inference_by_body_s": body_standardised(ok, "inference_s")[0],
        "mean_connect_s": float(ok["connect_s"].mean()),
        "lateness_p99_s": float(inside["lateness_s"].quantile(0.99)),
        "failure_share": failure_share(inside),
        **{f"n_{status}": int(counts.get(status, 0)) for status in ("ok", *FAILURES)},
    }


def _throughput(frame: pd.DataFrame, inside: pd.DataFrame, from_s: float, to_s: float) -> dict[str, float]:
    right = right_answers(frame, from_s, to_s)
    return {"throughput_rps": right / (to_s - from_s), "offered_rps": len(inside) / (to_s - from_s)}


def _host(run: Run, from_s: float, to_s: float) -> dict[str, float]:
    """Mean shares of the host's CPU: in use, used outside the run, stolen."""
    used = host_use(run)
    inside = used[used["t_s"].between(from_s, to_s)]
    columns = {"host_busy_share": "busy", "host_outside_share": "outside", "host_stolen_share": "stolen"}
    return {name: float(inside[column].mean()) for name, column in columns.items()}


def _cpu_use(run: Run, frame: pd.DataFrame, from_s: float, to_s: float) -> dict[str, float]:
    table = cpu_by_role(run.resources, from_s, to_s)
    used = {role: float(table["cpu_s"].get(role, NAN)) for role in (*SERVING, "load_generator", "host")}
    share, throttled_s = throttling(run.resources, from_s, to_s)
    return {
        **{f"cpu_{role}_s": value for role, value in used.items()},
        "cpu_serving_s": float(table["cpu_s"].reindex(SERVING).sum(min_count=1)),
        **cpu_per_answer(table["cpu_s"], right_answers(frame, from_s, to_s)),
        "idle_cores": _idle_cores(run),
        "peak_rss_serving_bytes": float(table["peak_rss_bytes"].reindex(SERVING).sum(min_count=1)),
        "throttled_share": share,
        "throttled_s": throttled_s,
    }


def _parts(run: Run, from_s: float, to_s: float) -> dict[str, float]:
    """Mean sigma_t^2 over all windows of the span with at least 10 requests, and over those that could be split, with
    its parts.

    Correct answers only: a failure has neither replica nor service time, and its 30 s would dominate every part.
    """
    ends = from_s + WINDOW_S * np.arange(1, int((to_s - from_s) / WINDOW_S + 1e-9) + 1)
    ends = np.nextafter(ends, -np.inf)  # a window includes its end; clients that join at the step send at from_s
    table = variance_parts(run.requests, WINDOW_S, ends)
    split = table[table["split"].astype(bool)]
    return {
        "windows_split_share": len(split) / len(table) if len(table) else NAN,
        "sigma_total_s2": float(table["total_s2"].dropna().mean()),
        "sigma_split_s2": float(split["total_s2"].mean()),
        **{f"sigma_{part}": float(split[part].mean()) for part in PARTS},
    }


def _by_window(run: Run, level_s: float | None, from_s: float, to_s: float) -> dict[str, float]:
    """How the figures depend on W: time averages of m_t and sigma_t by completion, and T_slo + W, for each W."""
    row: dict[str, float] = {}
    timeout_s = run.info.timeout_s
    for window_s in WINDOWS_S:
        exact = moving_exact(run.requests, window_s, "done", timeout_s=timeout_s)
        name = f"w{window_s:g}"
        row[f"mean_m_{name}_s"], row[f"mean_sigma_{name}_s"] = knots_mean(exact, from_s, to_s)
        confirmed = NAN
        if run.info.step_s is not None and to_s - from_s > window_s:
            confirmed = confirmed_s(run, level_s, window_s)
        row[f"t_slo_confirmed_{name}_s"] = confirmed
    last = last_n(run.requests, LAST_REQUESTS, timeout_s=timeout_s)
    row["mean_m_last50_s"], row["mean_sigma_last50_s"] = knots_mean(last, from_s, to_s)
    return row


def upscaling(run: Run, level_s: float | None, horizon_s: float) -> dict[str, Any]:
    """The columns of `run_summary` about the response to the step; few, and NaN or False, without one."""
    if run.info.step_s is None or not horizon_s > WINDOW_S:
        numbers = dict.fromkeys(("t_slo_s", "t_slo_confirmed_s", "over_level_s"), NAN)
        flags = dict.fromkeys(("t_slo_censored", "pre_scaled"), False)
        return {"horizon_s": horizon_s, "window_s": WINDOW_S, **numbers, **flags}
    by_done = recovery(run, level_s, by="done")
    return upscaling_response(run, level_s) | {
        "t_slo_by_done_s": by_done.t_slo_s,
        "t_slo_by_done_censored": by_done.t_slo_censored,
    }


def _steady(run: Run, frame: pd.DataFrame, response: Mapping[str, Any]) -> dict[str, Any]:
    """`steady_state` after the run's step; NaN without one."""
    if "needed" not in response:
        return steady_state(run, frame, NAN, NAN, 0)
    return steady_state(run, frame, run.info.step_s or 0.0, response["horizon_s"], response["needed"])


def _idle_cores(run: Run) -> float:
    """Cores in use at rest, before the load, by all roles that serve; NaN where not recorded."""
    known = [run.info.idle[name] for name in (f"{role}_cores" for role in SERVING) if name in run.info.idle]
    return float(np.sum(known)) if known else NAN
