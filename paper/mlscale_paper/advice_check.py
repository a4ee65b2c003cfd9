"""The live check of `mlscale advise`: what it advises and its neighbours on the front, deployed under pieces of real
traffic. What is compared is fixed in RUNS/advice.json before anything is measured (METHOD §8)."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.stats import t as student

from mlscale.analysis.durations import durations, failure_share
from mlscale.atomic import write_text
from mlscale.cost import Prices, read_prices, usage_of, usd_per_month
from mlscale.loadgen.schedule_files import read_schedule
from mlscale.measurement.measure import Progress
from mlscale.progress import Bar, Shown, duration
from mlscale.runs import MlscaleError, OpenLoop, Run
from mlscale_experiment.attempts import State
from mlscale_experiment.execute import estimate_s, measure_missing, missing, prepare
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.plan import SETTLED_S, PlannedRun, orders
from mlscale_experiment.protocol import Protocol
from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.advice import AdviseOptions, advise, in_order_of_merit
from mlscale_twin.strategy.demand import Demand, demand_of
from mlscale_twin.strategy.objective import SHARE_SLOW, Figures, Objective, pareto_front
from mlscale_twin.strategy.search import Candidate

FILE: Final = "advice.json"
ADVISED: Final = "advised"
BEST_TWO: Final = "among the best two"
BLOCKS: Final = 3
# Settings besides the advised ones.
OTHERS: Final = 4
# The objective: a 95th percentile of so many times the protocol's level (a mean). Chosen.
P95_PER_LEVEL: Final = 2.0
_SETTINGS: Final = 300
_PEAK_S: Final = 20
_STREAM: Final = 9


def plan_of(chosen: Mapping[str, Any], seed: int) -> list[PlannedRun]:
    """The runs of a plan (`make_plan`): blocks of all settings under one piece of traffic; the pieces take turns."""
    runs = []
    for block in range(1, chosen["blocks"] + 1):
        for name, piece in chosen["traffic"].items():
            settings = [choice for choice in chosen["choices"] if choice["traffic"] == name]
            order = orders(len(settings), chosen["blocks"], [seed, _STREAM, *name.encode()])[block - 1]
            for position, place in enumerate(order, start=1):
                choice, before = settings[place], settings[order[position - 2]] if position > 1 else None
                runs.append(_planned(choice, piece, block, position, before, seed))
    return runs


def _planned(
    choice: Mapping[str, Any],
    piece: Mapping[str, Any],
    block: int,
    position: int,
    before: Mapping[str, Any] | None,
    seed: int,
) -> PlannedRun:
    variant = f"{choice['traffic']}-{choice['name']}"
    return PlannedRun(
        cell="advice",
        label=f"advice/{variant}",
        variant=variant,
        block=block,
        position=position,
        environment=choice["environment"],
        arm="matched",
        connections="fresh",
        scaling=choice["scaling"],
        aa_label=None,
        predecessor=before["environment"] if before else None,
        schedule=piece["schedule"],
        idle_s=SETTLED_S,
        seed=seed,
        folder=f"advice/{variant}/block-{block:02d}/{position}-{choice['environment']}",
    )


def make_plan(
    experiment: Experiment, traces: Sequence[Path], seconds: float, profiles: Sequence[Path], progress: Progress
) -> dict[str, Any]:
    """What to measure: a piece of each trace; for each environment the advised settings and up to `OTHERS` more.

    The piece is the trace's busiest ``seconds``, at the mean rate of each 10 s, scaled so that its busiest `_PEAK_S`
    ask for as much as the protocol's open loop after the step, which the host can serve.
    """
    objective = Objective(p95_s=P95_PER_LEVEL * experiment.protocol.level_s)
    traffic, choices = _traffic(traces, seconds, experiment.protocol), []
    for name, piece in traffic.items():
        schedule = OpenLoop.model_validate(piece["schedule"])
        for environment in experiment.environments:
            chosen = _choices(environment, schedule, objective, experiment, profiles, progress)
            choices += [{"traffic": name, "environment": environment, **choice} for choice in chosen]
    made_for = {"p95_s": objective.p95_s, "blocks": experiment.blocks, "profiles": _calibrated(profiles)}
    return {**made_for, "traffic": traffic, "choices": choices}


def check(traces: Sequence[Path], seconds: float, profiles: Sequence[Path]) -> None:
    """Raise MlscaleError for a length of time that is not positive, and for files that share a name in the plan."""
    if not 0 < seconds < math.inf:
        raise MlscaleError(f"{seconds:g} s is not a duration", "--seconds", "give a number of seconds")
    for option, names in (("TRACES", [*map(_name, traces)]), ("--profile", [file.name for file in profiles])):
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise MlscaleError(f"two files would both be called {doubles[0]!r}", option, "rename one, or name it once")


def _name(trace: Path) -> str:
    return trace.stem.rsplit("_", 1)[-1]


def _traffic(traces: Sequence[Path], seconds: float, protocol: Protocol) -> dict[str, Any]:
    """The piece of each trace, by its name."""
    traffic = {}
    for trace in traces:
        demand = demand_of(read_schedule(trace))
        start = demand.busiest(round(seconds))
        piece = Demand(demand.rates_rps[start : start + round(seconds)])
        factor = protocol.open_step_rps / piece.busiest_rps(_PEAK_S)
        schedule = piece.scaled(factor).window(0, piece.duration_s)
        cut = {"trace": trace.name, "from_s": start, "seconds": piece.duration_s, "factor": factor}
        traffic[_name(trace)] = {**cut, "schedule": schedule.model_dump(mode="json")}
    return traffic


def _calibrated(profiles: Sequence[Path]) -> dict[str, str]:
    return {file.name: read_profile(file).sha256 for file in profiles}


def _choices(
    environment: str,
    schedule: OpenLoop,
    objective: Objective,
    experiment: Experiment,
    profiles: Sequence[Path],
    progress: Progress,
) -> list[dict[str, Any]]:
    protocol = experiment.protocol
    options = AdviseOptions(
        environments=(environment,),
        profiles=profiles,
        settings=_SETTINGS,
        cpu_cores=protocol.cpu_cores,
        most_replicas=protocol.replicas,
        seed=experiment.seed,
        progress=lambda step, share: progress(f"{environment}, by the twin: {step}", share),
    )
    ranked = in_order_of_merit(advise(schedule, objective, options), "local-shared")
    front = [ranked[place] for place in pareto_front([candidate.figures for candidate in ranked])]
    best, others = ranked[0], [candidate for candidate in [*front, *ranked] if candidate is not ranked[0]]
    distinct = list({id(candidate): candidate for candidate in others}.values())[:OTHERS]
    named = [(ADVISED, best), *((f"other-{number}", each) for number, each in enumerate(distinct, 1))]
    return [_choice(f"{environment}-{name}", candidate) for name, candidate in named]


def _choice(name: str, candidate: Candidate) -> dict[str, Any]:
    figures, strategy = candidate.figures, candidate.strategy
    twin = {"slow": figures.slow, "failed": figures.failed, "usd_per_month": figures.usd_per_month}
    return {"name": name, "policy": strategy.policy, "scaling": dict(strategy.scaling), "twin": twin}


def root_in(runs: Path) -> Path:
    """Where the plan and its runs are, below the runs of a host."""
    return runs / "advice-check"


def read_plan(file: Path) -> dict[str, Any]:
    """The plan (`make_plan`) in ``file``.

    Raises:
        MlscaleError: it can't be read, or is not a plan.
    """
    try:
        chosen = dict(json.loads(file.read_text()))
        missing_keys = {"p95_s", "blocks", "profiles", "traffic", "choices"} - set(chosen)
    except (OSError, ValueError, TypeError) as error:
        raise MlscaleError(f"broken: {error}", str(file), "restore it, or name another --runs") from error
    if missing_keys:
        raise MlscaleError(f"broken: no {min(missing_keys)}", str(file), "restore it, or name another --runs")
    return chosen


def _other_than_planned(
    chosen: Mapping[str, Any], experiment: Experiment, traces: Sequence[Path], seconds: float, profiles: Sequence[Path]
) -> str | None:
    """The option that asks for something other than what was planned; None: none does."""
    environments = {choice["environment"] for choice in chosen["choices"]}
    same = {
        "--blocks": chosen["blocks"] == experiment.blocks,
        "--environments": environments == set(experiment.environments),
        "--profile": chosen["profiles"] == _calibrated(profiles),
        "traces or --seconds": chosen["traffic"] == _traffic(traces, seconds, experiment.protocol),
    }
    return next((option for option, is_same in same.items() if not is_same), None)


def check_advice(
    experiment: Experiment, traces: Sequence[Path], seconds: float, profiles: Sequence[Path] = ()
) -> pd.DataFrame:
    """Makes the plan unless there is one, measures what is missing of it, and judges (`judge`). ``profiles``: files
    that replace the environments' own (`mlscale calibrate`).

    Raises:
        MlscaleError: something the user can fix; what was measured stays, and the next call resumes.
    """
    check(traces, seconds, profiles)
    root = root_in(experiment.root)
    identity = {name: value for name, value in experiment.identity.items() if name != "environments"}
    planned = replace(experiment, root=root, cells=("advice",), identity=identity)
    prepare(planned)
    file = root / FILE
    if not file.exists():
        with Shown() as progress:
            plan = make_plan(experiment, traces, seconds, profiles, progress)
        write_text(file, json.dumps(plan, indent=1) + "\n")
    chosen = read_plan(file)
    other = _other_than_planned(chosen, experiment, traces, seconds, profiles)
    if other is not None:
        raise MlscaleError(f"it was planned with other {other}", str(file), "give the same, or name another --runs")
    planned = replace(planned, plan=tuple(plan_of(chosen, planned.seed)))
    states = planned.states()
    left_s = estimate_s(states, planned.protocol)
    with Bar(left_s) as bar:
        bar.say(f"{len(states)} runs, about {duration(left_s)} are left; they go to {root}")
        states = measure_missing(planned, states, bar)
        for line in missing(states):
            bar.say(line)
    table = judge(states, chosen)
    write_text(root / "result.json", table.to_json(orient="records", indent=1) + "\n")
    return table


@dataclass(frozen=True)
class Measured:
    """One setting: how it was ``chosen`` (an entry of the plan's ``choices``), and its ``figures`` by block."""

    chosen: Mapping[str, Any]
    figures: Mapping[int, Figures]

    @property
    def advised(self) -> bool:
        return str(self.chosen["name"]).endswith(f"-{ADVISED}")


def measured(states: Sequence[State], chosen: Mapping[str, Any]) -> dict[tuple[str, str], list[Measured]]:
    """The settings with valid runs in at least two blocks, by traffic and environment; the twin's order."""
    live = _live_figures(states, _objective(chosen))
    groups: dict[tuple[str, str], list[Measured]] = {}
    for choice in chosen["choices"]:
        group = groups.setdefault((choice["traffic"], choice["environment"]), [])
        figures = live.get(f"{choice['traffic']}-{choice['name']}", {})
        if len(figures) >= 2:
            group.append(Measured(choice, figures))
    return groups


def _objective(chosen: Mapping[str, Any]) -> Objective:
    """Failures are slow requests, and have no budget of their own: so it was when the published runs were planned."""
    return Objective(p95_s=chosen["p95_s"], error_budget=SHARE_SLOW)


def judge(states: Sequence[State], chosen: Mapping[str, Any]) -> pd.DataFrame:
    """A row per traffic and environment: the advised settings beside the others, and where the twin ranked wrongly.

    One setting surely beats another if the 95 % interval of the paired difference (over blocks) of its excess over the
    objective lies below 0, or, where that is undecided, that of its cost. The advice is among the best two if at most
    one other surely beats it.
    """
    objective = _objective(chosen)
    rows = []
    for (traffic, environment), group in measured(states, chosen).items():
        row: dict[str, Any] = {"traffic": traffic, "environment": environment, "settings": len(group)}
        advised = next((each for each in group if each.advised), None)
        if advised is None:
            rows.append({**row, "verdict": "not measured"})
            continue
        better = [each for each in group if surely_better(each.figures, advised.figures, objective)]
        rows.append(
            {
                **row,
                "verdict": BEST_TWO if len(better) <= 1 else f"beaten by {len(better)}",
                "live slow (%)": 100 * float(np.mean([each.slow for each in advised.figures.values()])),
                "twin slow (%)": 100 * advised.chosen["twin"]["slow"],
                "wrong ranks": ", ".join(_wrong_ranks(group, objective)) or "none",
            }
        )
    return pd.DataFrame(rows)


def _wrong_ranks(group: Sequence[Measured], objective: Objective) -> list[str]:
    """Pairs that the twin ranks in the opposite order with certainty."""
    wrong = []
    for one, other in itertools.permutations(group, 2):
        keys = [(_excess(each.chosen["twin"]["slow"]), each.chosen["twin"]["usd_per_month"]) for each in (one, other)]
        if keys[0] < keys[1] and surely_better(other.figures, one.figures, objective):
            wrong.append(f"{_short(other)} beats {_short(one)}")
    return wrong


def _short(setting: Measured) -> str:
    """Its name without the environment, which the table has in a column of its own."""
    return str(setting.chosen["name"]).partition("-")[2]


def _excess(slow: float) -> float:
    return max(0.0, slow / SHARE_SLOW - 1)


def surely_better(one: Mapping[int, Figures], other: Mapping[int, Figures], objective: Objective) -> bool:
    """By excess over the objective, and where that is undecided by cost; figures by block."""
    blocks = sorted(set(one) & set(other))
    for value in (objective.excess, lambda figures: figures.usd_per_month):
        low, high = interval([value(one[block]) - value(other[block]) for block in blocks])
        if high < 0 or low > 0:
            return high < 0
    return False


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean (Student's t); infinite from fewer than two. Equal differences are taken as exact."""
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return -math.inf, math.inf
    half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def _live_figures(states: Sequence[State], objective: Objective) -> dict[str, dict[int, Figures]]:
    """By variant and block, of valid runs."""
    prices = read_prices()
    by_variant: dict[str, dict[int, Figures]] = {}
    for state in states:
        for run in state.runs:
            if run.info.valid:
                by_variant.setdefault(state.planned.variant, {})[state.planned.block] = _figures(run, objective, prices)
    return by_variant


def _figures(run: Run, objective: Objective, prices: Prices) -> Figures:
    """Over the whole schedule, as the twin's."""
    end_s = run.info.schedule.duration_s
    frame = durations(run.requests, timeout_s=run.info.timeout_s)
    usage = usage_of(run, 0.0, end_s)
    scaling = next(iter(run.info.scaling.values()))
    return Figures(
        slow=float(((frame["response_s"] > objective.limit_s) | ~frame["ok"]).mean()),
        mean_s=float(frame["response_s"].mean()),
        sd_s=float(frame["response_s"].std(ddof=0)),
        failed=failure_share(frame),
        usd_per_month=usd_per_month(run.info.environment, scaling, usage, prices),
        replicas=usage.replicas,
        peak=round(usage.peak_cores / scaling["cpu_cores"]),
    )
