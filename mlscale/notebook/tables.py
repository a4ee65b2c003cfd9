"""The notebooks' tables, and the runs that they compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from mlscale.defaults import defaults
from mlscale.notebook.parameters import NotebookParameters
from mlscale.notebook.show import remark
from mlscale.plots.captions import hpa_in_effect
from mlscale.runs import MlscaleError, Run, load_runs


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


def shown_runs(runs: Sequence[Run], **more: Sequence[Any]) -> pd.DataFrame:
    """One row per run: its place in the experiment, whether it is valid, and if not, why. ``more``: further columns.
    Columns without a value are left out."""
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
    return pd.DataFrame(rows).assign(**more).dropna(axis="columns", how="all")


def shown_results(rows: pd.DataFrame) -> pd.DataFrame:
    """The main columns of `mlscale.summarise`, without those that have no value."""
    return rows[list(_RESULTS)].dropna(axis="columns", how="all")


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


def cold_starts(runs: Sequence[Run]) -> pd.DataFrame:
    """A row per started pod: the seconds of each phase, and its run's readiness_period_s."""
    from mlscale.analysis.coldstart import cold_starts_of

    return cold_starts_of(runs)


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
