"""The notebooks' own functions: choose or measure runs, and tabulate them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from mlscale.analysis.folded import Folded
from mlscale.defaults import defaults
from mlscale.environments.base import EnvironmentUnavailable
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.notebook.figures import remark
from mlscale.notebook.parameters import MeasureParameters, NotebookParameters, checked
from mlscale.plots.captions import hpa_in_effect
from mlscale.progress import Shown
from mlscale.runs import MlscaleError, Run, load_runs


def runs_of(environment: str, p: MeasureParameters) -> list[Run]:
    """The runs that the parameters name; if none, one that is measured now.

    Raises:
        MlscaleError: as `measure` and `load_runs`, or a run of another environment is named.
    """
    if p.run_dirs:
        runs = load_runs(p.run_dirs)
        others = sorted({run.info.environment for run in runs} - {environment})
        if others:
            raise MlscaleError(f"includes runs of {', '.join(others)}", "run_dirs", f"name only runs of {environment}")
        return runs
    default = defaults()
    with Shown() as progress:
        run = measure(
            environment,
            default.application(partitioned=p.partitioned),
            p.schedule,
            bodies=p.photos or default.bodies(),
            out=p.out or new_folder(environment),
            scaling=p.scaling,
            arm=p.arm,
            options=MeasureOptions(
                mode=p.mode,
                connections=p.connections,
                seed=p.seed,
                idle_s=p.idle_s,
                quiet_at_most_s=p.quiet_at_most_s,
                labels=p.labels,
                progress=progress,
            ),
        )
    return [run]


def published_instead(environment: str, p: MeasureParameters, error: EnvironmentUnavailable) -> list[Run]:
    """The published runs of an environment that can't run here, with a remark that says so.

    Raises:
        EnvironmentUnavailable: ``error``, if none are published or the parameters ask for anything but the defaults.
    """
    published = defaults().published()
    drawing = set(NotebookParameters.model_fields)
    if published is None or p.model_dump(exclude=drawing) != type(p)().model_dump(exclude=drawing):
        raise error
    for cell in ("core", "rehearsal"):
        folder = published[0] / cell
        runs = [run for run in load_runs(folder) if run.info.environment == environment] if folder.is_dir() else []
        if runs:
            remark(f"{error}. Nothing is measured here: these are the published runs, measured elsewhere.")
            return runs
    raise error


def runs_to_compare(p: NotebookParameters) -> list[Run]:
    """The runs that the parameters name; if none, the published ones in data/reference.

    Raises:
        MlscaleError: there are neither.
    """
    if p.run_dirs:
        return load_runs(p.run_dirs)
    published = defaults().published()
    if published is None:
        raise MlscaleError(
            "no runs are named or published", "run_dirs", "name some, or measure them: make paper-figures QUICK=1"
        )
    return load_runs(published[0])


def valid(runs: Sequence[Run]) -> list[Run]:
    """The valid runs, which may support latency claims; of an environment that has none, all runs, with a remark."""
    with_valid = {run.info.environment for run in runs if run.info.valid}
    without = list(dict.fromkeys(run.info.environment for run in runs if run.info.environment not in with_valid))
    if without:
        remark(
            f"No valid run (see the table above): {', '.join(without)}. It is shown; nothing may be claimed from it."
        )
    return [run for run in runs if run.info.valid or run.info.environment in without]


def median_run(runs: Sequence[Run], rows: pd.DataFrame) -> tuple[Run, str]:
    """The median run by P1 (of an even number, the lower of the two), and a phrase for the caption that says so.

    Args:
        rows: of `summarise`, one for each run, in the same order.
    """
    order = np.argsort(rows["mean_response_s"].to_numpy(dtype=float), kind="stable")
    phrase = f"the median of {len(runs)} by mean response" if len(runs) > 1 else ""
    return runs[order[(len(runs) - 1) // 2]], phrase


def new_folder(environment: str) -> Path:
    """An unused folder for a run that a notebook measures."""
    return defaults().root() / "runs" / "by-hand" / f"{environment}-{datetime.now():%Y%m%dT%H%M%S}"


def level_of(p: NotebookParameters) -> float:
    """L, s: the parameter; if none, the protocol's."""
    return p.level_s if p.level_s is not None else defaults().level_s


def level_to_compare(p: NotebookParameters) -> float:
    """L, s, for `runs_to_compare`: the parameter; if none, that of the protocol under which the runs were measured
    (the published runs come with theirs)."""
    if p.run_dirs or p.level_s is not None:
        return level_of(p)
    published = defaults().published()
    return published[1] if published else level_of(p)


def shown_runs(runs: Sequence[Run], **more: Sequence[Any]) -> Folded:
    """One row per run: its place in the experiment, whether it is valid, and if not, why. ``more``: further columns."""
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
    shown = ("environment", *more, "cell", "block", "requests", "right", "valid", "why not")
    return Folded.of(pd.DataFrame(rows).assign(**more), shown)


def shown_results(rows: pd.DataFrame) -> Folded:
    """The main columns of `mlscale.analysis.summary.summarise`."""
    return Folded.of(rows[list(_RESULTS)], _RESULTS_SHOWN)


def shown_settings(runs: Sequence[Run]) -> pd.DataFrame:
    """Every scaling setting, a column per environment and arm; differing values of its runs are joined by "|"."""
    columns: dict[str, dict[str, str]] = {}
    for run in runs:
        column = columns.setdefault(f"{run.info.environment}, {run.info.arm}", {})
        for settings in run.info.scaling.values():
            for name, value in settings.items():
                values = column.setdefault(name, str(value))
                if str(value) not in values.split(" | "):
                    column[name] = f"{values} | {value}"
    return pd.DataFrame(columns).fillna("").rename_axis("setting")


def shown_cluster(runs: Sequence[Run]) -> pd.DataFrame:
    """The Kubernetes cluster and its settings that affect scaling: a row per setting, its value and where it was read.

    Values that differ between the runs are joined by "|".
    """
    table: dict[str, dict[str, str]] = {}
    for run in runs:
        facts = run.info.facts
        settings = {**hpa_in_effect(run.info), "metric_resolution_s": facts.get("metric_resolution_s", {})}
        for name in ("distribution", "version", "cfs_period_s", "resources_from"):
            settings[name] = {"value": facts.get(name), "from": "the cluster"}
        for name, setting in settings.items():
            row = table.setdefault(name, {"value": "", "from": ""})
            for key in row:
                text = str(setting.get(key, ""))
                if text not in row[key].split(" | "):
                    row[key] = " | ".join(filter(None, (row[key], text)))
    return pd.DataFrame(table).T.rename_axis("setting")


def shown_cost(
    environment: Literal["ecs", "eks"], scaling: Mapping[str, Any], region: str = "us-east-1"
) -> pd.DataFrame:
    """The most that a run on AWS can cost at list prices, USD: with the protocol's sizes, overridden by ``scaling``."""
    from mlscale.environments.aws_cost import ecs_cost, eks_cost
    from mlscale.environments.ecs.settings import EcsScaling
    from mlscale.environments.kubernetes.machine_settings import MachineScaling

    sizes = defaults().sized(environment, scaling, None)
    if environment == "ecs":
        cost = ecs_cost(checked(EcsScaling, sizes), region)
    else:
        cost = eks_cost(checked(MachineScaling, sizes), region)
    lines = {**cost.lines, f"total, {cost.hours:g} h, prices of {cost.date}": cost.usd}
    return pd.DataFrame({"USD": lines}).rename_axis(cost.region).round(3)


def cold_starts(runs: Sequence[Run]) -> pd.DataFrame:
    """A row per started pod: the seconds of each phase, and its run's readiness_period_s."""
    from mlscale.analysis.coldstart import cold_starts_of

    return cold_starts_of(runs)


def shown_waits(runs: Sequence[Run]) -> pd.DataFrame:
    """Mean seconds that each phase around the load took, and what the framework cost at idle, by environment."""
    rows = [{"environment": run.info.environment, **run.info.waits, **run.info.idle} for run in runs]
    return pd.DataFrame(rows).groupby("environment").mean().T


_RESULTS_SHOWN: Final = (
    "block",
    "mean_response_s",
    "sd_response_s",
    "t_slo_s",
    "over_level_s",
    "p95_response_s",
    "failure_share",
    "cpu_per_answer_s",
)
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
