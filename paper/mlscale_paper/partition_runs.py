"""The runs behind notebook 08: the application whole and in components, alternating, at the same total budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.components import by_component, response_breakdown
from mlscale.analysis.endpoints import P1, P2, Endpoint
from mlscale.analysis.inference import compare
from mlscale.analysis.summary import summarise
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.notebook.parameters import PartitionParameters
from mlscale.notebook.study import new_folder
from mlscale.progress import Shown
from mlscale.runs import ClosedLoop, ClosedStage, Run, load_runs
from mlscale_experiment.protocol import bodies_folder
from mlscale_paper import places
from mlscale_paper.applications import code_reader
from mlscale_paper.protocol import current_protocol

WAYS: Final = ("whole", "split", "split, overlapping")
# Settings by which a replica of the front works on one request while another one waits for the readers, by environment.
# TorchServe's workers take one request at a time.
_OVERLAP: Final = {"rayserve": {"localiser.max_ongoing_requests": 4, "localiser.target_ongoing_requests": 2}}
# Its runs are labelled "partition/whole" and "partition/partitioned".
CELL: Final = "partition"
COMPARED: Final = (
    P1,
    P2,
    Endpoint("CPU", "CPU per answer", "cpu_per_answer_s", "cheaper", "dearer", "cpu_per_answer_s"),
)
# Left out at the start of each load stage, s.
SETTLING_S: Final = 5.0


def runs_of_splits(p: PartitionParameters) -> list[Run]:
    """The runs that the parameters name; where they name neither runs nor a folder for new ones, the published runs of
    the cell; where there are none, one of each way is measured, ``repeats`` times.

    Raises:
        MlscaleError: see `mlscale.measurement` and `mlscale.runs.load_runs`.
    """
    published = places.reference() / CELL
    if p.run_dirs or (p.out is None and published.is_dir()):
        return load_runs(p.run_dirs or published)
    protocol = current_protocol()
    folder = p.out or new_folder("partition")
    runs = []
    with Shown() as progress:
        for number, (turn, environment, name, settings) in enumerate(_planned(p)):
            progress(f"{environment}, {name}", 0.0)
            run = measure(
                environment,
                code_reader(partitioned=name != "whole"),
                p.schedule or default_schedule(),
                bodies=p.bodies or bodies_folder(protocol, places.protocol_file()),
                out=folder / f"{number:02d}-{environment}-{name.replace(', ', '-')}",
                scaling={**p.scaling, **settings},
                arm=p.arm,
                options=MeasureOptions(
                    seed=p.seed + turn, idle_s=p.idle_s, quiet_at_most_s=p.quiet_at_most_s, progress=progress
                ),
            )
            runs.append(run)
    return runs


def photos(p: PartitionParameters) -> list[bytes]:
    """The load's photos."""
    folder = p.bodies or bodies_folder(current_protocol(), places.protocol_file())
    return [file.read_bytes() for file in sorted(folder.glob("photo-*.jpg"))]


def default_schedule() -> ClosedLoop:
    """45 s: a light load, then one beyond the capacity of whole and partitioned application."""
    stages = ClosedStage(start_s=0, clients=2), ClosedStage(start_s=15, clients=16)
    return ClosedLoop(duration_s=45, stages=stages, think_mean_s=0.2)


def way_of(run: Run) -> str:
    """Which of `WAYS` a run took."""
    if len(run.info.components) == 1:
        return WAYS[0]
    return WAYS[2] if run.info.scaling[run.info.components[0]].get("max_ongoing_requests", 1) > 1 else WAYS[1]


def total_cores(run: Run) -> float:
    """CPU quota of all replicas together, cores."""
    return float(sum(settings["max_replicas"] * settings["cpu_cores"] for settings in run.info.scaling.values()))


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
    """Mean seconds of a right answer's response by part (`response_breakdown`): environment, way, stage, and a column
    for each part; parts that a way lacks are 0."""
    rows = []
    for run in runs:
        breakdown = response_breakdown(run)
        for name, from_s, to_s in stages_of(run):
            inside = breakdown[breakdown["intended_s"].between(from_s, to_s)]
            parts = inside.drop(columns=["request_id", "intended_s", "response_s"]).mean().to_dict()
            rows.append({"environment": run.info.environment, "way": way_of(run), "stage": name, **parts})
    table = pd.DataFrame(rows)
    return table.fillna(0.0).groupby(["environment", "way", "stage"], sort=False, as_index=False).mean()


def shown_components(runs: Sequence[Run]) -> pd.DataFrame:
    """`mlscale.analysis.components.by_component` of each run's last load stage."""
    tables = []
    for run in runs:
        _, from_s, to_s = stages_of(run)[-1]
        table = by_component(run, from_s, to_s).reset_index()
        tables.append(table.assign(environment=run.info.environment, way=way_of(run)))
    components = pd.concat(tables, ignore_index=True)
    first = ["environment", "way"]
    return components[[*first, *components.columns.drop(first)]]


def compared_ways(runs: Sequence[Run]) -> pd.DataFrame:
    """Partitioned over whole within blocks, from the runs of the cell `CELL`; empty where no environment has both ways.

    Returns:
        A row per environment and endpoint of `COMPARED`: environment, by_block (the ratio of each block), and the
        columns of `mlscale.analysis.inference.compare`; ``low`` and ``high`` are a 95 % t interval over blocks.
    Raises:
        MlscaleError: runs that may not be compared (`mlscale.analysis.design.check_comparable`).
    """
    rows = summarise([run for run in runs if (run.info.cell or "").startswith(f"{CELL}/")], None)
    tables = []
    for name, env_rows in rows.groupby("environment", sort=False) if len(rows) else ():
        by_way = env_rows.assign(environment=env_rows["cell"].str.partition("/")[2], cell=CELL)
        by_way["application"] = by_way["application"].str.partition(" (")[0]  # the ways differ in their components
        if set(by_way["environment"]) == {"whole", "partitioned"}:
            table = compare(by_way, COMPARED, [("partitioned", "whole")], p_values=False)
            chosen = design.chosen(by_way)
            by_block = [
                tuple(np.exp(design.log_ratios(design.by_block(chosen, endpoint.column), "partitioned", "whole")))
                for endpoint in COMPARED
            ]
            tables.append(table.assign(environment=name, by_block=by_block))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def shown_comparison(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of `compared_ways` for display."""
    return table[
        ["environment", "label", "n_blocks", "ratio", "low", "high", "mean_a_s", "mean_b_s", "verdict", "notes"]
    ].rename(columns={"mean_a_s": "partitioned (s)", "mean_b_s": "whole (s)", "ratio": "partitioned / whole"})


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
