"""Waking up from zero replicas, for a report: each environment's wake-ups in parts, and what rest costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pandas as pd

from mlscale import figures
from mlscale.analysis.paired import paired_t
from mlscale.analysis.wakeup import PARTS, asleep, wake_ups
from mlscale.cost import Prices, read_prices, usage_of, usd_per_month
from mlscale.plots.style import display_name
from mlscale.reporting.document import Element, Section, Text, picture, table
from mlscale.runs import Run

_NAMES: Final = {
    "wake_s": "in all (s)",
    "decision_s": "decision",
    "machine_s": "machine",
    "container_s": "container",
    "load_s": "load",
    "answer_s": "answer",
}
# How much of the time before the first request is averaged, s.
_REST_S: Final = 20.0


def wake_up_sections(runs: Sequence[Run], level_s: float, *, pictures: bool = False) -> list[Section]:
    """A section where a run woke up; else none."""
    awake = [run for run in runs if any(each.get("min_replicas") == 0 for each in run.info.scaling.values())]
    rows = wake_ups(awake, level_s)
    if rows.empty:
        return []
    rest = at_rest(runs, read_prices())
    elements: list[Element] = [
        Text(["From the first request while nothing runs to its right answer: mean and 95 % t interval, s."]),
        table("Waking up", _wake_table(rows)),
        table("At rest, without a request", rest.rename(index=display_name, level="environment").map("{:.3g}".format)),
    ]
    saved = _saved_usd(rest)
    if pictures and saved:
        elements.insert(0, picture("", figures.wake_up(awake, rows, saved)))
    return [Section("Waking up from zero replicas", elements)]


def at_rest(runs: Sequence[Run], prices: Prices) -> pd.DataFrame:
    """Means over runs, before their first request, or while nothing ran: index environment and least replicas; cores
    in use (replicas, data plane and control plane), and USD a month if that lasted."""
    found = list(_rests(runs, prices))
    columns = ["environment", "least replicas", "cores in use", "USD a month"]
    return pd.DataFrame(found, columns=columns).groupby(columns[:2]).mean()


def _rests(runs: Sequence[Run], prices: Prices) -> Iterator[tuple[str, int, float, float]]:
    for run in runs:
        if len(run.info.scaling) != 1 or run.requests.empty:
            continue
        (scaling,) = run.info.scaling.values()
        to_s = float(run.requests["sent_s"].min())
        slept = [begin_s for begin_s, end_s in asleep(run) if end_s >= to_s]
        from_s = max(to_s - _REST_S, slept[0] if slept else 0.0)
        least = scaling.get("min_replicas")
        if least not in (0, 1) or to_s - from_s < 1 or (least == 0 and not slept):
            continue
        usage = usage_of(run, from_s, to_s)
        usd = usd_per_month(run.info.environment, scaling, usage, prices)
        yield run.info.environment, least, usage.busy_cores, usd


def _saved_usd(rest: pd.DataFrame) -> dict[str, float]:
    wide = rest["USD a month"].unstack().reindex(columns=[0, 1]).dropna()
    return {str(name): float(usd) for name, usd in (wide[1] - wide[0]).items()}


def _wake_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row an environment."""
    found = {}
    for name, group in rows.groupby("environment", sort=False):
        each = {_NAMES[part]: _with_interval(group[part]) for part in ("wake_s", *PARTS)}
        counts = {word: str(int(group[word].sum())) for word in ("requests", "late", "wrong", "lost")}
        found[display_name(str(name))] = {"wake-ups": str(len(group)), **each, **counts}
    return pd.DataFrame(found).T


def _with_interval(values: pd.Series) -> str:
    known = values.dropna()
    if known.nunique() < 2:  # one alone, or each the same
        return f"{known.iloc[0]:.2f}" if len(known) else "not observed"
    found = paired_t(known)
    return f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f})"
