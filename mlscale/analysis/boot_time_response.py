"""How the upscaling response depends on the time that a machine takes to boot (METHOD §8): parts, and a slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats

from mlscale.analysis.moving import WINDOW_S, moving
from mlscale.analysis.paired import ALPHA, paired_t
from mlscale.analysis.populations import MACHINES, machine_seconds, populations
from mlscale.analysis.provisioning import lives
from mlscale.analysis.summary import run_summary, span
from mlscale.runs import Run

NAN: Final = float("nan")
PARTS: Final = ("detection", "machine", "container", "recovery")
NO_MACHINES: Final = "no machines"
KEPT_FREE: Final = "kept free"


def dose_rows(runs: Sequence[Run], level_s: float) -> pd.DataFrame:
    """One row per run: what it was, its parts, and what the step cost.

    Returns:
        ``variant``; ``boot_s``, the mean time from a machine's request to its start, as it was observed after the step
        (NaN without machines); ``detection_s``, ``machine_s``, ``container_s``, ``recovery_s``, which follow one
        another on the way to T_slo and add up to it (recovery is NaN where it was not reached), told by the pods that
        were waited for: the needed ones, or those of them that were ready when T_slo was reached; ``t_slo_s``,
        ``t_slo_censored``; ``peak_s``, the highest m_t after the step; ``over_level_s``; ``surplus_s``,
        machine-seconds beyond the first machine from the step down on (NaN without one); ``host_bound``, ``valid``.
    """
    return pd.DataFrame([_row(run, level_s) for run in runs])


def _row(run: Run, level_s: float) -> dict[str, Any]:
    found = run_summary(run, level_s)
    t0, end_s = span(run)
    boots = lives(run, t0, end_s, "machine_requested", "machine_booted")["took_s"]
    moved = moving(run.requests, WINDOW_S, "done", timeout_s=run.info.timeout_s)
    inside = moved[moved["t_s"].between(t0, end_s)]["mean_s"]
    kept = ("run_id", "environment", "block", "valid", "host_bound", "t_slo_s", "t_slo_censored", "over_level_s")
    return {
        **{name: found[name] for name in kept},
        "variant": variant_of(run),
        "boot_s": float(boots.mean()),
        **_parts(found, *_waited_for(run, t0, end_s, found)),
        "peak_s": float(inside.max()) if len(inside) else NAN,
        "surplus_s": _surplus(run, end_s),
    }


def variant_of(run: Run) -> str:
    """The run's boot times in words, with the room that was kept free."""
    settings = next(iter(run.info.scaling.values()))
    if "boot" not in settings:
        return NO_MACHINES
    kept = int(settings.get("buffer_replicas", 0))
    return f"boot {settings['boot']}" + (f", room for {kept} {KEPT_FREE}" if kept else "")


def _waited_for(run: Run, t0: float, end_s: float, found: dict[str, Any]) -> tuple[float, float]:
    """When the last new pod that was waited for had a machine, and when it was ready: s since t0, NaN without any.

    Off the pods and not the machines: with room kept free, machines come for placeholders that nobody waits for.
    """
    ready = lives(run, t0, end_s, "replica_created", "replica_ready").head(int(found["needed"]))
    waited = ready[(ready["ended_s"] <= t0 + float(found["t_slo_s"])) | bool(found["t_slo_censored"])]
    bound = lives(run, t0, end_s, "replica_created", "replica_scheduled")
    placed = bound.loc[bound.index.intersection(waited.index), "ended_s"]
    return float(placed.max()) - t0, float(waited["ended_s"].max()) - t0


def _parts(found: dict[str, Any], placed_s: float, ready_s: float) -> dict[str, float]:
    """Times since the step, one after the other; a part that its successor overtook is 0."""
    if not np.isfinite(found["t_slo_s"]):
        return {f"{name}_s": NAN for name in PARTS}
    total = float(found["t_slo_s"])
    marks = [float(found["detection_s"]), placed_s, ready_s, total]
    lengths, before = [], 0.0
    for mark in marks:
        reached = min(max(before, mark if np.isfinite(mark) else before), total)
        lengths.append(reached - before)
        before = reached
    parts = {f"{name}_s": length for name, length in zip(PARTS, lengths, strict=True)}
    return parts | ({"recovery_s": NAN} if found["t_slo_censored"] else {})


def _surplus(run: Run, down_s: float) -> float:
    """Machine-seconds beyond one machine, from the step down to the end."""
    to_s = run.info.schedule.duration_s
    if down_s >= to_s or not len(populations(run, MACHINES)):
        return NAN
    return machine_seconds(run, down_s, to_s) - (to_s - down_s)


@dataclass(frozen=True)
class Slope:
    """Of a straight line by least squares: s of response for a second of boot, with its 95 % interval (t, n - 2)."""

    slope: float
    low: float
    high: float
    intercept_s: float
    n: int


def slope_on_boot(rows: pd.DataFrame, what: str = "t_slo_s") -> Slope | None:
    """The line of ``what`` on ``boot_s`` over the runs without room kept free; None with fewer than three boot times.

    Censored runs are left out, which makes the slope too small where there are any: say so beside it.
    """
    used = rows[
        rows["boot_s"].notna() & ~rows["t_slo_censored"].astype(bool) & ~rows["variant"].str.contains(KEPT_FREE)
    ]
    if used["variant"].nunique() < 3:
        return None
    fit = stats.linregress(used["boot_s"], used[what])
    reach = float(stats.t.ppf(0.975, len(used) - 2)) * float(fit.stderr)
    return Slope(float(fit.slope), float(fit.slope) - reach, float(fit.slope) + reach, float(fit.intercept), len(used))


def benefit_of_room(rows: pd.DataFrame, alpha: float = ALPHA) -> pd.DataFrame:
    """What room kept free does, against the same boot times without: T_slo, the first recovery, and all seconds over L,
    which may tell another story.

    Args:
        rows: of `dose_rows`, one run for each variant and block.
    Returns:
        variant, figure, blocks, with_s and without_s (means), difference_s with low_s and high_s (paired t interval
        over blocks); empty without both.
    """
    found = []
    for variant in rows.loc[rows["variant"].str.contains(KEPT_FREE), "variant"].drop_duplicates():
        for figure, column in (("T_slo", "t_slo_s"), ("seconds over L", "over_level_s")):
            wide = rows.pivot_table(index="block", columns="variant", values=column)
            both = wide.reindex(columns=[variant, variant.split(",")[0]]).dropna().to_numpy(dtype=float)
            if len(both):
                interval = paired_t(both[:, 0] - both[:, 1], alpha)
                means = dict(zip(("with_s", "without_s"), both.mean(axis=0), strict=True))
                ends = dict(zip(("difference_s", "low_s", "high_s"), map(float, interval[:3]), strict=True))
                found.append({"variant": variant, "figure": figure, "blocks": len(both), **means, **ends})
    return pd.DataFrame(found)
