"""How much a figure changes when single numbers of a profile are halved or doubled."""

from __future__ import annotations

from textwrap import fill
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.plots.style import INK, attach, colour, headline, mark_modes, new_axes, shade, style

# A number that changes the figure by a smaller share, halved and doubled, gets no row.
LEAST_SHARE: Final = 0.01
_SIDES: Final = {"half": ("half", 0.45), "double": ("double", 1.0)}


def swing_bars(table: pd.DataFrame, draws: int, environment: str = "ecs") -> Axes:
    """One bar per number, from T_slo with half to T_slo with double; the line is the unchanged profile. A
    bar whose draws were censored ends in an arrow. Numbers that hardly change T_slo are listed below the axis.

    Args:
        table: of `sensitivity.swings`; the first row is on top. draws: simulated runs behind each mean.
    Returns:
        The axes; `plotted`: the table.
    """
    middle_s = float(table["as_it_is"].iloc[0])
    change_s = (table[[*_SIDES]] - middle_s).abs().max(axis=1)
    shown = table[change_s >= LEAST_SHARE * middle_s]
    unchanged = table[change_s < LEAST_SHARE * middle_s]
    ends_s = shown[[*_SIDES]].where(shown[[f"{side}_censored" for side in _SIDES]].to_numpy() == 0)
    low_s, high_s = (
        float(getattr(np, f"nan{what}")([*ends_s.to_numpy().ravel(), middle_s])) for what in ("min", "max")
    )
    range_s = max(high_s - low_s, 0.1 * middle_s)
    left_s, right_s = low_s - 0.25 * range_s, high_s + 0.5 * range_s
    with style():
        axes: Axes = new_axes(1, 1, 1.5 + 0.3 * len(shown))[0, 0]
        for place, row in enumerate(shown.to_dict("records")):
            for side, (label, strength) in _SIDES.items():
                end_s = min(row[side], right_s)
                axes.barh(
                    place, end_s - middle_s, left=middle_s, height=0.6, lw=0,
                    color=shade(colour(environment), strength), label=label if place == 0 else None,
                )  # fmt: skip
                _label_end(axes, place, row, side, end_s, draws)
        axes.axvline(middle_s, color=INK, lw=0.8)
        axes.annotate(f"{middle_s:.0f} s unchanged", (middle_s, -0.5), ha="center", va="bottom", fontsize=8, color=INK)
        axes.set_yticks(range(len(shown)), list(shown["what"]))
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(left_s, right_s)
        note = (
            f"Not shown, under {100 * LEAST_SHARE:g} % either way: {', '.join(unchanged['what'])}"
            if len(unchanged)
            else ""
        )
        axes.set_xlabel(f"$T_{{slo}}$ (s), mean of {draws} draws\n{fill(note, 70)}")
        axes.legend(loc="lower right")
        headline(axes, f"$T_{{slo}}$ depends most on: {table['what'].iloc[0]}", {"simulated"})
        mark_modes(axes, {"simulated"})
        attach(axes, table)
    return axes


def _label_end(axes: Axes, place: int, row: dict[str, Any], side: str, end_s: float, draws: int) -> None:
    """T_slo at the bar's end, with an arrow if it is only a lower bound."""
    censored = row[f"{side}_censored"]
    right = row[side] >= row["as_it_is"]
    if censored:
        axes.plot(end_s, place, ">", ms=7, color=INK, clip_on=False)
        text = f"at least {row[side]:.0f}: never under L in {censored} of {draws} draws"
        axes.annotate(text, (end_s, place), (-8, 0), textcoords="offset points", ha="right", va="center", fontsize=8)
        return
    axes.annotate(
        f"{row[side]:.0f}", (end_s, place), (3 if right else -3, 0), textcoords="offset points",
        ha="left" if right else "right", va="center", fontsize=8, color=INK,
    )  # fmt: skip
