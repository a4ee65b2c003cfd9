"""An advice as a document: the verdict, replicas beside the demand, what else would do, what is assumed. Simulated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mlscale.atomic import write_text
from mlscale.cost import MONTH_H
from mlscale.plots.style import display_name
from mlscale.reporting.document import Document, Element, Section, Text, picture, table
from mlscale.reporting.render import to_html
from mlscale_twin.plots.advice import cost_and_slow, replicas_and_demand
from mlscale_twin.strategy.advice import (
    BURST,
    PLACES,
    Advice,
    Advised,
    check_command,
    figures_in_words,
    in_order_of_merit,
    strategy_table,
)
from mlscale_twin.strategy.objective import Objective
from mlscale_twin.strategy.paste import settings_files
from mlscale_twin.strategy.search import Candidate
from mlscale_twin.strategy.strategies import Place
from mlscale_twin.strategy.trial import with_cost


def write_page(advice: Advice, out: Path, traffic: str) -> None:
    """Write ``out``/advice.html. ``traffic``: its name."""
    first = Section("", [Text(verdict(advice)), notes(advice)])
    write_text(out / "advice.html", to_html(Document(f"How to serve {traffic}", [first, *sections(advice)])))


def verdict(advice: Advice) -> list[str]:
    """A sentence about local, and one about the cloud."""
    texts = {place: _advised(place, entry) for place, entry in advice.advised.items()}
    local = "; ".join(text for place, text in texts.items() if place != "cloud")
    return [f"{text[:1].upper()}{text[1:]}." for text in (local, texts.get("cloud", "")) if text]


def _advised(place: Place, entry: Advised) -> str:
    usd = entry.candidate.figures.usd_per_month
    return f"{PLACES[place]}: {entry.candidate.strategy.name}, for {usd:.2f} USD a month, objective {entry.verdict}"


def notes(advice: Advice) -> Text:
    """What was asked for, and what was read."""
    demand = advice.question.demand
    lines = [
        f"Asked for: {_asked(advice.question.objective)}. SIMULATED: nothing of it was measured.",
        f"Traffic: {demand.summary}.",
        *demand.notes,
        *(f"Without {name}: {why}." for name, why in advice.left_out.items()),
    ]
    return Text(lines, "note")


def _asked(objective: Objective) -> str:
    """The objective in words."""
    limits = (
        *((limit_s, f"{percent} % of responses within {{:g}} s") for percent, limit_s in objective.percentiles.items()),
        (objective.mean_s, "a mean response of at most {:g} s"),
        (objective.sigma_s, "a standard deviation of at most {:g} s"),
        (100 * objective.error_budget, "at most {:g} % of requests failed"),
        (objective.max_usd_per_month, "at most {:g} USD a month"),
    )
    return ", ".join(text.format(limit) for limit, text in limits if limit is not None)


def sections(advice: Advice) -> list[Section]:
    """For each place why that is advised; then every strategy's cost, what is assumed, and the settings to paste."""
    objective = advice.question.objective
    every = cost_and_slow(strategy_table(advice), objective)[0, 0].figure
    return [
        *(Section(PLACES[place].capitalize(), _of_place(advice, place)) for place in advice.advised),
        Section("Every strategy that was tried", [picture("Cost and slow requests", every)]),
        Section("What is assumed", [Text(list(_assumed(advice)), "list")]),
        Section("Settings to paste", _pasted(advice)),
    ]


def _of_place(advice: Advice, place: Place) -> list[Element]:
    entry = advice.advised[place]
    what_if = {what: figures_in_words(advice, figures) for what, figures in entry.what_if.items()}
    now = advice.today.get(place)
    return [
        *([Text([f"Today's setting: {now.conclusion}. The advised one instead: {now.change}."])] if now else []),
        *([Text(list(entry.warnings), "warning")] * bool(entry.warnings)),
        *([Text([_on_spot(advice)])] if place == "cloud" else []),
        picture("", replicas_and_demand(advice.question, entry.candidate.strategy)),
        table("What else would do", _beside(advice, place)),
        Text([f"To check: `{check_command(strategy_table(advice), place)}`, in the folder of strategies.csv."], "note"),
        table("If the world is not as assumed (in windows of the trace, so approximately)", pd.DataFrame(what_if).T),
    ]


def _on_spot(advice: Advice) -> str:
    """Its cost as a range."""
    best, question = advice.advised["cloud"].candidate, advice.question
    usd = with_cost(question, best.strategy, "cloud", best.figures, spot=True).usd_per_month
    if math.isnan(usd):
        return "On Spot: its price here is not known; `mlscale prices --refresh` asks AWS, if you have an account."
    return (
        f"On Spot: {usd:.2f} USD a month, if AWS never takes a machine back, to {best.figures.usd_per_month:.2f}, if "
        "none is to be had and all are on demand. AWS gives two minutes' notice; interruptions are not simulated."
    )


def _beside(advice: Advice, place: Place) -> pd.DataFrame:
    """What is advised, the same with one replica less, and the best of other environments and policies."""
    entry = advice.advised[place]
    rows = [("advised", entry.candidate)]
    if place in advice.today:
        rows.append(("today", advice.today[place].candidate))
    if entry.one_less is not None:
        rows.append(("one replica less", entry.one_less))
    best = {
        (each.strategy.environment, each.strategy.policy): each
        for each in reversed([*in_order_of_merit(advice, place), entry.candidate])
    }
    del best[entry.candidate.strategy.environment, entry.candidate.strategy.policy]
    others = [each for each in in_order_of_merit(advice, place) if each in best.values()]
    rows += zip(("runner-up", "third", "fourth"), others, strict=False)
    cells = {
        label: {
            "strategy": each.strategy.name,
            **figures_in_words(advice, each.figures),
            "objective": _met(advice.question.objective, each),
        }
        for label, each in rows
    }
    return pd.DataFrame(cells).T


def _met(objective: Objective, candidate: Candidate) -> str:
    """Whether a candidate meets the objective, by its seeds."""
    low, high = objective.interval(candidate.runs or [candidate.figures])
    word = "met" if high <= 0 else "missed" if low > 0 else "too close to call"
    return word if candidate.runs else f"{word}, by one seed"


def _assumed(advice: Advice) -> Iterator[str]:
    """Prices, profiles and arrivals."""
    question = advice.question
    demand, prices = question.demand, question.prices
    if demand.is_assumed:
        known = "at random (Poisson)" if demand.burst == 1 else f"in bursts of {demand.burst}"
        yield f"Only rates are known: requests are taken to come {known}, and then in bursts of {BURST * demand.burst}."
    budget = question.objective.error_budget * demand.mean_rps * 3600 * MONTH_H
    yield f"If the traffic goes on for a month, the error budget is {budget:,.0f} requests."
    local = prices.local
    yield (
        f"A machine of your own: {local['machine_usd']:g} USD, {local['cores']} cores, {local['life_years']:g} years, "
        f"{local['kwh_usd']:g} USD a kWh; {local['source']} ({local['date']})."
    )
    if "cloud" in advice.advised:
        yield f"AWS: prices of {prices.region}, {prices.aws['date']}."
    for name in dict.fromkeys(entry.candidate.strategy.environment for entry in advice.advised.values()):
        profile = question.profiles[name]
        yield f"{display_name(name)}: {profile.what}; {profile.error_of('mean_response_s')} (mean response)."


def _pasted(advice: Advice) -> list[Element]:
    elements: list[Element] = []
    for place, entry in advice.advised.items():
        for name, text in settings_files(entry.candidate.strategy, advice.question.demand.begins).items():
            elements += [Text([f"`{place}/{name}`"]), Text([text], "code")]
    return elements
