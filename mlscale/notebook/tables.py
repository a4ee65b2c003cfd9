"""What the notebooks call beside analysis and plots: runs to look at, and small tables about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from mlscale.defaults import defaults
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.notebook.figures import remark
from mlscale.notebook.parameters import KubernetesParameters, MeasureParameters, NotebookParameters
from mlscale.plots.captions import hpa_in_effect
from mlscale.progress import Shown
from mlscale.runs import MlscaleError, Run, load_runs


def runs_of(environment: str, p: MeasureParameters) -> list[Run]:
    """The runs that the parameters name; where they name none, one that is measured now.

    Raises:
        MlscaleError: see `mlscale.measurement` and `mlscale.runs.load_runs`; runs of another environment.
    """
    if p.run_dirs:
        runs = load_runs(p.run_dirs)
        other = sorted({run.info.environment for run in runs} - {environment})
        if other:
            raise MlscaleError(
                f"there are runs of {', '.join(other)} among them", "run_dirs", f"name runs of {environment}"
            )
        return runs
    usual = defaults()
    with Shown() as shown:
        run = measure(
            environment,
            usual.application(partitioned=p.partitioned),
            p.schedule or usual.quick_schedule(),
            bodies=p.photos or usual.bodies(),
            out=p.out or by_hand(environment),
            scaling=usual.sized(environment, p.scaling, p.schedule),
            arm=p.arm,
            options=MeasureOptions(
                mode=p.mode,
                connections=p.connections,
                seed=p.seed,
                idle_s=p.idle_s,
                labels=p.labels,
                progress=shown,
            ),
        )
    return [run]


def variants_of(environment: str, p: KubernetesParameters) -> list[Run]:
    """Runs that change one thing: those that the parameters name, or with ``measure_more`` one of each, measured now.

    Raises:
        MlscaleError: see `runs_of`.
    """
    if p.more_run_dirs or not p.measure_more:
        return load_runs(p.more_run_dirs) if p.more_run_dirs else []
    return list(defaults().measure_variants(environment, p))


def runs_to_compare(p: NotebookParameters) -> list[Run]:
    """The runs that the parameters name; where they name none, the published ones in data/reference.

    Raises:
        MlscaleError: neither is there.
    """
    if p.run_dirs:
        return load_runs(p.run_dirs)
    published = defaults().published()
    if published is None:
        raise MlscaleError(
            "no run is named, and none is published", "run_dirs", "measure some: make paper-figures QUICK=1"
        )
    return load_runs(published[0])


def valid(runs: Sequence[Run]) -> list[Run]:
    """The runs that latency claims may rest on, and all runs of environments that have none; a line names those."""
    good = {run.info.environment for run in runs if run.info.valid}
    without = list(dict.fromkeys(run.info.environment for run in runs if run.info.environment not in good))
    if without:
        remark(
            f"No valid run (see the table above): {', '.join(without)}. It is shown; nothing may be claimed from it."
        )
    return [run for run in runs if run.info.valid or run.info.environment in without]


def median_run(runs: Sequence[Run], rows: pd.DataFrame) -> tuple[Run, str]:
    """The run in the middle by P1 (of an even number, the lower of the two), and words that say so.

    Args:
        rows: of `summarise`, one for each run, in their order.
    """
    order = np.argsort(rows["mean_response_s"].to_numpy(dtype=float), kind="stable")
    words = f"the median of {len(runs)} by mean response" if len(runs) > 1 else ""
    return runs[order[(len(runs) - 1) // 2]], words


def by_hand(environment: str) -> Path:
    """A fresh folder for a run that is measured by hand."""
    return defaults().root() / "runs" / "by-hand" / f"{environment}-{datetime.now():%Y%m%dT%H%M%S}"


def level_of(p: NotebookParameters) -> float:
    """L, s: the parameter, else the protocol's."""
    return p.level_s if p.level_s is not None else defaults().level_s


def level_to_compare(p: NotebookParameters) -> float:
    """L, s, for `runs_to_compare`: the parameter, else that of the protocol under which they were measured, which for
    the published runs stands beside them."""
    if p.run_dirs or p.level_s is not None:
        return level_of(p)
    published = defaults().published()
    return published[1] if published else level_of(p)


def shown_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run: where it stood in the experiment, whether it is valid and, if not, why."""
    rows = [
        {
            "environment": run.info.environment,
            "cell": run.info.cell,
            "arm": run.info.arm,
            "block": run.info.block,
            "position": run.info.position,
            "after": run.info.predecessor,
            "A/A": run.info.aa_label,
            "attempt": run.info.attempt,
            "mode": run.info.mode,
            "requests": len(run.requests),
            "right": int((run.requests["status"] == "ok").sum()),
            "valid": run.info.validity.valid if run.info.validity else None,
            "why not": "; ".join(run.info.validity.reasons) if run.info.validity else "",
        }
        for run in runs
    ]
    return pd.DataFrame(rows)


def shown_results(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of `mlscale.analysis.summary.summarise` that a reader looks at first."""
    return rows[list(_RESULTS)]


def shown_settings(runs: Sequence[Run]) -> pd.DataFrame:
    """Every scaling setting, a column per environment and arm; what differs between runs of one column is joined."""
    columns: dict[str, dict[str, str]] = {}
    for run in runs:
        column = columns.setdefault(f"{run.info.environment}, {run.info.arm}", {})
        for settings in run.info.scaling.values():
            for name, value in settings.items():
                known = column.setdefault(name, str(value))
                if str(value) not in known.split(" | "):
                    column[name] = f"{known} | {value}"
    return pd.DataFrame(columns).fillna("").rename_axis("setting")


def shown_cluster(runs: Sequence[Run]) -> pd.DataFrame:
    """Which Kubernetes answered and what bears on scaling there: a row per setting, its value, and where it was read.

    What differs between the runs is joined.
    """
    table: dict[str, dict[str, str]] = {}
    for run in runs:
        facts = run.info.facts
        found = {**hpa_in_effect(run.info), "metric_resolution_s": facts.get("metric_resolution_s", {})}
        plain = {name: facts.get(name) for name in ("distribution", "version", "cfs_period_s", "resources_from")}
        found |= {name: {"value": value, "from": "the cluster"} for name, value in plain.items()}
        for name, each in found.items():
            row = table.setdefault(name, {"value": "", "from": ""})
            for key in row:
                text = str(each.get(key, ""))
                if text not in row[key].split(" | "):
                    row[key] = " | ".join(filter(None, (row[key], text)))
    return pd.DataFrame(table).T.rename_axis("setting")


def shown_cost(
    environment: Literal["ecs", "eks"], scaling: Mapping[str, Any], region: str = "us-east-1"
) -> pd.DataFrame:
    """What a run on AWS costs at most by list prices, USD, with the protocol's sizes and ``scaling`` over them."""
    from mlscale.environments.aws_cost import ecs_cost, eks_cost
    from mlscale.environments.ecs.settings import EcsScaling
    from mlscale.environments.kubernetes.machine_settings import MachineScaling

    sizes = defaults().sized(environment, scaling, None)
    cost = ecs_cost(EcsScaling(**sizes), region) if environment == "ecs" else eks_cost(MachineScaling(**sizes), region)
    lines = {**cost.lines, f"together, {cost.hours:g} h, prices of {cost.date}": cost.usd}
    return pd.DataFrame({"USD": lines}).rename_axis(cost.region).round(3)


def cold_starts(runs: Sequence[Run]) -> pd.DataFrame:
    """A row per pod that was started: the seconds of each phase, and its run's readiness_period_s."""
    from mlscale.analysis.coldstart import cold_starts

    frames = []
    for run in runs:
        periods = {settings.get("readiness_period_s") for settings in run.info.scaling.values()}
        frames.append(cold_starts(run).assign(run_id=run.info.run_id, readiness_period_s=periods.pop()))
    return pd.concat(frames, ignore_index=True)


def boots(runs: Sequence[Run], level_s: float) -> pd.DataFrame:
    """A row per run where machines scale: where the time went after the step. ``attrs["slope"]``: recovery per second
    of boot, where runs have boot times enough."""
    from mlscale.analysis.boot_time_response import dose_rows, slope_on_boot

    rows = dose_rows(runs, level_s)
    rows.attrs["slope"] = slope_on_boot(rows)
    return rows


def benefit_of_room(runs: Sequence[Run], level_s: float) -> pd.DataFrame:
    """What keeping room for a pod free gains, with intervals."""
    from mlscale.analysis.boot_time_response import benefit_of_room, dose_rows

    return benefit_of_room(dose_rows(runs, level_s))


def shown_waits(runs: Sequence[Run]) -> pd.DataFrame:
    """Mean seconds that each phase around the load took, and what the framework cost at idle, by environment."""
    rows = [{"environment": run.info.environment, **run.info.waits, **run.info.idle} for run in runs]
    return pd.DataFrame(rows).groupby("environment").mean().T


_RESULTS: Final = (
    "block",
    "aa_label",
    "mean_response_s",
    "sd_response_s",
    "t_slo_s",
    "t_slo_censored",
    "over_level_s",
    "p95_response_s",
    "throughput_rps",
    "failure_share",
    "mean_queue_s",
    "mean_inference_s",
    "throttled_share",
    "cpu_per_answer_s",
    "pre_scaled",
)
