"""How the upscaling response depends on machine boot time (METHOD §8): its parts, and a slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis.moving import WINDOW_S, moving
from mlscale.analysis.paired import paired_t, t_quantile
from mlscale.analysis.provisioning import lives, machine_states
from mlscale.analysis.summary import labels, span, upscaling
from mlscale.runs import MlscaleError, Run

NAN: Final = float("nan")
PARTS: Final = ("detection", "machine", "container", "recovery")
NO_MACHINES: Final = "no machines"
KEPT_FREE: Final = "kept free"


def boot_time_rows(runs: Sequence[Run], level_s: float) -> pd.DataFrame:
    """One row per run: its variant, the parts of its response, and how long it was over L.

    Returns:
        ``variant``; ``boot_s``, the mean time from a machine's request to its start, as it was observed after the step
        (NaN without machines); ``detection_s``, ``machine_s``, ``container_s``, ``recovery_s``, which follow one
        another on the way to T_slo and add up to it (recovery is NaN where it was not reached), timed by the new pods
        that the recovery needed: the needed ones, or those of them that were ready when T_slo was reached; ``t_slo_s``,
        ``t_slo_censored``; ``peak_s``, the highest m_t after the step; ``over_level_s``; ``surplus_s``,
        machine-seconds beyond the first machine from the step down on (NaN without one); ``host_bound``, ``valid``.
    Raises:
        MlscaleError: a run without a step, or of no autoscaler.
    """
    if any(run.info.step_s is None or not run.info.scaling for run in runs):
        raise MlscaleError("it needs runs of an autoscaler, with a load step", "boot time", "leave the others out")
    return pd.DataFrame([_row(run, level_s) for run in runs])


def _row(run: Run, level_s: float) -> dict[str, Any]:
    t0, end_s = span(run)
    summary = labels(run) | upscaling(run, level_s, end_s - t0)
    boots = lives(run, t0, end_s, "machine_requested", "machine_booted")["took_s"]
    moved = moving(run.requests, WINDOW_S, "done", timeout_s=run.info.timeout_s)
    inside = moved[moved["t_s"].between(t0, end_s)]["mean_s"]
    columns = ("run_id", "environment", "block", "valid", "host_bound", "t_slo_s", "t_slo_censored", "over_level_s")
    return {
        **{name: summary[name] for name in columns},
        "variant": variant_of(run),
        "boot_s": float(boots.mean()),
        **_parts(summary, *_pod_milestones(run, t0, end_s, summary)),
        "peak_s": float(inside.max()) if len(inside) else NAN,
        "surplus_s": _surplus(run, end_s),
    }


def variant_of(run: Run) -> str:
    """A label: the run's boot times and its spare capacity."""
    settings = next(iter(run.info.scaling.values()))
    if "boot" not in settings:
        return NO_MACHINES
    buffer = int(settings.get("buffer_replicas", 0))
    return f"boot {settings['boot']}" + (f", room for {buffer} {KEPT_FREE}" if buffer else "")


def _pod_milestones(run: Run, t0: float, end_s: float, summary: dict[str, Any]) -> tuple[float, float]:
    """When the last new pod that the recovery needed was scheduled, and when it was ready: s since t0, NaN without any.

    From pods, not machines: with room kept free, machines come for placeholders that no request waits for.
    """
    ready = lives(run, t0, end_s, "replica_created", "replica_ready").head(int(summary["needed"]))
    waited = ready[(ready["ended_s"] <= t0 + float(summary["t_slo_s"])) | bool(summary["t_slo_censored"])]
    scheduled = lives(run, t0, end_s, "replica_created", "replica_scheduled")
    placed = scheduled.loc[scheduled.index.intersection(waited.index), "ended_s"]
    return float(placed.max()) - t0, float(waited["ended_s"].max()) - t0


def _parts(summary: dict[str, Any], placed_s: float, ready_s: float) -> dict[str, float]:
    """Durations of consecutive parts; a part that its successor overtook is 0."""
    if not np.isfinite(summary["t_slo_s"]):
        return {f"{name}_s": NAN for name in PARTS}
    total = float(summary["t_slo_s"])
    marks = [float(summary["detection_s"]), placed_s, ready_s, total]
    lengths, previous = [], 0.0
    for mark in marks:
        reached = min(max(previous, mark if np.isfinite(mark) else previous), total)
        lengths.append(reached - previous)
        previous = reached
    parts = {f"{name}_s": length for name, length in zip(PARTS, lengths, strict=True)}
    return parts | ({"recovery_s": NAN} if summary["t_slo_censored"] else {})


def _surplus(run: Run, down_s: float) -> float:
    """Machine-seconds beyond one machine, from the step down to the end. Counted from a machine's request on: a cloud
    bills from when it runs, so the boot time is partly free there."""
    steps, to_s = machine_states(run), run.info.schedule.duration_s
    if down_s >= to_s or steps.empty:
        return NAN
    begins = steps["t_s"].clip(down_s, to_s)
    ends = steps["t_s"].shift(-1, fill_value=to_s).clip(down_s, to_s)
    return float((steps.drop(columns="t_s").sum(axis=1) * (ends - begins)).sum()) - (to_s - down_s)


@dataclass(frozen=True)
class Slope:
    """A least-squares line: s of response per s of boot time, with its 95 % interval (t, n - 2). ``censored``: runs
    that are left out since they did not recover, which makes the slope too small."""

    slope: float
    low: float
    high: float
    intercept_s: float
    n: int
    censored: int

    @property
    def left_out(self) -> str:
        """A note about the runs that are left out of the slope; empty if there are none."""
        return f", at least: without {self.censored} that did not recover" if self.censored else ""


def slope_on_boot(rows: pd.DataFrame) -> Slope | None:
    """The line of T_slo on ``boot_s`` over the runs without room kept free; None with fewer than three boot times.

    Censored runs are left out, which biases the slope downwards: see `Slope.left_out`.
    """
    if rows.empty:
        return None
    booted = rows[rows["boot_s"].notna() & ~rows["variant"].str.contains(KEPT_FREE)]
    used = booted[~booted["t_slo_censored"].astype(bool)]
    if used["variant"].nunique() < 3:
        return None
    from scipy import stats  # here: it takes longer to import than pandas

    fit = stats.linregress(used["boot_s"], used["t_slo_s"])
    half_width = t_quantile(0.975, len(used) - 2) * float(fit.stderr)
    slope = float(fit.slope)
    return Slope(
        slope, slope - half_width, slope + half_width, float(fit.intercept), len(used), len(booted) - len(used)
    )


def benefit_of_room(rows: pd.DataFrame) -> pd.DataFrame:
    """The effect of room kept free, against the same boot times without: on T_slo (the first recovery) and on all
    seconds over L, which may disagree.

    Args:
        rows: of `boot_time_rows`, one run for each variant and block.
    Returns:
        variant, figure, blocks, with_s and without_s (means), difference_s with low_s and high_s (paired t interval
        over blocks); empty without both.
    """
    effects = []
    for variant in rows.loc[rows["variant"].str.contains(KEPT_FREE), "variant"].drop_duplicates():
        for figure, column in (("T_slo", "t_slo_s"), ("seconds over L", "over_level_s")):
            wide = rows.pivot_table(index="block", columns="variant", values=column)
            both = wide.reindex(columns=[variant, variant.split(",")[0]]).dropna().to_numpy(dtype=float)
            if len(both):
                interval = paired_t(both[:, 0] - both[:, 1])
                means = dict(zip(("with_s", "without_s"), both.mean(axis=0), strict=True))
                ends = dict(zip(("difference_s", "low_s", "high_s"), map(float, interval[:3]), strict=True))
                effects.append({"variant": variant, "figure": figure, "blocks": len(both), **means, **ends})
    return pd.DataFrame(effects)
