"""How far one figure moves when single numbers of a profile are halved or doubled."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from mlscale.plots.style import INK, attach, colour, mark_modes, new_axes, shade, style


def swing_bars(table: pd.DataFrame, environment: str = "ecs", what: str = "$T_{slo}$ (s)") -> Axes:
    """A bar a number, from the figure with half of it to the figure with twice of it; the line is the profile as it is.

    Args:
        table: ``what``, ``half``, ``double``, ``as_it_is``; the first row is on top.
    Returns:
        The axes; `plotted`: the table.
    """
    with style():
        axes: Axes = new_axes(1, 1, 0.9 + 0.3 * len(table))[0, 0]
        for place, row in enumerate(table.to_dict("records")):
            for side, strength in (("half", 0.45), ("double", 1.0)):
                width = row[side] - row["as_it_is"]
                axes.barh(
                    place, width, left=row["as_it_is"], height=0.6, color=shade(colour(environment), strength), lw=0,
                    label={"half": "half of it", "double": "twice of it"}[side] if place == 0 else None,
                )  # fmt: skip
        axes.axvline(float(table["as_it_is"].iloc[0]), color=INK, lw=0.8)
        axes.set_yticks(range(len(table)), list(table["what"]))
        axes.invert_yaxis()
        axes.set_xlim(left=0.0)
        axes.set_xlabel(what)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
        mark_modes(axes, {"simulated"})
        attach(axes, table)
    return axes
