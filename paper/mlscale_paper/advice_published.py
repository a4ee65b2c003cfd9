"""The published live check of the advice (data/advice): its plan, the profiles that it was made with, and its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.notebook.manifest import Simulated
from mlscale.plots.style import display_name
from mlscale.reporting.document import Element, Text
from mlscale.reporting.statements import records
from mlscale.runs import MlscaleError, Run
from mlscale.runs.info import host_name
from mlscale_experiment.attempts import IDENTITY, State, state_of
from mlscale_paper import places
from mlscale_paper.advice_check import FILE, judge, measured, plan_of, read_plan
from mlscale_paper.results import document_table

NOT_CHECKED: Final = "**Not checked.** No such measurement is published."


@dataclass(frozen=True)
class AdviceCheck:
    """``chosen``: the plan (`mlscale_paper.advice_check.make_plan`); ``states``: what was measured of it."""

    chosen: Mapping[str, Any]
    states: Sequence[State]

    @property
    def runs(self) -> list[Run]:
        """Every attempt."""
        return [run for state in self.states for run in state.runs]

    @property
    def valid_runs(self) -> list[Run]:
        """Those that the figures rest on."""
        return [run for run in self.runs if run.info.valid]

    @property
    def limit_s(self) -> float:
        """The objective: 95 % of requests take at most this long."""
        return float(self.chosen["p95_s"])

    @property
    def simulated(self) -> Simulated:
        """The source of the twin's figures."""
        return Simulated("the settings' figures in data/advice/advice.json", 1)

    def judged(self) -> pd.DataFrame:
        """`mlscale_paper.advice_check.judge`."""
        return judge(self.states, self.chosen)

    def settings(self) -> pd.DataFrame:
        """A row per measured setting: traffic, environment, name, advised; the share of slow requests (%): ``twin``,
        ``live`` (mean over blocks) with ``low`` and ``high`` (over blocks); USD per month: ``twin_usd``, ``live_usd``.
        """
        rows = []
        for (traffic, environment), group in measured(self.states, self.chosen).items():
            for each in group:
                slow, twin = [100 * one.slow for one in each.figures.values()], each.chosen["twin"]
                rows.append(
                    {
                        "traffic": traffic,
                        "environment": environment,
                        "name": each.chosen["name"],
                        "advised": each.advised,
                        "twin": 100 * twin["slow"],
                        "live": float(np.mean(slow)),
                        "low": min(slow),
                        "high": max(slow),
                        "twin_usd": twin["usd_per_month"],
                        "live_usd": float(np.mean([one.usd_per_month for one in each.figures.values()])),
                    }
                )
        return pd.DataFrame(rows)


def folder() -> Path:
    """data/advice of the checkout."""
    return places.data() / "advice"


def read(root: Path | None = None) -> AdviceCheck:
    """The check below ``root``; by default the published one.

    Raises:
        MlscaleError: there is none.
    """
    root = root or folder()
    try:
        seed = int(json.loads((root / IDENTITY).read_text())["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MlscaleError("no check of an advice is there", str(root), "mlscale experiment check-advice") from error
    chosen = read_plan(root / FILE)
    return AdviceCheck(chosen, [state_of(planned, root) for planned in plan_of(chosen, seed)])


def document() -> list[Element]:
    """The check, for docs/strategy.md: a row per traffic and environment."""
    if not folder().is_dir():
        return [Text([NOT_CHECKED])]
    check = read()
    done = sum(state.done for state in check.states)
    if done < len(check.states):
        return [Text([f"**Under way.** {done} of {len(check.states)} runs are measured."])]
    judged = check.judged()
    rows = records(judged.assign(environment=judged["environment"].map(display_name)))
    hosts = " and ".join(sorted({host_name(run.info.host) for run in check.runs}))
    pieces = ", ".join(
        f"{name}: {piece['seconds']:g} s of {piece['trace']} from {piece['from_s']} s on, at {piece['factor']:.2f} "
        "times its rate"
        for name, piece in check.chosen["traffic"].items()
    )
    invalid = len(check.runs) - len(check.valid_runs)
    how = (
        f"{len(check.runs)} runs in {check.chosen['blocks']} blocks on {hosts}, {invalid} of them invalid (left out). "
        f"Slow: longer than {check.limit_s:g} s. Traffic: {pieces}."
    )
    return [document_table("", rows), Text([how], "note")]
