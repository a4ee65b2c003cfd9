"""The twin's figures beside those of live runs, and the verdict on each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullLocator

from mlscale.plots.style import BAND, INK, MUTED, attach, headline, in_order, new_axes, short_name, style
from mlscale_twin.likeness import MARGINS

# Line colour, marker and face colour by verdict; no environment has these colours.
VERDICTS: Final = {
    "equivalent": (INK, "o", INK),
    "inconclusive": (MUTED, "o", "white"),
    "different": ("#B00020", "D", "#B00020"),
}
WORDS: Final = {
    "mean_response_s": "mean response",
    "sd_response_s": "standard deviation",
    "p95_response_s": "95th percentile",
    "light_response_s": "before the step",
    "service_s": "service time",
    "overlooked_share": "waiting while a replica is idle",
    "detection_s": "until the decision",
    "ready_first_s": "first replica ready",
    "ready_last_s": "last replica ready",
    "t_slo_s": "$T_{slo}$",
}


def verdicts(table: pd.DataFrame) -> npt.NDArray[Any]:
    """One column per environment: the twin's figures relative to the live ones, with 90 % intervals, in units of their
    margins, so that the grey band is the same for all: within it is equivalent. Linear within a margin, logarithmic
    beyond.

    Args:
        table: of `mlscale_twin.likeness.likeness`.
    Returns:
        Axes 1 x environments; `plotted`: figure, estimate, low, high, noise (in margins), verdict.
    """
    names = in_order(list(table["environment"]))
    scaled = pd.DataFrame([_in_margins(row) for row in table.to_dict("records")])
    reach = 1.1 * float(scaled[["low", "high", "noise"]].abs().to_numpy().max(initial=1.0))
    counts = table["verdict"].value_counts()
    with style():
        grid = new_axes(1, len(names), 4.4, sharey=True)
        for axes, name in zip(grid[0], names, strict=True):
            figures = scaled[(table["environment"] == name).to_numpy()].reset_index(drop=True)
            axes.axvspan(-1, 1, color=BAND, lw=0, zorder=0)
            axes.axvline(0, color=INK, lw=0.6, zorder=1)
            for y, row in enumerate(figures.to_dict("records")):
                tone, sign, face = VERDICTS[row["verdict"]]
                axes.plot([row["low"], row["high"]], [y, y], color=tone, lw=2.0, solid_capstyle="butt")
                axes.plot(row["estimate"], y, sign, ms=4.5, mec=tone, mfc=face)
                axes.plot([-row["noise"], row["noise"]], [y + 0.3] * 2, color=MUTED, lw=0.8)
            axes.set_yticks(range(len(figures)), [WORDS[figure] for figure in figures["figure"]])
            axes.set_ylim(len(figures) - 0.3, -0.6)
            axes.set_xscale("symlog", linthresh=1, linscale=0.7)
            axes.set_xlim(-reach, reach)
            ticks = [tick for tick in (1, 5, 20, 80) if tick <= reach]
            axes.set_xticks([*(-tick for tick in reversed(ticks)), 0, *ticks])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            live = table[table["environment"] == name]["n"].max()
            axes.set_title(short_name(name).replace(" + ", "\n+ ").replace(" (", "\n("), fontsize=8.5)
            axes.set_xlabel(f"twin - live, in margins\n90 % interval, n = {live}")
            attach(axes, figures)
        for word, (tone, sign, face) in VERDICTS.items():
            grid[0, 0].plot([], [], color=tone, marker=sign, mec=tone, mfc=face, ms=4.5, lw=2.0, label=word)
        grid[0, 0].plot([], [], color=MUTED, lw=0.8, label="variation among live runs")
        grid[0, 0].figure.legend(loc="outside lower center", ncols=4)
        summary = ", ".join(f"{counts.get(word, 0)} {word}" for word in VERDICTS) + f" of {len(table)}"
        headline(grid[0, 0], f"Simulated twin against live runs: {summary}")
    return grid


def _in_margins(row: Mapping[Any, Any]) -> dict[str, Any]:
    relative = MARGINS[str(row["figure"])].relative
    width = np.log1p(row["margin"]) if relative else row["margin"]
    scaled = {name: float(np.log(row[name]) if relative else row[name]) / width for name in ("estimate", "low", "high")}
    noise = float(np.log1p(row["noise"]) if relative else row["noise"]) / width
    return {"figure": row["figure"], "verdict": row["verdict"], "noise": noise, **scaled}
