"""What sigma_t is made of."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.plots.style import (
    attach,
    colour,
    display_name,
    in_order,
    mark_modes,
    marker,
    new_axes,
    spread,
    style,
)

LABELS: Final = {
    "sigma_within_replicas_s2": "within replicas",
    "sigma_between_replicas_s2": "between replicas",
    "sigma_photos_s2": "between photos",
    "sigma_trend_s2": "trend in the window",
}


def sigma_parts(rows: pd.DataFrame, *, axes: Axes | None = None) -> Axes:
    """Parts of sigma_t^2 of right answers (mean over the windows after the step) as shares of it: a dot per run, a
    bar at the mean.

    The parts of a run sum to 1; each is unbiased, so one whose cause is absent scatters around 0.

    Args:
        rows: of `summarise`; runs that could not be split (replica ids unknown) are left out.
    Returns:
        The axes. `plotted`: environment, part, run_id, share.
    """
    names = in_order(list(rows["environment"]))
    numbers = []
    with style():
        if axes is None:
            axes = new_axes(1, 1, 1.0 + 0.45 * len(LABELS))[0, 0]
        height = 0.8 / max(1, len(names))
        for place, column in enumerate(LABELS):
            if place % 2 == 0:
                axes.axhspan(-place - 0.5, -place + 0.5, color="#F4F4F4", lw=0, zorder=0)
            for lane, name in enumerate(names):
                mine = rows[(rows["environment"] == name) & rows["sigma_total_s2"].notna()]
                shares = (mine[column] / mine["sigma_total_s2"]).to_numpy(dtype=float)
                y = -place + 0.4 - height * (lane + 0.5)
                offsets = spread(len(shares), 0.5 * height)
                axes.plot(100 * shares, y + offsets, marker(name), ms=3.6, color=colour(name), alpha=0.65, mew=0, ls="")
                if len(shares):
                    axes.plot(
                        [100 * shares.mean()] * 2, [y - 0.42 * height, y + 0.42 * height], color=colour(name), lw=2.2
                    )
                numbers.append(
                    pd.DataFrame({"environment": name, "part": column, "run_id": mine["run_id"], "share": shares})
                )
        axes.axvline(0.0, color="#555555", lw=0.8, zorder=1)
        axes.set_yticks([-place for place in range(len(LABELS))], list(LABELS.values()))
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-len(LABELS) + 0.5, 0.5)
        axes.set_xlabel(r"share of $\sigma_t^2$ after the step (%)")
        for name in names:
            axes.plot([], [], marker(name), color=colour(name), ls="", ms=5, label=_label(rows, name))
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=1, borderaxespad=0.2)
        mark_modes(axes, rows["mode"])
    return attach(axes, pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame())


def _label(rows: pd.DataFrame, name: str) -> str:
    """Name, sigma_t and, as METHOD asks beside every sigma, the share of throttled quota periods."""
    mine = rows[rows["environment"] == name]
    sigma_ms = 1000 * float(np.sqrt(mine["sigma_total_s2"].mean()))
    throttled = float(mine["throttled_share"].mean())
    told = f"{100 * throttled:.0f} % of quota periods throttled" if np.isfinite(throttled) else "throttling unknown"
    size = f"$\\sigma$ = {sigma_ms:.0f} ms" if np.isfinite(sigma_ms) else "not split"
    return f"{display_name(name)}: {size}, {told}"
