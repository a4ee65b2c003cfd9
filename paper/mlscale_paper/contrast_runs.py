"""How far the twin is from each published live run that was measured in a block with others: rows for
`mlscale_paper.contrasts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from mlscale.analysis.boot_time_response import variant_of
from mlscale.analysis.durations import durations
from mlscale.analysis.response import horizon_of, recovery
from mlscale.runs import Run
from mlscale_paper.variants import cell_of
from mlscale_twin.answer_work import replicas_cpu_s
from mlscale_twin.likeness import judged_span
from mlscale_twin.profile import Profile
from mlscale_twin.studies.validation import DRAWS, twins_of
from mlscale_twin.worker_processes import worker_processes

# Cells whose blocks hold several sides; the hold-out's blocks are those of one schedule.
CELLS: Final = ("core", "shipped", "rehearsal", "holdout")


def contrast_record(
    runs: Sequence[Run],
    level_s: float,
    profile_of: Callable[[Run], Profile],
    draws: int = DRAWS,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """``draws``, and ``live``: a row per valid run of `CELLS`, second A/A runs left out.

    ``setting``, in which sides are compared; ``block``; ``side``; ``run_id``; ``loop`` of its load; ``fitted``, whether
    its environment's profile was fitted to the run; ``utilisation`` of the maximum of replicas before the load falls;
    ``recovered``, whether it did, and ``twins_recovered``, in which share of its twins; and of each figure of
    `mlscale_paper.contrasts.FIGURES` log(twin / live), a mean over ``draws``."""
    used = [run for run in runs if run.info.valid and cell_of(run) in CELLS and run.info.aa_label != "B"]
    jobs = [(run, profile_of(run), level_s, draws) for run in used]
    rows = []
    with worker_processes() as pool:
        for row in pool.map(_row, *zip(*jobs, strict=True)):
            rows.append(row)
            if progress is not None:
                progress("twins of live runs", len(rows) / len(jobs))
    return {"draws": draws, "live": rows}


def _row(run: Run, profile: Profile, level_s: float, draws: int) -> dict[str, Any]:
    live, recovered = _figures(run, level_s)
    twins, each_recovered = zip(*(_figures(twin, level_s) for twin in _twins(run, profile, draws)), strict=True)
    errors = np.log(twins).mean(axis=0) - np.log(live)
    return {
        "setting": setting_of(run),
        "block": run.info.block,
        "side": side_of(run),
        "run_id": run.info.run_id,
        "loop": run.info.schedule.loop,
        "fitted": run.info.run_id in profile.fitted_to,
        "utilisation": round(_utilisation(run), 3),
        "recovered": recovered,
        "twins_recovered": round(float(np.mean(each_recovered)), 3),
        **dict(zip(("mean", "spread", "recovery"), errors.tolist(), strict=True)),
    }


def _twins(run: Run, profile: Profile, draws: int) -> list[Run]:
    return twins_of(run, draws, profile_of=lambda _: profile)


def setting_of(run: Run) -> str:
    """Where sides are compared: the cell; in the hold-out the schedule, whatever its level."""
    cell, _, variant = (run.info.cell or "").partition("/")
    return f"{cell} {variant.partition('-')[0]}" if cell == "holdout" else cell


def side_of(run: Run) -> str:
    """The environment; in the rehearsal with its boot times."""
    if cell_of(run) != "rehearsal":
        return run.info.environment
    return f"{run.info.environment}, {variant_of(run)}"


def _figures(run: Run, level_s: float) -> tuple[list[float], bool]:
    """Mean and standard deviation of responses in the judged span, T_slo + W, s; and whether it recovered."""
    from_s, to_s = judged_span(run)
    taken = durations(run.requests, timeout_s=run.info.timeout_s)
    inside = taken[(taken["load_stage"] > 0) & (taken["intended_s"] < to_s)]["response_s"]
    judged = recovery(run, level_s, horizon_s=to_s - from_s)
    return [float(inside.mean()), float(inside.std(ddof=0)), judged.confirmed_s], not judged.t_slo_censored


def _utilisation(run: Run) -> float:
    """CPU of all replicas, of what the maximum of replicas may use, in the last quarter before the load falls."""
    settings = next(iter(run.info.scaling.values()))
    horizon_s, step_s = horizon_of(run), run.info.step_s or 0.0
    used_cpu_s = replicas_cpu_s(run, step_s + 0.75 * horizon_s, step_s + horizon_s)
    return float(used_cpu_s) / float(0.25 * horizon_s * settings["max_replicas"] * settings["cpu_cores"])
