"""A run's mean response split into catching up and steady state, and the parts of the steady state (METHOD §3).

Let *caught up* be the moment at which the last needed new replica is ready, and s the mean response of the requests
meant to be sent from then on, up to t0 + H. Then

    P1 = s + (P1 - s):

the *steady state* is what P1 would be if the framework had scaled at once, and *catch-up* is what the requests before
that moment add: their share of all requests times their extra response time. Both are in seconds and sum to P1 exactly
in each run, and so in each difference of runs. (Summing the responses before and after would add up as well, but a
framework that catches up late has fewer requests left afterwards, and would look fast in steady state.) A queue that
is left at that moment counts as steady state: with closed-loop clients it is gone within a second or two.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.durations import intended_between, right_answers
from mlscale.analysis.idle_while_queued import idle_while_queued_share
from mlscale.analysis.moving import WINDOW_S
from mlscale.analysis.paired import paired_t
from mlscale.analysis.provisioning import samples_by_component
from mlscale.analysis.resources import cpu_per_answer, cpu_s_by_role
from mlscale.runs import Run

NAN: Final = float("nan")
# Parts of P1; the last is a check that does not depend on when a replica was ready.
PARTS: Final = {
    "P1": "mean_response_s",
    "catch-up": "catch_up_response_s",
    "steady state": "steady_response_s",
    "second half of H": "late_response_s",
}
_NO_RATIO: Final = "catch-up"


def caught_up_s(run: Run, t0: float, horizon_s: float, needed: int) -> float:
    """When the last of the ``needed`` new replicas was ready, s since t0: 0 if none was needed, NaN if too few were
    ready within the horizon. A replica created before t0 counts if it became ready after t0."""
    if needed == 0:
        return 0.0
    first_ready = dict[str, float]()
    for event in run.event_list:
        if event.kind == "replica_ready" and event.subject and t0 <= event.t_s <= t0 + horizon_s:
            first_ready.setdefault(event.subject, event.t_s)
    return sorted(first_ready.values())[needed - 1] - t0 if len(first_ready) >= needed else NAN


def steady_state(run: Run, frame: pd.DataFrame, t0: float, horizon_s: float, needed: int) -> dict[str, Any]:
    """Columns of `run_summary` about the steady state, from caught up to t0 + H.

    Returns:
        ``caught_up_s``; ``steady_response_s`` and ``catch_up_response_s`` (module docstring); ``late_response_s``, over
        the second half of the horizon; of right answers, means a request: ``steady_queue_s``, ``steady_inference_s``,
        and ``steady_idle_queue_s``, the part of the queue's time in which another replica was idle; ``steady_ready``,
        the mean number of ready replicas; ``scaled_in``, whether fewer replicas were asked for later;
        ``cpu_per_answer_steady_s``, and by role. NaN where catching up took until less than a window before the
        horizon's end.
    """
    at_s, end_s = caught_up_s(run, t0, horizon_s, needed), t0 + horizon_s
    from_s = t0 + at_s if at_s <= horizon_s - WINDOW_S else NAN
    inside = intended_between(frame, from_s, end_s)
    right = inside[inside["ok"]]
    steady_s, queue_s = float(inside["response_s"].mean()), float(right["queue_s"].mean())
    used = cpu_s_by_role(run.resources, from_s, end_s)
    samples = [
        (desired[at], ready[at])
        for t_s, desired, ready in samples_by_component(run)
        if (at := (t_s >= from_s) & (t_s <= end_s)).any()
    ]
    return {
        "caught_up_s": at_s,
        "steady_response_s": steady_s,
        "catch_up_response_s": float(intended_between(frame, t0, end_s)["response_s"].mean()) - steady_s,
        "late_response_s": float(intended_between(frame, end_s - horizon_s / 2, end_s)["response_s"].mean()),
        "steady_queue_s": queue_s,
        "steady_inference_s": float(right["inference_s"].mean()),
        "steady_idle_queue_s": idle_while_queued_share(run, from_s, end_s) * queue_s if queue_s > 0 else queue_s,
        "steady_ready": float(sum(ready.mean() for _, ready in samples)) if samples else NAN,
        "scaled_in": any(bool((np.diff(desired) < 0).any()) for desired, _ in samples),
        **cpu_per_answer(used, right_answers(frame, from_s, end_s), "_steady_s"),
    }


def catch_up_and_steady(rows: pd.DataFrame) -> pd.DataFrame:
    """How much of each pair's difference in P1 is catch-up and how much steady state.

    Args:
        rows: of `mlscale.analysis.summary.summarise`, every attempt of one cell, all live, one host.
    Returns:
        One row per pair and part of `PARTS`, over the blocks in which both runs caught up: pair, part, blocks, a_s and
        b_s (means), difference_s with low_s and high_s, ratio (geometric mean over blocks; NaN for catch-up, which may
        be 0 or less) with low and high. Paired t intervals over blocks, each at 95 % by itself; exploratory, so without
        p-values. NaN where one of the two has too many invalid runs.
    Raises:
        MlscaleError: see `mlscale.analysis.design.check_comparable`.
    """
    design.check_comparable(rows)
    selected = design.chosen(rows)
    selected = selected[selected["steady_response_s"].notna()]
    refused = design.refused(design.invalid_share(rows))
    table_rows = []
    for a, b in design.environment_pairs(list(dict.fromkeys(rows["environment"]))):
        for part, column in PARTS.items():
            both = design.by_block(selected, column).reindex(columns=[a, b]).dropna()
            row = {
                "pair": f"{a} / {b}",
                "part": part,
                "blocks": len(both),
                "a_s": both[a].mean(),
                "b_s": both[b].mean(),
            }
            row |= dict.fromkeys(("difference_s", "low_s", "high_s", "ratio", "low", "high"), NAN)
            if not refused & {a, b}:
                seconds = paired_t((both[a] - both[b]).to_numpy(dtype=float))
                row |= {"difference_s": float(seconds.mean), "low_s": float(seconds.low), "high_s": float(seconds.high)}
                if part != _NO_RATIO:
                    logs = paired_t(design.log_ratios(both, a, b).to_numpy(dtype=float))
                    ratio, low, high = np.exp([logs.mean, logs.low, logs.high])
                    row |= {"ratio": float(ratio), "low": float(low), "high": float(high)}
            table_rows.append(row)
    return pd.DataFrame(table_rows)


def steady_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What the steady state is made of, per environment; times in ms, means over the given runs.

    Args:
        rows: of `summarise`, the runs to be described.
    Returns:
        Index environment; columns named with their units: runs that caught up, and after how long; response, queue and
        inference; the queue's time in which another replica was idle; ready replicas; runs with scale-in (fewer
        replicas were asked for later), and the response of those without; CPU per answer.
    """
    steady = rows[rows["steady_response_s"].notna()]
    without_scale_in = steady[~steady["scaled_in"].astype(bool)]
    groups = steady.groupby("environment", sort=False)
    return pd.DataFrame(
        {
            "runs": groups.size(),
            "caught up (s)": groups["caught_up_s"].mean(),
            "response (ms)": 1000 * groups["steady_response_s"].mean(),
            "second half of H (ms)": 1000 * groups["late_response_s"].mean(),
            "queue (ms)": 1000 * groups["steady_queue_s"].mean(),
            "of it beside an idle replica (ms)": 1000 * groups["steady_idle_queue_s"].mean(),
            "share of it (%)": 100 * groups["steady_idle_queue_s"].mean() / groups["steady_queue_s"].mean(),
            "inference (ms)": 1000 * groups["steady_inference_s"].mean(),
            "ready replicas": groups["steady_ready"].mean(),
            "runs with scale-in": groups["scaled_in"].sum().astype(int),
            "response without them (ms)": 1000 * without_scale_in.groupby("environment")["steady_response_s"].mean(),
            "CPU/answer (ms)": 1000 * groups["cpu_per_answer_steady_s"].mean(),
        }
    ).reindex(list(groups.groups))


def steady_sentences(rows: pd.DataFrame) -> list[str]:
    """How much longer each environment takes than the quickest one in steady state, and where, from `steady_table`.

    Args:
        rows: of `summarise`, every attempt of one cell; environments with too many invalid runs are left out.
    """
    shown = design.runs_for_figures(rows)
    comparable = shown["valid"].astype(bool) & ~shown["environment"].isin(design.refused(design.invalid_share(rows)))
    table = steady_table(shown[comparable]).sort_values("response (ms)", kind="stable")
    sentences = []
    for name, slow in table.iloc[1:].iterrows():
        quick = table.iloc[0]
        ratio, without_scale_in = (slow / quick)[["response (ms)", "response without them (ms)"]]
        gap = slow - quick
        sentences.append(
            f"{name} takes {ratio:.2f} times as long as {quick.name} in steady state, {gap['response (ms)']:.0f} ms "
            f"more: {gap['queue (ms)']:.0f} ms in the queue ({gap['of it beside an idle replica (ms)']:.0f} ms of that "
            f"while another replica was idle), {gap['inference (ms)']:.0f} ms in service. A right answer takes "
            f"{slow['CPU/answer (ms)']:.0f} ms of CPU against {quick['CPU/answer (ms)']:.0f}. Of the runs without a "
            f"scale-in the ratio is {without_scale_in:.2f}."
        )
    return sentences
