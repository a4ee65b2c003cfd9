"""The notebooks' helpers for the twin: simulated runs, and small tables about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats

from mlscale.analysis.boot_time_response import slope_on_boot
from mlscale.notebook.manifest import Simulated
from mlscale.notebook.parameters import EcsParameters, NotebookParameters
from mlscale.notebook.show import remark
from mlscale.progress import Shown
from mlscale.runs import Arm, ClosedLoop, MlscaleError, OpenLoop, Run, load_runs
from mlscale_paper import places
from mlscale_paper.claims import CLOUD
from mlscale_paper.protocol import published_protocol
from mlscale_paper.twin_records import VALIDATION, simulated_from
from mlscale_twin.cloud import Range, read_cloud
from mlscale_twin.host_speed import at_own_speed, fit_speed, light_cpu_s, loaded_cpu_s
from mlscale_twin.likeness import MARGINS, differences, likeness, likeness_figures
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import SimulateOptions, simulate
from mlscale_twin.studies.validation import Comparison, ProfileOf, shipped

# CPU of a replica where environments are compared with ECS: Fargate sells 0.25 vCPU and up, and no 0.3.
CLOUD_CORES: Final = 0.25
# Time after the step in runs that are compared with a cloud, s.
LONG_S: Final = 900.0
FIVE: Final = ("torchserve", "rayserve", "k3s", "eks", "ecs")
# The clouds' variants where all five are shown.
_VARIANTS: Final = {"ecs": "ecs-fargate", "eks": "eks-karpenter"}


def simulated_runs(environment: str, draws: int, *, seed: int = 0, **arguments: Any) -> list[Run]:
    """Simulated runs in memory, one per draw; ``arguments``: of `mlscale.simulate`."""
    runs = []
    with Shown() as progress:
        for draw in range(draws):
            progress(f"simulating {environment}", draw / draws)
            runs.append(simulate(environment, options=SimulateOptions(seed=seed, draw=draw), **arguments))
    return runs


def ecs_runs(p: EcsParameters, schedule: ClosedLoop | OpenLoop, changes: Mapping[str, Any] | None = None) -> list[Run]:
    """The runs named by the parameters, else simulated ones; ``changes``: override the parameters' settings."""
    if p.run_dirs and changes is None:
        return load_runs(p.run_dirs)
    settings = {**cloud_sizes(), **p.scaling, **(changes or {})}
    return simulated_runs("ecs", p.draws, schedule=schedule, arm=p.arm, scaling=settings, seed=p.seed)


def simulate_all_environments(seed: int, draws: int = 8) -> list[Run]:
    """Draws of every environment with replicas of the cloud's size and the long schedule; the clouds' profiles share
    what a user would choose alike."""
    runs = []
    for name in FIVE:
        side = CLOUD.get(_VARIANTS.get(name, ""))
        arguments: dict[str, Any] = {"profile": side.variant, "scaling": side.scaling} if side else {"scaling": {}}
        arguments["scaling"] = {**cloud_sizes(), **arguments["scaling"]}
        runs += simulated_runs(name, draws, schedule=long_schedule(), seed=seed, **arguments)
    return runs


def cloud_sizes() -> dict[str, Any]:
    """Core's number of replicas, each of Fargate's smallest size, which all environments support."""
    return {**published_protocol().sizes, "cpu_cores": CLOUD_CORES}


def long_schedule() -> ClosedLoop:
    """Core's step, followed by 15 minutes, for comparisons with a cloud (METHOD §5). Its clients keep replicas of
    `cloud_sizes` as busy as core's clients keep core's."""
    protocol = published_protocol()
    clients = max(3, round(protocol.step_clients * CLOUD_CORES / protocol.cpu_cores))
    fewer = protocol.model_copy(update={"step_clients": clients})
    core = fewer.closed_schedule(protocol.baseline_s)
    return core.model_copy(update={"duration_s": protocol.baseline_s + LONG_S})


def runs_to_compare(p: NotebookParameters) -> list[Run]:
    """The valid runs that the twin is compared with: those named by the parameters, else the published hold-out. A
    remark says if profiles were fitted to some of them, which are no test."""
    runs = [run for run in load_runs(p.run_dirs) if run.info.valid] if p.run_dirs else published_hold_out()
    fitted = [run for run in runs if run.info.run_id in read_profile(run.info.environment).fitted_to]
    if fitted:
        remark(f"The twin's profiles were fitted to {len(fitted)} of these {len(runs)} runs, which do not test it.")
    return runs


def profile_of(runs: Sequence[Run]) -> ProfileOf:
    """The profiles for the twins of some runs: the shipped ones, at the runs' own speed."""
    known = {run.info.run_id: run for run in [*published_fit(), *runs]}
    return at_own_speed([*known.values()], shipped)


def verdicts_on(comparison: Comparison, draws: int, record: Mapping[str, Any] | None) -> tuple[pd.DataFrame, Simulated]:
    """Rows of `mlscale_twin.likeness.likeness`, and what was simulated for them: the validation on record, else the
    comparison with ``draws`` twins of each run."""
    if record is not None:
        return pd.DataFrame(record["verdicts"]), simulated_from(VALIDATION)
    return likeness(comparison.live, comparison.twin), Simulated("the twins of these runs", draws)


def speed_table(runs: Sequence[Run]) -> pd.DataFrame:
    """By environment: runs, CPU of an answer before and after the step, ms, geometric means; the ratio of the two with
    its 95 % interval over runs; and the standard deviation of the former between runs of a day, as far as it persists
    after the step and as far as it does not."""
    rows = []
    for name in dict.fromkeys(run.info.environment for run in runs):
        own = [run for run in runs if run.info.environment == name]
        light, loaded = (np.log([cpu_s(run) for run in own]) for cpu_s in (light_cpu_s, loaded_cpu_s))
        ratio = loaded - light
        half = float(stats.t.ppf(0.975, len(own) - 1)) * float(stats.sem(ratio))
        low, middle, high = np.exp(ratio.mean() + half * np.array([-1.0, 0.0, 1.0]))
        speed = fit_speed(own, None, {"source": "these runs", "date": "2026-11"})
        rows.append(
            {
                "environment": name,
                "runs": len(own),
                "light (ms)": f"{1000 * np.exp(light.mean()):.1f}",
                "loaded (ms)": f"{1000 * np.exp(loaded.mean()):.1f}",
                "loaded / light": f"{middle:.2f} ({low:.2f} to {high:.2f})",
                "persists": f"{100 * speed.run.value:.1f} %" if speed else "",
                "does not": f"{100 * speed.noise.value:.1f} %" if speed else "",
            }
        )
    return pd.DataFrame(rows)


def differences_by_setup(comparison: Comparison) -> pd.DataFrame:
    """Twin / live, or twin - live where margins are absolute, as a mean over the runs of each setup: shows what cancels
    in an environment's verdict."""
    columns: dict[str, list[float]] = {}
    for setup, live in comparison.live.groupby("setup"):
        gaps = {figure: float(differences(live, comparison.twin, figure).mean()) for figure in MARGINS}
        columns[str(setup)] = [np.exp(gap) if MARGINS[figure].relative else gap for figure, gap in gaps.items()]
    names = [f"{figure} ({'ratio' if margin.relative else 'difference'})" for figure, margin in MARGINS.items()]
    return pd.DataFrame(columns, index=names)


def published(*cells: str) -> list[Run]:
    """The published runs of some cells."""
    folders = [places.reference() / cell for cell in cells]
    present = [folder for folder in folders if folder.is_dir()]
    return load_runs(present) if present else []


def published_fit() -> list[Run]:
    """The valid published runs that profiles are fitted to, or as live as those."""
    return [run for run in published("core", "rehearsal") if run.info.valid]


def published_hold_out() -> list[Run]:
    """The valid hold-out runs, by which the twin is judged.

    Raises:
        MlscaleError: none are published.
    """
    runs = [run for run in published("holdout") if run.info.valid]
    if not runs:
        raise MlscaleError("no hold-out runs are published", str(places.reference()), "measure some: --cells holdout")
    return runs


def likeness_rows(runs: Sequence[Run], level_s: float) -> pd.DataFrame:
    """Environment and `mlscale_twin.likeness.likeness_figures` of each run."""
    return pd.DataFrame([{"environment": run.info.environment, **likeness_figures(run, level_s)} for run in runs])


def response_parts_table(groups: Mapping[str, Sequence[Run]], level_s: float) -> pd.DataFrame:
    """The response's parts in each group of runs, s since the step: mean, and the range of 90 % of runs in brackets."""
    rows = {}
    for name, runs in groups.items():
        table = pd.DataFrame([likeness_figures(run, level_s) for run in runs])
        low, high = table.quantile(0.05), table.quantile(0.95)
        rows[name] = {figure: f"{table[figure].mean():.2f} [{low[figure]:.2f}, {high[figure]:.2f}]" for figure in table}
    return pd.DataFrame(rows).T


def cloud_table(*variants: str) -> pd.DataFrame:
    """Every number and rate of some variants of the clouds (default: all): its range, source, date and note."""
    cloud = read_cloud()
    ranges: dict[str, Range] = {}
    for variant in variants or cloud.variants:
        rates = {f"{variant}.{name}": each for name, each in cloud.rates_of(variant).items()}
        ranges |= cloud.numbers_of(variant) | rates
    return (
        pd.DataFrame({name: each.model_dump() for name, each in ranges.items()})
        .T[["low", "typical", "high", "source", "date", "note"]]
        .rename_axis("number")
    )


def claim_table(record: Mapping[str, Any], arm: Arm) -> pd.DataFrame:
    """Each comparison of a record (`mlscale_paper.claims.judge_all`): ratio, 90 % of draws and verdict over 900 s; the
    verdict if the twin had no error, and with half and twice a borrowed one; and ratio and verdict over 120 s."""
    table = pd.DataFrame(record["arms"][arm]["rows"])
    borrowed = ["borrowed" if error["borrowed"] else "measured" for error in table["error"]]
    names = {
        "ratio": "ratio", "low": "low", "high": "high", "verdict": "verdict",
        "exact_verdict": "if the twin had no error",
        "half_verdict": "error halved", "double_verdict": "error doubled", "early_ratio": "after 120 s",
        "early_verdict": "verdict then", "early_recovered": "both recovered by then",
    }  # fmt: skip
    columns = ["claim", "what", "figure", *names]
    return table[columns].rename(columns=names).assign(**{"the twin's error": borrowed})


def matters_table(record: Mapping[str, Any], arm: Arm) -> pd.DataFrame:
    """For each comparison the three uncertain numbers that matter most: first-order Sobol index, and in which share of
    draws the paper is right while the number lies in the lowest or highest quarter of its range."""
    rows = [
        {name: row[name] for name in ("claim", "what", "figure")} | number
        for row in record["arms"][arm]["rows"]
        for number in row["matters"]
    ]
    return pd.DataFrame(rows).round(2)


def live_evidence(effects: pd.DataFrame, boots: pd.DataFrame) -> dict[str, str]:
    """By claim, what live runs say of it: of F2 the rehearsal's slope, of F4 the measured P1 of K3s and TorchServe.

    Args:
        effects: of `mlscale.compare`. boots: of `mlscale.analysis.boot_time_rows` over the rehearsal; may be empty.
    """
    said = {}
    slope = slope_on_boot(boots)
    if slope is not None:
        interval = f"{slope.low:.2f} to {slope.high:.2f}{slope.left_out}"
        said["F2"] = f"rehearsed live: {slope.slope:.2f} s later per s of boot ({interval})"
    for row in effects.to_dict("records"):
        if {row["a"], row["b"]} == {"k3s", "torchserve"} and row["endpoint"] == "P1" and np.isfinite(row["ratio"]):
            said["F4"] = f"measured live: {row['pair']} {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
    return said
