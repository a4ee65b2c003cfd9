"""The paper's claims F1 to F4 by the twin, on equal ground and under joint uncertainty (METHOD §8).

A draw gives one value to everything uncertain: the clients, a run's random events, every number of the clouds' profiles
within its range, and the twin's error. Both sides of a comparison share the draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import qmc

from mlscale.analysis.durations import durations, intended_between
from mlscale.analysis.response import recovery
from mlscale.runs import Arm, ClosedLoop, OpenLoop, Run
from mlscale_twin.cloud import cloud_profile, read_cloud
from mlscale_twin.profile import profile_names
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import SimulateOptions, simulate
from mlscale_twin.worker_processes import worker_processes

Floats = npt.NDArray[np.float64]
Verdict = Literal["implied", "undecided", "contradicted"]
Figure = Literal["mean", "spread", "recovery"]
FIGURES: Final[tuple[Figure, ...]] = ("mean", "spread", "recovery")
ARMS: Final[tuple[Arm, ...]] = ("matched", "shipped")
# Time after the step over which figures are taken, s. The first decides; it was fixed before the data (METHOD §5, L).
HORIZONS_S: Final = (900.0, 120.0)
# Share of draws on one side from which on a claim is implied, or contradicted.
DECISIVE_SHARE: Final = 0.95
# Equal parts of a number's range, for its Sobol index.
PARTS: Final = 8
# Of a row's values: over the deciding horizon, over the other, and over the first as if the twin had no error.
PREFIXES: Final = ("", "early_", "exact_")
_CHUNK: Final = 16
_ERROR: Final = "the twin's error"
# The figures that the twin's error was measured for (`mlscale_twin.profile.Compared`).
_COMPARED: Final[Mapping[str, str]] = {"mean": "mean_response_s", "spread": "sd_response_s"}


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


def hypercube(sides: Sequence[Side], draws: int, seed: int = 0) -> pd.DataFrame:
    """A Latin hypercube: a row per draw, and for each uncertain number where in its range it lies, 0 to 1."""
    cloud = read_cloud()
    numbers = [name for variant in CLOUD for name in cloud.numbers_of(variant)]
    names = list(dict.fromkeys([*numbers, *(_error_of(side) for side in sides)]))
    return pd.DataFrame(qmc.LatinHypercube(len(names), rng=seed).random(draws), columns=names)


def _error_of(side: Side) -> str:
    return f"{_ERROR}, {side.name}"


def twin_error(side: Side, figure: Figure) -> tuple[float, float]:
    """Twin / live, lowest and highest: of a cloud, which was never compared, the widest of all environments; of a
    figure that was not compared, the widest of all figures."""
    compared = {name: read_profile(name).compared for name in profile_names()}
    own = None if side.variant else compared.get(side.environment)
    known = [own] if own is not None else [each for each in compared.values() if each is not None]
    names = [_COMPARED[figure]] if figure in _COMPARED else list(known[0].ratios)
    ratios = [each.ratios[name] for each in known for name in names]
    return min(low for low, _ in ratios), max(high for _, high in ratios)


def log_ratios(part: Comparison, twins: Mapping[str, Floats]) -> Floats:
    """log(worse / better) by draw, as the twin has it: positive if the paper is right. ``twins``: the figure by side's
    name."""
    worse, better = (np.log(np.maximum(twins[side.name], 1e-3)) for side in (part.worse, part.better))
    return np.asarray(worse - better, dtype=float)


def log_errors(part: Comparison, shares: pd.DataFrame) -> Floats:
    """log(twin / live) of the same ratio, by draw: each side's error is drawn evenly between its logarithms."""
    errors = []
    for side in (part.worse, part.better):
        low, high = np.log(twin_error(side, part.figure))
        errors.append(low + shares[_error_of(side)].to_numpy() * (high - low))
    return np.asarray(errors[0] - errors[1], dtype=float)


def verdict_of(ratios: Floats) -> Verdict:
    """By the shares of positive and negative log ratios; a tie, or an unknown ratio, is on neither side."""
    if np.mean(ratios > 0) >= DECISIVE_SHARE:
        return "implied"
    return "contradicted" if np.mean(ratios < 0) >= DECISIVE_SHARE else "undecided"


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
    return pd.DataFrame(rows).sort_values("index", ascending=False, ignore_index=True)


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


def judge(parts: Sequence[Comparison], twins: Mapping[str, Floats], shares: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per comparison: ``ratio``, ``low``, ``high`` (median and 90 % of draws) and ``verdict`` over the deciding
    horizon; the same as ``early_...`` over the other, and as ``exact_...`` if the twin had no error; and the three
    numbers that matter most. ``twins``: by side's name, of `simulate_side`."""
    rows = []
    for part in parts:
        used = [name for name in shares if _concerns(name, part)]
        row: dict[str, Any] = {"claim": part.claim, "what": part.what, "figure": part.figure}
        at = FIGURES.index(part.figure)
        late, early = (
            log_ratios(part, {name: each[:, at, place] for name, each in twins.items()})
            for place in range(len(HORIZONS_S))
        )
        errors = log_errors(part, shares)
        for prefix, ratios in (("", late - errors), ("early_", early - errors), ("exact_", late)):
            low, middle, high = np.exp(np.quantile(ratios, [0.05, 0.5, 0.95])).tolist()
            row |= {f"{prefix}ratio": middle, f"{prefix}low": low, f"{prefix}high": high}
            row |= {f"{prefix}verdict": verdict_of(ratios)}
        row["matters"] = matters(shares[used], late - errors).head(3).to_dict("records")
        rows.append(row)
    return rows


def _concerns(number: str, part: Comparison) -> bool:
    """Whether one of the sides has the number."""
    sides = (part.better, part.worse)
    variants = {side.variant for side in sides} - {""}
    if number.startswith(_ERROR):
        return number in {_error_of(side) for side in sides}
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
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """The record, as data: each comparison and the claims' verdicts, under both arms. ``scaling``: for all sides."""
    parts = paper_claims(scaling["max_replicas"])
    sides = list({side.name: side for part in parts for side in (part.better, part.worse)}.values())
    shares = hypercube(sides, draws)
    chunks = [shares.iloc[first : first + _CHUNK] for first in range(0, draws, _CHUNK)]
    jobs = [(side, arm, scaling, schedule, level_s, chunk) for arm in ARMS for side in sides for chunk in chunks]
    done: dict[tuple[Arm, str], list[Floats]] = {}
    with worker_processes() as pool:
        for number, figures in enumerate(pool.map(simulate_side, *zip(*jobs, strict=True))):
            side, arm, *_ = jobs[number]
            done.setdefault((arm, side.name), []).append(figures)
            if progress is not None:
                progress("simulating the claims", (number + 1) / len(jobs))
    arms = {}
    for arm in ARMS:
        rows = judge(parts, {side.name: np.concatenate(done[arm, side.name]) for side in sides}, shares)
        arms[arm] = {f"{prefix}verdicts": verdicts(rows, prefix) for prefix in PREFIXES} | {"rows": rows}
    facts = {"draws": draws, "level_s": level_s, "horizons_s": list(HORIZONS_S)}
    return {**facts, "schedule": schedule.model_dump(mode="json"), "arms": arms}
