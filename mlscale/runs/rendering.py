"""Runs, settings and tables as HTML, for the last line of a notebook's cell."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlscale.runs.run import Run


def run_html(run: Run) -> str:
    """What a run is, how its requests ended, and what it may be used for; its settings after a click."""
    info, requests = run.info, run.requests
    right = requests["status"] == "ok"
    response_s = (requests["done_s"] - requests["intended_s"])[right]
    label = "SIMULATED, not measured" if info.mode == "simulated" else info.mode
    reasons = "; ".join(info.validity.reasons) if info.validity else ""
    facts = {
        "run": f"{info.environment}, {label}",
        "arm": None if info.arm == "none" else info.arm,
        "place": info.cell and f"{info.cell}, block {info.block}",
        "load": f"{info.schedule.loop} loop, {info.schedule.duration_s:g} s",
        "requests": f"{len(requests)}, {right.mean():.1%} answered right" if len(requests) else "none",
        "response": f"mean {response_s.mean():.3g} s, 95 % within {response_s.quantile(0.95):.3g} s (right answers)"
        if right.any()
        else None,
        "valid": "yes" if info.valid else f"no, no claim may rest on it: {reasons}",
        "folder": None if str(run.path) == info.run_id else run.path,
    }
    settings = "".join(f"<b>{html.escape(name)}</b>{facts_table(values)}" for name, values in info.scaling.items())
    return facts_table(facts) + (folded("settings", settings) if settings else "")


def facts_table(facts: Mapping[str, Any]) -> str:
    """A table with a row for each fact; those that are None or empty are left out."""
    rows = [
        f'<tr><th style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left">{html.escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if value is not None and value != ""
    ]
    return f"<table>{''.join(rows)}</table>"


def folded(summary: str, content: str) -> str:
    """``content`` (HTML), shown after a click on ``summary``."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"
