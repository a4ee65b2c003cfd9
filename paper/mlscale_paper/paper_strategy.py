"""The paper's deployment strategy (F4) beside an advice, and the evidence for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from mlscale.analysis.summary import summarise
from mlscale.plots.style import short_name
from mlscale.runs import Run
from mlscale_paper.protocol import published_protocol
from mlscale_paper.twin_records import CLAIMS, read_record
from mlscale_paper.twin_tables import published
from mlscale_twin.strategy.advice import PLACES, Advice, Advised
from mlscale_twin.strategy.strategies import Place

# What the paper recommends, as far as its abstract and summaries of it tell (arXiv 2311.18659; a summary:
# sciencestack.ai/paper/2311.18659, read 2026-11): its own text on the strategy could not be had.
PAPER: Final[Mapping[Place, Sequence[str]]] = {
    "local-shared": ("torchserve", "k3s"),
    "local-dedicated": ("torchserve", "k3s"),
    "cloud": ("ecs",),
}
_CLAIM: Final[Mapping[Place, str]] = {"local-shared": "F1", "local-dedicated": "F1", "cloud": "F3"}


def beside_published(advice: Advice) -> pd.DataFrame:
    """`beside_paper` with the published record of the claims and the published runs."""
    claims, runs = read_record(CLAIMS), published("core")
    return beside_paper(advice, claims, runs, published_protocol().level_s)


def beside_paper(advice: Advice, claims: Mapping[str, Any] | None, runs: Sequence[Run], level_s: float) -> pd.DataFrame:
    """A column per place: the paper's choice, the advice's, whether they agree, and on what evidence.

    Args:
        claims: the twin's record of the claims; None: there is none. runs: live ones of the cell core.
    """
    columns = {}
    for place, entry in advice.advised.items():
        strategy = entry.candidate.strategy
        columns[PLACES[place]] = {
            "the paper": " or ".join(short_name(name) for name in PAPER[place]),
            "this advice": strategy.name,
            "agree on the environment": "yes" if strategy.environment in PAPER[place] else "no",
            "for the paper's: claim": _verdict(claims, _CLAIM[place]),
            "for the paper's: live": _live(runs, level_s) if place != "cloud" else "nothing: nobody ran it here",
            "for the advice": f"simulated; {entry.verdict}",
            "the paper's choice here": _best_of(advice, place, entry),
        }
    return pd.DataFrame(columns)


def _verdict(record: Mapping[str, Any] | None, claim: str) -> str:
    """The twin's verdict on a claim."""
    if record is None:
        return f"{claim}: no record"
    return f"{claim}: {record['arms']['matched']['verdicts'][claim]} (simulated)"


def _live(runs: Sequence[Run], level_s: float) -> str:
    rows = summarise([run for run in runs if run.info.valid], level_s) if runs else pd.DataFrame()
    if rows.empty:
        return "no published runs"
    means = rows.groupby("environment")["mean_response_s"].mean().sort_values()
    texts = [f"{short_name(str(name))} {mean_s:.2f} s" for name, mean_s in means.items()]
    return f"mean response after the step, {len(rows)} runs: {', '.join(texts)}"


def _best_of(advice: Advice, place: Place, entry: Advised) -> str:
    """What the paper's choice would cost, if the advice is another: the cheapest candidate of the last stage that meets
    the objective."""
    if entry.candidate.strategy.environment in PAPER[place]:
        return "the same"
    objective, stage = advice.question.objective, entry.candidate.stage
    costs = [
        candidate.figures.usd_per_month
        for candidate in advice.candidates
        if candidate.place == place
        and candidate.stage == stage
        and candidate.strategy.environment in PAPER[place]
        and objective.excess(candidate.figures) <= 0
    ]
    if not costs:
        return "none that was tried over the whole trace meets the objective"
    return f"{min(costs):.2f} USD a month, instead of {entry.candidate.figures.usd_per_month:.2f}"
