"""The runs behind notebook 08: the application whole and in components, turn by turn, at the same total budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mlscale.analysis.components import by_component, way
from mlscale.experiment import places
from mlscale.experiment.applications import code_reader
from mlscale.experiment.measure import measure
from mlscale.experiment.parameters import PartitionParameters
from mlscale.experiment.progress import Shown
from mlscale.experiment.protocol import current_protocol, photos_folder
from mlscale.runs import ClosedLoop, ClosedStage, Run, load_runs

WAYS: Final = ("whole", "split", "split, overlapping")
_OVERLAP: Final = {"rayserve": {"localiser.max_ongoing_requests": 4, "localiser.target_ongoing_requests": 2}}
"""What lets a front's replica work on a request while another waits for the readers, by environment. TorchServe's
workers take one request at a time."""
SETTLING_S: Final = 5.0
"""Left out at the beginning of each load stage, s."""


def runs_of_splits(p: PartitionParameters) -> list[Run]:
    """The runs that the parameters name; where they name none, one of each way is measured, ``repeats`` times.

    Raises:
        MlscaleError: see `mlscale.measure` and `mlscale.runs.load_runs`.
    """
    if p.run_dirs:
        return load_runs(p.run_dirs)
    protocol = current_protocol()
    folder = p.out or places.checkout() / "runs" / "by-hand" / f"partition-{datetime.now():%Y%m%dT%H%M%S}"
    runs = []
    with Shown() as shown:
        for number, (turn, environment, name, settings) in enumerate(_planned(p)):
            shown(f"{environment}, {name}", 0.0)
            run = measure(
                environment,
                code_reader(partitioned=name != "whole"),
                p.schedule or default_schedule(),
                photos=p.photos or photos_folder(protocol, places.protocol_file()),
                out=Path(folder) / f"{number:02d}-{environment}-{name.replace(', ', '-')}",
                scaling={**p.scaling, **settings},
                arm=p.arm,
                seed=p.seed + turn,
                idle_s=p.idle_s,
                progress=shown,
            )
            runs.append(run)
    return runs


def default_schedule() -> ClosedLoop:
    """A light load, then one that asks for more than any way can serve: 45 s."""
    stages = ClosedStage(start_s=0, clients=2), ClosedStage(start_s=15, clients=16)
    return ClosedLoop(duration_s=45, stages=stages, think_mean_s=0.2)


def way_of(run: Run) -> str:
    """Which of `WAYS` a run took."""
    if len(run.info.components) == 1:
        return WAYS[0]
    return WAYS[2] if run.info.scaling[run.info.components[0]].get("max_ongoing_requests", 1) > 1 else WAYS[1]


def total_cores(run: Run) -> float:
    """What all replicas together may use at most, cores."""
    return float(sum(one["max_replicas"] * one["cpu_cores"] for one in run.info.scaling.values()))


def stages_of(run: Run) -> list[tuple[str, float, float]]:
    """The load stages: name, from_s, to_s on the run's clock, the first seconds of each left out."""
    starts = run.events[run.events["kind"] == "load_step"]["t_s"].tolist()
    ends = [*starts[1:], starts[0] + run.info.schedule.duration_s]
    names = ["light", "heavy"] if len(starts) == 2 else [f"stage {number}" for number in range(len(starts))]
    return [(name, min(a + SETTLING_S, b), b) for name, a, b in zip(names, starts, ends, strict=True)]


def shown_ways(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run and load stage: environment, way, stage, total_cores, answers_rps, mean_response_s,
    p95_response_s, failures, cpu_per_answer_s (of the replicas), valid."""
    return pd.DataFrame([_row(run, *stage) for run in runs for stage in stages_of(run)])


def where_time_goes(runs: Sequence[Run]) -> pd.DataFrame:
    """Mean seconds of a right answer's response by part (`mlscale.analysis.components.way`): environment, way, stage,
    and a column for each part; parts that a way lacks are 0."""
    rows = []
    for run in runs:
        split = way(run)
        for name, from_s, to_s in stages_of(run):
            inside = split[split["intended_s"].between(from_s, to_s)]
            parts = inside.drop(columns=["request_id", "intended_s", "response_s"]).mean().to_dict()
            rows.append({"environment": run.info.environment, "way": way_of(run), "stage": name, **parts})
    found = pd.DataFrame(rows)
    return found.fillna(0.0).groupby(["environment", "way", "stage"], sort=False, as_index=False).mean()


def shown_components(runs: Sequence[Run]) -> pd.DataFrame:
    """`mlscale.analysis.components.by_component` of each run's last load stage."""
    tables = []
    for run in runs:
        _, from_s, to_s = stages_of(run)[-1]
        table = by_component(run, from_s, to_s).reset_index()
        tables.append(table.assign(environment=run.info.environment, way=way_of(run)))
    found = pd.concat(tables, ignore_index=True)
    return found[["environment", "way", *(name for name in found.columns if name not in ("environment", "way"))]]


def _planned(p: PartitionParameters) -> list[tuple[int, str, str, Mapping[str, Any]]]:
    """Turn, environment, way, settings of each run, in order: all ways of an environment, again and again."""
    return [
        (turn, name, way, _OVERLAP[name] if way == WAYS[2] else {})
        for turn in range(p.repeats)
        for name in p.environments
        for way in (WAYS if name in _OVERLAP else WAYS[:2])
    ]


def _row(run: Run, stage: str, from_s: float, to_s: float) -> dict[str, Any]:
    inside = run.requests[run.requests["intended_s"].between(from_s, to_s)]
    right = inside[inside["status"] == "ok"]
    done = run.requests[(run.requests["status"] == "ok") & run.requests["done_s"].between(from_s, to_s)]
    response_s = right["done_s"] - right["intended_s"]
    cpu_s = by_component(run, from_s, to_s)["cpu_s"].sum()
    return {
        "environment": run.info.environment,
        "way": way_of(run),
        "stage": stage,
        "total_cores": total_cores(run),
        "answers_rps": len(done) / (to_s - from_s),
        "mean_response_s": float(response_s.mean()),
        "p95_response_s": float(response_s.quantile(0.95)),
        "failures": int((inside["status"] != "ok").sum()),
        "cpu_per_answer_s": cpu_s / len(done) if len(done) else float("nan"),
        "valid": run.info.validity.valid if run.info.validity else None,
    }
