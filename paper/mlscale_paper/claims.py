"""The paper's claims F1 to F4 by the twin, on equal ground and under joint uncertainty (METHOD §8).

A draw gives one value to everything uncertain in the twin: the clients, a run's random events, and every number of the
clouds' profiles within its range. Both sides of a comparison share the draw. The twin's error is that of the comparison
(`mlscale_paper.contrasts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import qmc

from mlscale.analysis.durations import durations, intended_between
from mlscale.analysis.response import recovery
from mlscale.runs import Arm, ClosedLoop, OpenLoop, Run
from mlscale_paper.contrasts import (
    FIGURES,
    MIN_RECOVERED,
    REHEARSAL,
    Error,
    Figure,
    borrowed,
    contrasts,
    measured,
    rehearsed_contrasts,
    used,
)
from mlscale_twin.cloud import cloud_profile, read_cloud
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import SimulateOptions, simulate
from mlscale_twin.worker_processes import worker_processes

Floats = npt.NDArray[np.float64]
Verdict = Literal["implied", "undecided", "contradicted"]
ARMS: Final[tuple[Arm, ...]] = ("matched", "shipped")
# Time after the step over which figures are taken, s. The first decides; it was fixed before the data (METHOD §5, L).
HORIZONS_S: Final = (900.0, 120.0)
# Share of draws on one side from which on a claim is implied, or contradicted.
DECISIVE_SHARE: Final = 0.95
# Equal parts of a number's range, for its Sobol index.
PARTS: Final = 8
# Factors on a borrowed error, by prefix of a row's values: over the deciding horizon, over the other, and over the
# first as if the twin had no error, half as much, and twice as much.
PREFIXES: Final[Mapping[str, float]] = {"": 1.0, "early_": 1.0, "exact_": 0.0, "half_": 0.5, "double_": 2.0}
_CHUNK: Final = 16


@dataclass(frozen=True)
class Side:
    """One side of a comparison. ``variant``: of a cloud, "" for a local framework; ``scaling``: its own settings."""

    name: str
    environment: str
    variant: str = ""
    scaling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Part of a claim: that ``better`` has the smaller ``figure``."""

    claim: str
    what: str
    better: Side
    worse: Side
    figure: Figure


# A machine has room for one replica, on both clouds. EKS scales on CPU, since ECS can on nothing else so often.
_CPU: Final = {"metric": "cpu"}
CLOUD: Final[Mapping[str, Side]] = {
    variant: Side(name, variant.partition("-")[0], variant, scaling)
    for variant, name, scaling in (
        ("ecs-fargate", "ECS on Fargate", {}),
        ("ecs-ec2", "ECS on EC2", {"launch": "ec2", "instance_cores": 0.3, "instance_memory_mib": 1024}),
        ("eks-fargate", "EKS on Fargate", _CPU),
        ("eks-karpenter", "EKS with Karpenter", _CPU),
        ("eks-node-group", "EKS with a node group", _CPU),
    )
}
LOCAL: Final = (Side("TorchServe", "torchserve"), Side("K3s", "k3s"))
# What is compared for F3: the same kind of machine on both sides.
_ALIKE: Final = (("ecs-fargate", "eks-fargate"), ("ecs-ec2", "eks-karpenter"), ("ecs-ec2", "eks-node-group"))


def paper_claims(max_replicas: int) -> list[Comparison]:
    """F1: local frameworks are faster and steadier than any cloud. F2: starting machines delays, compared with machines
    that run already. F3: ECS is better than EKS. F4: the paper's strategy, application level locally and ECS in the
    cloud; its second half is F3 (`verdicts`)."""
    spare = {"ecs": {"min_instances": max_replicas}, "eks": {"buffer_replicas": max_replicas - 1}}
    steady: tuple[Figure, ...] = ("mean", "spread")
    parts = [
        Comparison("F1", f"{local.name} and {cloud.name}", local, cloud, figure)
        for local in LOCAL
        for cloud in CLOUD.values()
        for figure in steady
    ]
    delayed: tuple[Figure, ...] = ("mean", "recovery")
    for side in (CLOUD[variant] for variant in ("ecs-ec2", "eks-karpenter", "eks-node-group")):
        running = {**side.scaling, **spare[side.environment]}
        ready = Side(f"{side.name}, machines running", side.environment, side.variant, running)
        parts += [Comparison("F2", side.name, ready, side, figure) for figure in delayed]
    for ecs, eks in ((CLOUD[ecs], CLOUD[eks]) for ecs, eks in _ALIKE):
        parts += [Comparison("F3", f"{ecs.name} and {eks.name}", ecs, eks, figure) for figure in steady]
    return parts + [Comparison("F4", "locally: TorchServe and K3s", *LOCAL, figure) for figure in steady]


def hypercube(sides: int, draws: int, seed: int = 0) -> pd.DataFrame:
    """A Latin hypercube: a row per draw, and for each uncertain number where in its range it lies, 0 to 1."""
    cloud = read_cloud()
    names = list(dict.fromkeys(name for variant in CLOUD for name in cloud.numbers_of(variant)))
    # A dimension more for each side changes nothing but which draws these are: those of the record.
    places = qmc.LatinHypercube(len(names) + sides, rng=seed).random(draws)
    return pd.DataFrame(places[:, : len(names)], columns=names)


def error_of(part: Comparison, rows: pd.DataFrame) -> Error:
    """The twin's error in a comparison: its own where live runs show it, else borrowed from others of its kind: one
    platform with and without running machines (F2, from the rehearsal), or two platforms.

    Args:
        rows: of `mlscale_paper.contrast_runs`.
    """
    rows, figure = used(rows), part.figure
    rehearsed = rows[rows["setting"] == REHEARSAL]
    if part.claim == "F2" and part.worse.variant == "eks-karpenter":
        return measured(rehearsed_contrasts(rehearsed), figure, "rehearsed machines, which the profile was fitted to")
    if part.claim == "F2":
        return borrowed(rehearsed, figure, "the rehearsal of EKS")
    frameworks = rows[(rows["setting"] != REHEARSAL) & ~rows["fitted"].astype(bool)]
    if not part.better.variant and not part.worse.variant:
        own = contrasts(frameworks, part.better.environment, part.worse.environment)
        return measured(own, figure, "hold-out and shipped runs, which no profile was fitted to")
    return borrowed(frameworks, figure, "TorchServe, Ray Serve and K3s in the hold-out and in shipped")


def log_ratios(part: Comparison, twins: Mapping[str, Floats]) -> Floats:
    """log(worse / better) by draw, as the twin has it: positive if the paper is right. ``twins``: the figure by side's
    name."""
    worse, better = (np.log(np.maximum(twins[side.name], 1e-3)) for side in (part.worse, part.better))
    return np.asarray(worse - better, dtype=float)


def verdict_of(right: float, wrong: float) -> Verdict:
    """By the shares of draws on either side; a tie, or an unknown ratio, is on neither."""
    if right >= DECISIVE_SHARE:
        return "implied"
    return "contradicted" if wrong >= DECISIVE_SHARE else "undecided"


def all_of(verdicts: Sequence[str]) -> Verdict:
    """Verdict on a conjunction: it needs each of its parts."""
    order: tuple[Verdict, ...] = ("contradicted", "undecided", "implied")
    return next(word for word in order if word in verdicts)


def matters(shares: pd.DataFrame, ratios: Floats) -> pd.DataFrame:
    """How much each uncertain number matters, most first: ``number``; ``index``, its first-order Sobol index (the share
    of the variance of ``ratios`` between `PARTS` parts of the number's range, less what chance alone would give); and
    the share of draws in which the paper is right while it lies in the lowest and highest quarter of its range."""
    total = float(np.sum((ratios - ratios.mean()) ** 2)) or 1.0
    rows = []
    for name in shares:
        place = shares[name].to_numpy()
        groups = pd.Series(ratios).groupby((place * PARTS).astype(int))
        within = float(groups.apply(lambda group: ((group - group.mean()) ** 2).sum()).sum())
        by_chance = (groups.ngroups - 1) * within / max(1, len(ratios) - groups.ngroups)
        index = max(0.0, (total - within - by_chance) / total)
        low, high = (float(np.mean(ratios[inside] > 0)) for inside in (place < 0.25, place >= 0.75))
        rows.append({"number": name, "index": index, "right_if_low": low, "right_if_high": high})
    columns = ["number", "index", "right_if_low", "right_if_high"]
    return pd.DataFrame(rows, columns=columns).sort_values("index", ascending=False, ignore_index=True)


def figures_of(run: Run, level_s: float) -> list[list[float]]:
    """`FIGURES` by `HORIZONS_S`, s: mean and standard deviation of requests intended after the step, and T_slo + W."""
    step_s = run.info.step_s or 0.0
    taken = durations(run.requests, timeout_s=run.info.timeout_s)
    inside = [intended_between(taken, step_s, step_s + horizon_s)["response_s"] for horizon_s in HORIZONS_S]
    confirmed = [recovery(run, level_s, horizon_s=each).confirmed_s for each in HORIZONS_S]
    return [[float(each.mean()) for each in inside], [float(each.std(ddof=0)) for each in inside], confirmed]


def simulate_side(
    side: Side, arm: Arm, scaling: Mapping[str, Any], schedule: ClosedLoop | OpenLoop, level_s: float,
    shares: pd.DataFrame,
) -> Floats:  # fmt: skip
    """(draws, `FIGURES`, `HORIZONS_S`): a run per row of ``shares``; the row's index seeds clients and whatever else is
    random."""
    figures = []
    for draw, row in shares.iterrows():
        if side.variant:
            profile = cloud_profile(side.variant, row.to_dict(), own_metrics=arm == "shipped")
        else:
            profile = read_profile(side.environment)
        options = SimulateOptions(seed=int(draw), draw=int(draw))  # type: ignore[call-overload]
        run = simulate(
            side.environment, schedule=schedule, scaling={**scaling, **side.scaling}, arm=arm, profile=profile,
            options=options,
        )  # fmt: skip
        figures.append(figures_of(run, level_s))
    return np.array(figures)


def ratio_rows(parts: Sequence[Comparison], twins: Mapping[str, Floats], shares: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per comparison, as the twin has it: ``draws``, its log ratio by draw over the deciding horizon, and
    ``early_draws``, over the other; ``recovered`` and ``early_recovered``, the share of draws in which both sides
    recover within the horizon; and the three numbers that matter most. ``twins``: by side's name, of
    `simulate_side`."""
    at_recovery = FIGURES.index("recovery")
    rows = []
    for part in parts:
        row: dict[str, Any] = {"claim": part.claim, "what": part.what, "figure": part.figure}
        at = FIGURES.index(part.figure)
        for place, (prefix, horizon_s) in enumerate(zip(("", "early_"), HORIZONS_S, strict=True)):
            ratios = log_ratios(part, {name: each[:, at, place] for name, each in twins.items()})
            sides = [twins[side.name][:, at_recovery, place] < horizon_s for side in (part.better, part.worse)]
            row[f"{prefix}recovered"] = float(np.mean(sides[0] & sides[1]))
            row[f"{prefix}draws"] = np.round(ratios, 4).tolist()
        used_names = [name for name in shares if _concerns(name, part)]
        row["matters"] = matters(shares[used_names], np.array(row["draws"])).head(3).to_dict("records")
        rows.append(row)
    return rows


def judge(rows: Sequence[Mapping[str, Any]], errors: Sequence[Error]) -> list[dict[str, Any]]:
    """`ratio_rows` with the twin's error in each: for each of `PREFIXES` ``ratio``, ``low``, ``high`` (median and 90 %
    of draws and errors), ``right``, the share in which the paper is right, and ``verdict``; and the ``error``."""
    judged = []
    for row, error in zip(rows, errors, strict=True):
        values: dict[str, Any] = {}
        for prefix, factor in PREFIXES.items():
            horizon = prefix if prefix == "early_" else ""
            ratios = np.array(row[f"{horizon}draws"])
            if factor:
                scaled = error.scaled(factor)
                low, middle, high = np.exp(scaled.quantiles(ratios, [0.05, 0.5, 0.95])).tolist()
                right = scaled.share_right(ratios)
                wrong = 1.0 - right
            else:
                low, middle, high = np.exp(np.quantile(ratios, [0.05, 0.5, 0.95])).tolist()
                right, wrong = float(np.mean(ratios > 0)), float(np.mean(ratios < 0))
            holds = row[f"{horizon}recovered"] > MIN_RECOVERED
            values |= {f"{prefix}ratio": middle, f"{prefix}low": low, f"{prefix}high": high, f"{prefix}right": right}
            values[f"{prefix}verdict"] = verdict_of(right, wrong) if holds else "undecided"
        judged.append({**row, **values, "error": asdict(error)})
    return judged


def deciding(rows: Sequence[Mapping[str, Any]], claim: str, prefix: str = "") -> Mapping[str, Any]:
    """The comparison by which a claim has its verdict: the one in which the paper is right least often; of an undecided
    claim, one that nothing can be concluded from comes first. F4 rests on F3, too."""
    own = [row for row in rows if row["claim"] in {claim, *(["F3"] if claim == "F4" else [])}]
    word = verdicts(rows, prefix)[claim]
    decided = [row for row in own if row[f"{prefix}verdict"] == word]
    return min(decided, key=lambda row: row[f"{prefix}right"])


def _concerns(number: str, part: Comparison) -> bool:
    """Whether one of the sides has the number."""
    variants = {side.variant for side in (part.better, part.worse)} - {""}
    variant, dot, _ = number.partition(".")
    return variant in variants if dot else bool(variants)


def verdicts(rows: Sequence[Mapping[str, Any]], prefix: str = "") -> dict[str, Verdict]:
    """One verdict per claim, from `judge`'s rows. F4 needs its own comparison and F3."""
    by_claim: dict[str, list[str]] = {}
    for row in rows:
        by_claim.setdefault(row["claim"], []).append(row[f"{prefix}verdict"])
    if "F4" in by_claim:
        by_claim["F4"] += by_claim.get("F3", ["undecided"])
    return {claim: all_of(words) for claim, words in by_claim.items()}


def judge_all(
    schedule: ClosedLoop | OpenLoop,
    level_s: float,
    *,
    draws: int,
    scaling: Mapping[str, Any],
    live: Sequence[Mapping[str, Any]],
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """The record, as data: each comparison and the claims' verdicts, under both arms.

    Args:
        scaling: for all sides. live: the twin's errors, of `mlscale_paper.contrast_runs.contrast_record`.
    """
    parts = paper_claims(scaling["max_replicas"])
    sides = list({side.name: side for part in parts for side in (part.better, part.worse)}.values())
    shares = hypercube(len(sides), draws)
    chunks = [shares.iloc[first : first + _CHUNK] for first in range(0, draws, _CHUNK)]
    jobs = [(side, arm, scaling, schedule, level_s, chunk) for arm in ARMS for side in sides for chunk in chunks]
    done: dict[tuple[Arm, str], list[Floats]] = {}
    with worker_processes() as pool:
        for number, figures in enumerate(pool.map(simulate_side, *zip(*jobs, strict=True))):
            side, arm, *_ = jobs[number]
            done.setdefault((arm, side.name), []).append(figures)
            if progress is not None:
                progress("simulating the claims", (number + 1) / len(jobs))
    arms = {
        arm: ratio_rows(parts, {side.name: np.concatenate(done[arm, side.name]) for side in sides}, shares)
        for arm in ARMS
    }
    facts = {"draws": draws, "level_s": level_s, "horizons_s": list(HORIZONS_S)}
    return {**facts, "schedule": schedule.model_dump(mode="json"), "arms": judge_arms(arms, parts, live)}


def judge_arms(
    arms: Mapping[Arm, Sequence[Mapping[str, Any]]], parts: Sequence[Comparison], live: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """By arm, `judge`'s rows and the claims' verdicts: needs no simulation. ``arms``: `ratio_rows` by arm."""
    errors = [error_of(part, pd.DataFrame(live)) for part in parts]
    judged = {arm: judge(rows, errors) for arm, rows in arms.items()}
    return {
        arm: {f"{prefix}verdicts": verdicts(rows, prefix) for prefix in PREFIXES} | {"rows": rows}
        for arm, rows in judged.items()
    }
