"""A line of an advice, simulated again: the same arrivals, seeds, profile, prices and accounting."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, fields
from pathlib import Path

from mlscale import environments
from mlscale.cost import Prices
from mlscale.environments import App, Component
from mlscale.errors import MlscaleError
from mlscale.loadgen.schedule_files import read_schedule
from mlscale.measurement.measure import Progress, no_progress
from mlscale.runs import Run
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import SimulateOptions, run_of
from mlscale_twin.strategy.demand import demand_of
from mlscale_twin.strategy.objective import Figures, Objective
from mlscale_twin.strategy.search import Candidate, over_all, repeated
from mlscale_twin.strategy.strategies import Strategy
from mlscale_twin.strategy.trial import Question, whole_setup
from mlscale_twin.studies.executors import executor

_REMEDY = "name one such as advice/strategies.csv:2, of an advice by this version of mlscale"


@dataclass(frozen=True)
class Line:
    """A line of strategies.csv: what was asked, and the candidate with the figures that stand there, which are the
    means over so many ``seeds``."""

    question: Question
    candidate: Candidate
    seeds: int

    def again(self) -> Candidate:
        """The candidate over the whole trace, simulated now."""
        candidate = Candidate.of(self.candidate.strategy, self.candidate.place)
        with executor(None) as pool:
            found = over_all(self.question, [candidate], pool)
            return (repeated(self.question, found, pool) if self.seeds > 1 else found)[0]

    def compared(self, again: Candidate) -> str:
        """Whether the figures are those of the line, in words."""
        if self.candidate.stage != "whole trace":
            return f"the advice has figures of stage {self.candidate.stage!r} only, which are approximate"
        pairs = {
            name: (getattr(self.candidate.figures, name), getattr(again.figures, name)) for name in (*_names(), "over")
        }
        other = [f"{name} {before} there, {now} here" for name, (before, now) in pairs.items() if before != now]
        return (
            f"not what the advice has: {', '.join(other)}" if other else "the same as in the advice, to the last digit"
        )

    def run(self, out: Path, progress: Progress = no_progress) -> Run:
        """A run with the first seed, in the new folder ``out``."""
        setup = whole_setup(self.question, self.candidate.strategy)
        components = tuple(Component(name, entry="") for name in setup.scalings)
        app = App(setup.profile.application or "app", "", components, components[0].name)
        return run_of(setup, app, out, options=SimulateOptions(progress=progress))


def read_line(which: str, schedule: Path | None = None, progress: Progress = no_progress) -> Line:
    """Line N of an advice's table, ``which`` is "advice/strategies.csv:N"; the first line holds the columns' names.

    Args:
        schedule: the traffic, if it is no longer where it was.

    Raises:
        MlscaleError: there is no such line, or the advice cannot be read.
    """
    name, _, number = which.rpartition(":")
    table = Path(name)
    if not number.isdecimal():
        raise MlscaleError("no line is named", f"--advised {which}", _REMEDY)
    try:
        with table.open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        if not 2 <= int(number) < len(rows) + 2:
            raise MlscaleError(f"it has lines 2 to {len(rows) + 1}", f"--advised {which}", _REMEDY)
        row, record = rows[int(number) - 2], json.loads((table.parent / "advice.json").read_bytes())
        profile = read_profile(table.parent / "profiles" / f"{row['environment']}.json")
        question = Question(
            demand_of(read_schedule(schedule or table.parent / "schedule.json", progress=progress), progress),
            Objective(**record["objective"]),
            {row["environment"]: profile},
            Prices(**record["prices"]),
            seed=record["seed"],
            progress=progress,
        )
        settings = environments.get(row["environment"]).settings.model_validate_json(row["settings"])
        minimums = tuple((float(from_s), int(least)) for from_s, least in json.loads(row["minimums"]))
        strategy = Strategy(row["environment"], row["policy"], settings.model_dump(), minimums)  # type: ignore[arg-type]
        over = tuple(float(row[f"slow_p{percent}"]) for percent in list(question.objective.percentiles)[1:])
        figures = Figures(over=over, **{name: float(row[name]) if row[name] else None for name in _names()})  # type: ignore[arg-type]
        candidate = Candidate(strategy, row["place"], figures, row["stage"])  # type: ignore[arg-type]
        return Line(question, candidate, int(row["seeds"]))
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), f"--advised {which}", _REMEDY) from error
    except (ValueError, KeyError, TypeError) as error:
        raise MlscaleError(f"not a line of an advice: {error!r}", f"--advised {which}", _REMEDY) from error


def _names() -> list[str]:
    """Of the figures that are a number each."""
    return [each.name for each in fields(Figures) if each.name not in ("at_error", "over")]
