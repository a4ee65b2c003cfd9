"""The advice: what to run locally and in the cloud, its cost, how certain that is, and what would change it."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from mlscale.cost import read_prices
from mlscale.errors import MlscaleError
from mlscale.measurement.measure import Progress, no_progress
from mlscale.runs import ClosedLoop, OpenLoop
from mlscale_twin.durations import scale_duration
from mlscale_twin.profile import Profile
from mlscale_twin.profile_files import read_profile, read_profiles, write_profile
from mlscale_twin.strategy.demand import demand_of
from mlscale_twin.strategy.in_use import read_in_use
from mlscale_twin.strategy.minimums import DAY_PARTS, PART_S, start_s
from mlscale_twin.strategy.objective import Figures, Objective, pareto_front
from mlscale_twin.strategy.oracle import oracle_replicas
from mlscale_twin.strategy.paste import settings_files
from mlscale_twin.strategy.search import Candidate, in_windows, over_all, preferred, rank, repeated, search
from mlscale_twin.strategy.strategies import MOST_REPLICAS, Place, Strategy, strategies
from mlscale_twin.strategy.today import Today, beside
from mlscale_twin.strategy.trial import Question, alone
from mlscale_twin.studies.executors import executor

_STAGES: Final = {"whole trace": 0, "windows": 1, "bound": 2}
# EKS on AWS, with the load balancer, image pull and metrics that ECS has, and not the rehearsal on a machine here.
_PROFILES: Final = {"eks": "eks-karpenter"}
# Each place, in words.
PLACES: Final[Mapping[Place, str]] = {
    "local-shared": "local, on machines shared with other work",
    "local-dedicated": "local, on machines for this alone",
    "cloud": "cloud",
}
# A verdict is also tried with bursts so many times as large as assumed.
BURST: Final = 4
# A trace says too little if it is shorter than so many starts of a replica, or has fewer requests: of these, five may
# be slow under a 95th percentile.
_STARTS_LEAST: Final = 3
_REQUESTS_LEAST: Final = 100
_HERE: Final = Path()


@dataclass(frozen=True)
class Advised:
    """The strategy for one place.

    Args:
        margin: by how much the objective is missed, relative to it (below 0: it is met): the 95 % interval over seeds.
        margin_at_error: the same on average, if the live system is as much slower than the twin as the slowest run that
            the profile was compared with; None: never compared.
        one_less: the same with one replica less at most; None: it has one.
        margin_in_bursts: the same if requests come in bursts of ``burst``; None: it is known when each came.
        what_if: what changes -> figures then; "as assumed" is the figures of the same, approximate kind.
        oracle_replicas: replicas on average that an oracle would need in the same environment for the first percentile;
            None: none is asked for.
        hindsight: its minimum was derived from the same traffic that it was tried on.
        too_short: why the trace shows too little; empty: it does not.
        impossible: what no setting could meet, and the least that is possible; empty: nothing.
        warnings: of what will change.
    """

    candidate: Candidate
    margin: tuple[float, float]
    margin_at_error: float | None
    what_if: Mapping[str, Figures]
    oracle_replicas: float | None
    one_less: Candidate | None = None
    margin_in_bursts: float | None = None
    hindsight: bool = False
    too_short: str = ""
    impossible: str = ""
    warnings: Sequence[str] = ()
    burst: int = BURST

    @property
    def verdict(self) -> str:
        """Of the objective, in a few words."""
        low, high = self.margin
        if self.too_short:
            return f"too short to tell: {self.too_short}"
        if low > 0:
            missed = f"cannot be met; the closest misses it by {100 * fmean(self.margin):.0f} %"
            return f"{missed}; {self.impossible}" if self.impossible else missed
        if high > 0:
            return f"too close to call: between {-100 * low:.0f} % within it and {100 * high:.0f} % beyond, by the seed"
        met = "met, if the traffic repeats" if self.hindsight else "met"
        broken = ["at the twin's largest known error"] if (self.margin_at_error or 0.0) > 0 else []
        broken += [f"if requests come in bursts of {self.burst}"] if (self.margin_in_bursts or 0.0) > 0 else []
        if broken:
            met += f", but not {' or '.join(broken)}"
        if self.margin_at_error is None:
            return f"{met}; the twin was never compared with live runs"
        return met if broken else f"{met}, also at the twin's largest known error"

    @property
    def oracle(self) -> str:
        """Its replicas, in words."""
        return "-" if self.oracle_replicas is None else f"{self.oracle_replicas:.2f}"


@dataclass(frozen=True)
class Advice:
    """``advised``: by place; ``candidates``: all that were tried, in each of their places; ``left_out``: environments
    in which nothing could be tried, and why; ``today``: by place, the setting that is in use, if it was given."""

    question: Question
    advised: Mapping[Place, Advised]
    candidates: Sequence[Candidate]
    left_out: Mapping[str, str] = field(default_factory=dict)
    today: Mapping[Place, Today] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        """Settings, each of which is a candidate in one place or two."""
        return len({id(candidate.strategy) for candidate in self.candidates})


class SearchSettings(BaseModel):
    """Keys of ``mlscale advise --set``: what is searched, and at which prices."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    settings: int = Field(default=1200, ge=10, description="about how many are tried")
    cpu_cores: float = Field(default=0.3, gt=0, description="of a replica")
    memory_mib: int | None = Field(default=None, ge=16, description="of a replica; None: the environment's default")
    most_replicas: int = Field(default=MOST_REPLICAS, ge=1, le=MOST_REPLICAS, description="that there is room for")
    region: str = Field(default="us-east-1", description="of AWS, for prices")
    prices: Path | None = Field(default=None, description="file of `mlscale prices --out`; None: the shipped one")
    burst: int = Field(
        default=1, ge=1, le=1000, description="index of dispersion where only rates are known; 1: Poisson arrivals"
    )
    ray: str | None = Field(default=None, description="address of a Ray cluster; None: processes of this machine")
    seed: int = Field(default=0, ge=0, description="of arrivals and of the settings tried")


class AdviseOptions(SearchSettings):
    """What is searched, from which environments, and with which profiles.

    Attributes:
        environments: to choose from.
        profiles: files that replace the environments' own profiles (`mlscale calibrate`).
        today: the setting that is in use (`mlscale_twin.strategy.in_use.read_in_use`).
        progress: called with what happens and the share done.
    """

    environments: Sequence[str] = ("torchserve", "rayserve", "k3s", "keda", "eks", "ecs")
    profiles: Sequence[Path] = ()
    today: Sequence[str] = ()
    progress: Progress = no_progress


def advise(schedule: OpenLoop | ClosedLoop, objective: Objective, options: AdviseOptions | None = None) -> Advice:
    """Recommends a strategy for local and for cloud. Simulated.

    Raises:
        MlscaleError: something the user can fix.
    """
    chosen = options or AdviseOptions()
    if not chosen.environments:
        raise MlscaleError("no environment is named", "--environments", "name at least one, such as k3s")
    demand = demand_of(schedule, chosen.progress)
    if chosen.burst > 1 and not demand.is_assumed:
        raise MlscaleError("it is known when each request comes", "--set burst=", "leave it out, or give rates")
    demand = replace(demand, burst=chosen.burst)
    names = tuple(dict.fromkeys(chosen.environments))
    sizes = {"cpu_cores": chosen.cpu_cores}
    if chosen.memory_mib is not None:
        sizes["memory_mib"] = chosen.memory_mib
    in_use, notes = read_in_use(chosen.today, demand, sizes) if chosen.today else (None, ())
    given = read_profiles(chosen.profiles, names)
    profiles = {
        name: given[name] if name in given else read_profile(_PROFILES.get(name, name), given.get("k3s"))
        for name in dict.fromkeys((*names, *([in_use.environment] if in_use else [])))
    }
    _check_same_application(profiles, given)
    prices = read_prices(chosen.region, chosen.prices)
    question = Question(demand, objective, profiles, prices, seed=chosen.seed, progress=chosen.progress)
    tried: list[Strategy] = []
    unfit: dict[str, MlscaleError] = {}
    for name in names:
        try:
            share = chosen.settings // len(names)
            most = chosen.most_replicas
            tried += strategies([name], profiles, demand, share, sizes=sizes, most_replicas=most, seed=chosen.seed)
        except MlscaleError as error:
            unfit[name] = error
    if "k3s" in names:  # awake, KEDA's HPA decides as k3s's
        tried = [
            each for each in tried if each.environment != "keda" or each.is_constant or each.sleeps_after_s < math.inf
        ]
    if not tried:
        raise next(iter(unfit.values()))
    used = [Candidate.of(in_use, place) for place in in_use.places] if in_use else []
    if used and not {each.place for each in used} & {place for each in tried for place in each.places}:
        where = f"what is in use runs in {PLACES[used[0].place]}, and nothing that is tried does"
        raise MlscaleError(where, "--today", f"add {used[0].strategy.environment} to --environments")
    with executor(chosen.ray) as pool:
        today = [repeated(question, over_all(question, [each], pool), pool)[0] for each in used]
        candidates = search(question, tried, pool)
        advised: dict[Place, Advised] = {}
        for place in PLACES:
            mine = [candidate for candidate in candidates if candidate.place == place]
            if mine:
                advised[place] = _advised(question, mine, pool)
    compared = {
        each.place: beside(objective, each, advised[each.place].candidate, advised[each.place].too_short, notes)
        for each in today
        if each.place in advised
    }
    return Advice(question, advised, candidates, {name: str(error) for name, error in unfit.items()}, compared)


def _check_same_application(profiles: Mapping[str, Profile], given: Mapping[str, Profile]) -> None:
    """Raise MlscaleError where the profiles that were ``given`` are of another application than the rest, so that a
    comparison means nothing."""
    names: dict[str, list[str]] = {}
    for name, profile in profiles.items():
        names.setdefault(profile.application, []).append(name)
    names.pop("", None)
    if len(names) > 1:
        what = "; ".join(f"{', '.join(each)}: {application}" for application, each in names.items())
        own_names = {profile.application for profile in given.values()}
        own = " ".join(name for name, profile in profiles.items() if profile.application in own_names)
        remedy = f'calibrate the others with it, or leave them out: --environments "{own}"'
        raise MlscaleError(f"the profiles are of different applications ({what})", "--profile", remedy)


def _advised(question: Question, candidates: Sequence[Candidate], pool: Executor) -> Advised:
    objective, best = question.objective, preferred(question.objective, candidates)[0]
    figures, strategy = best.figures, best.strategy
    margin = objective.interval(best.runs)
    less = strategy.one_less()
    burst = BURST * question.demand.burst
    bursty = replace(question, demand=replace(question.demand, burst=burst), progress=no_progress)
    return Advised(
        best,
        margin,
        None if figures.at_error is None else objective.margin(figures.at_error),
        {what: in_windows(other, best, pool) for what, other in _changed(question).items()},
        oracle_replicas(question, strategy, pool) if objective.percentiles else None,
        repeated(question, over_all(question, [Candidate.of(less, best.place)], pool), pool)[0] if less else None,
        objective.margin(over_all(bursty, [best], pool)[0].figures) if question.demand.is_assumed else None,
        strategy.policy == "scheduled" and question.demand.duration_s < 2 * DAY_PARTS * PART_S,
        _too_short(question, strategy),
        _impossible(question, candidates) if margin[0] > 0 else "",
        (*_growth(question, strategy), *_wake_up(question, strategy)),
        burst,
    )


def _too_short(question: Question, strategy: Strategy) -> str:
    demand, one_s = question.demand, start_s(question.profiles[strategy.environment], strategy.scaling)
    if demand.requests < _REQUESTS_LEAST:
        return f"{demand.requests} request{'s' * (demand.requests != 1)}"
    if demand.duration_s < _STARTS_LEAST * one_s:
        return f"{demand.duration_s:.0f} s of traffic, and a replica takes {one_s:.0f} s to start"
    return ""


def _impossible(question: Question, candidates: Sequence[Candidate]) -> str:
    objective = question.objective
    one_of_each = {each.strategy.environment: each.strategy for each in candidates}
    each = [alone(question, strategy) for strategy in one_of_each.values()]
    texts = []
    percentiles = {f"--p{percent}": limit_s for percent, limit_s in objective.percentiles.items()}
    for option, asked_s in {**percentiles, "--mean": objective.mean_s, "--sigma": objective.sigma_s}.items():
        least_s = min(times[option] for times in each)
        if asked_s is not None and asked_s < least_s:
            texts.append(f"{option} of requests that never wait is {least_s:.3g} s")
    return ", ".join(texts)


def _growth(question: Question, strategy: Strategy) -> tuple[str, ...]:
    growth = question.demand.growth_per_s()
    if not growth:
        return ()
    most, busiest = strategy.most_replicas, question.demand.busiest_rps()
    left_h = max(0.0, math.log(most / question.busy_s(strategy) / busiest) / growth / 3600)
    unit, seconds = ("minute", 60) if growth > 1e-5 else ("day", 86_400)
    return (
        f"traffic grows by {100 * math.expm1(seconds * growth):.2g} % a {unit}; if it goes on, all of at most {most} "
        f"replicas are busy {left_h:.2g} h after the trace",
    )


def _wake_up(question: Question, strategy: Strategy) -> tuple[str, ...]:
    idle_s = strategy.sleeps_after_s
    if math.isinf(idle_s):
        return ()
    one_s = start_s(question.profiles[strategy.environment], strategy.scaling)
    return (f"nothing runs after {idle_s:g} s without a request; the next one waits up to {one_s:.0f} s for a replica",)


def in_order_of_merit(advice: Advice, place: Place) -> list[Candidate]:
    """The candidates of a place that went furthest, the advised one first."""
    mine = [candidate for candidate in advice.candidates if candidate.place == place]
    return preferred(advice.question.objective, mine)


def _changed(question: Question) -> dict[str, Question]:
    """The question as asked, and if the world is not as assumed."""
    quiet = replace(question, progress=no_progress)
    profiles = {name: _slower_starts(profile) for name, profile in question.profiles.items()}
    return {
        "as assumed": quiet,
        "twice the load": replace(quiet, demand=question.demand.scaled(2.0)),
        "starts and boots take twice as long": replace(quiet, profiles=profiles),
        "service is a fifth slower": replace(quiet, work_factor=1.2 * question.work_factor),
    }


def _slower_starts(profile: Profile) -> Profile:
    steps = tuple(step.model_copy(update={"takes": scale_duration(step.takes, 2.0)}) for step in profile.starts.steps)
    changes: dict[str, Any] = {"starts": profile.starts.model_copy(update={"steps": steps})}
    machines = profile.machines
    if machines is not None and machines.boot is not None:
        changes["machines"] = machines.model_copy(update={"boot": scale_duration(machines.boot, 2.0)})
    return profile.model_copy(update=changes)


def advice_table(advice: Advice) -> pd.DataFrame:
    """What is advised: a column per place."""
    columns = {}
    for place, entry in advice.advised.items():
        scaling = entry.candidate.strategy.scaling
        worse = {f"slow, {what} (%)": 100 * other.slow for what, other in entry.what_if.items()}
        columns[PLACES[place]] = {
            "strategy": entry.candidate.strategy.name,
            "objective": entry.verdict,
            **figures_in_words(advice, entry.candidate.figures),
            "replicas of an oracle": entry.oracle,
            **{what: f"{max(value, 0.0):.2f}" for what, value in worse.items()},
            "CPU of a replica": f"{scaling['cpu_cores']:g} cores",
        }
    return pd.DataFrame(columns)


def figures_in_words(advice: Advice, figures: Figures) -> dict[str, str]:
    """Cost, responses and replicas, by what they are."""
    return {
        "USD per month": f"{figures.usd_per_month:.2f}",
        "mean response (s)": f"{figures.mean_s:.3g}",
        **{
            f"slower than {limit_s:g} s (%)": f"{100 * share:.3g}"
            for limit_s, share in zip(advice.question.objective.limits_s, (figures.slow, *figures.over), strict=True)
        },
        "failed (%)": f"{100 * figures.failed:.3g}",
        "replicas on average": f"{figures.replicas:.2f}",
    }


def strategy_table(advice: Advice) -> pd.DataFrame:
    """A row per strategy and place: those that went furthest first, then the best by the objective."""
    objective, candidates = advice.question.objective, advice.candidates
    front, others = _fronts(candidates), list(objective.percentiles)[1:]
    advised = [id(entry.candidate) for entry in advice.advised.values()]
    today = [entry.candidate for entry in advice.today.values()]
    every = [*candidates, *today]
    rows = [
        {
            "place": candidate.place,
            "environment": candidate.strategy.environment,
            "policy": candidate.strategy.policy,
            "stage": candidate.stage,
            "advised": id(candidate) in advised,
            "today": number >= len(candidates),
            "meets_objective": objective.excess(candidate.figures) <= 0,
            "on_front": number in front,
            **{name: value for name, value in asdict(candidate.figures).items() if name not in ("at_error", "over")},
            **{f"slow_p{percent}": share for percent, share in zip(others, candidate.figures.over, strict=True)},
            "seeds": max(1, len(candidate.runs)),
            "pruned": candidate.pruned,
            "settings": json.dumps(dict(candidate.strategy.scaling)),
            "minimums": json.dumps(candidate.strategy.minimums),
        }
        for number, candidate in enumerate(every)
    ]
    ranks = [(_STAGES[candidate.stage], rank(objective, candidate.figures)) for candidate in every]
    return pd.DataFrame([rows[number] for number in sorted(range(len(rows)), key=ranks.__getitem__)])


def _fronts(candidates: Sequence[Candidate]) -> set[int]:
    """Numbers of the candidates that no other in their place beats, of those that were simulated over the whole trace:
    figures of earlier stages are approximate, and would beat them on paper."""
    chosen: set[int] = set()
    for place in PLACES:
        mine = [
            number
            for number, candidate in enumerate(candidates)
            if candidate.place == place and candidate.stage == "whole trace"
        ]
        chosen |= {mine[each] for each in pareto_front([candidates[number].figures for number in mine])}
    return chosen


def check_new(out: Path) -> None:
    """Raise MlscaleError if ``out`` is not a folder that can be written, or already holds an advice, which must not mix
    with a new one."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise MlscaleError("it is not a folder", str(there), "choose another --out")
    if not os.access(there, os.W_OK):
        raise MlscaleError("it can't be written", str(there), "choose another --out")
    if (out / "advice.json").exists() or (out / "strategies.csv").exists():
        raise MlscaleError("there is an advice already", str(out), "choose another --out, or delete it")


def write_advice(advice: Advice, out: Path) -> None:
    """Writes advice.json, strategies.csv and, for each place, a folder of settings.

    Raises:
        MlscaleError: ``out`` cannot be written, or holds an advice already.
    """
    check_new(out)
    question = advice.question
    try:
        for place, entry in advice.advised.items():
            (out / place).mkdir(parents=True, exist_ok=True)
            for name, text in settings_files(entry.candidate.strategy, question.demand.begins).items():
                (out / place / name).write_text(text)
        table = strategy_table(advice)
        table.to_csv(out / "strategies.csv", index=False)
        assert question.demand.schedule is not None, "what `demand_of` read"
        (out / "schedule.json").write_text(question.demand.schedule.model_dump_json())
        for name, profile in question.profiles.items():
            write_profile(profile, out / "profiles" / f"{name}.json")
        (out / "advice.json").write_text(json.dumps(_record(advice, table), indent=1) + "\n")
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(out), "choose a writable folder") from error


def check_command(
    table: pd.DataFrame, place: Place, out: Path = _HERE, which: Literal["advised", "today"] = "advised"
) -> str:
    """What simulates again what is advised, or in use, in a place; ``table``: as in the file strategies.csv in
    ``out``."""
    (row,) = table.index[table[which] & (table["place"] == place)]
    return shlex.join(["mlscale", "simulate", "--advised", f"{out / 'strategies.csv'}:{row + 2}"])


def _record(advice: Advice, table: pd.DataFrame) -> dict[str, Any]:
    question = advice.question
    return {
        "simulated": "nothing was measured",
        "objective": asdict(question.objective),
        "demand": {
            "hours": question.demand.duration_s / 3600,
            "read": question.demand.summary,
            "requests": question.demand.requests,
            "mean_rps": question.demand.mean_rps,
            "busiest_second_rps": question.demand.busiest_rps(1),
            "busiest_minute_rps": question.demand.busiest_rps(),
            "begins": question.demand.begins and question.demand.begins.isoformat(),
            "poisson_assumed": question.demand.is_assumed and question.demand.burst == 1,
            "burst": question.demand.burst if question.demand.is_assumed else None,
            "notes": list(question.demand.notes),
        },
        "prices": asdict(question.prices),
        "seed": question.seed,
        "left_out": dict(advice.left_out),
        "advised": {
            place: {
                "environment": entry.candidate.strategy.environment,
                "policy": entry.candidate.strategy.policy,
                "verdict": entry.verdict,
                "margin": entry.margin,
                "margin_in_bursts": entry.margin_in_bursts,
                "warnings": list(entry.warnings),
                "stage": entry.candidate.stage,
                "figures": asdict(entry.candidate.figures),
                "runs": [asdict(figures) for figures in entry.candidate.runs],
                "what_if": {what: asdict(figures) for what, figures in entry.what_if.items()},
                "oracle_replicas": entry.oracle_replicas,
                "profile": _provenance(question.profiles[entry.candidate.strategy.environment]),
                "settings": dict(entry.candidate.strategy.scaling),
                "check_in_this_folder": check_command(table, place),
            }
            for place, entry in advice.advised.items()
        },
        "today": {
            place: {
                "environment": entry.candidate.strategy.environment,
                "policy": entry.candidate.strategy.policy,
                "conclusion": entry.conclusion,
                "keep": entry.keep,
                "verdict": entry.verdict,
                "margin": entry.margin,
                "figures": asdict(entry.candidate.figures),
                "runs": [asdict(figures) for figures in entry.candidate.runs],
                "advised_minus_today": dict(entry.differences),
                "notes": list(entry.notes),
                "settings": dict(entry.candidate.strategy.scaling),
                "check_in_this_folder": check_command(table, place, which="today"),
            }
            for place, entry in advice.today.items()
        },
    }


def _provenance(profile: Profile) -> dict[str, Any]:
    compared = profile.compared.model_dump() if profile.compared else None
    return {"what": profile.what, "validated": profile.validated, "compared": compared}
