"""Whether a ranking depends on the window W."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mlscale.analysis.verdicts import by_window
from mlscale.plots.style import INK, MUTED, attach, mark_modes, new_axes, ratio_ticks, short_name, style

FIGURES: Final = {
    "m_t": "mean of $m_t$ after the step",
    "sigma_t": r"mean of $\sigma_t$ after the step",
    "T_slo + W": "$T_{slo} + W$",
}
_LINES: Final = ("-", "--", ":", "-.")


def window_sensitivity(
    rows: pd.DataFrame,
    pairs: list[tuple[str, str]],
    *,
    with_invalid: bool = False,
    axes: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """The ratio of each pair (geometric mean over blocks) for every W, one panel per figure.

    A line that crosses 1 is a ranking that depends on W, and no claim; its points are then hollow, as those of an
    environment with too many invalid runs are. A window that tells nothing of a run has no point.

    Args:
        rows: of `summarise`, one cell.
    Returns:
        Axes, one per figure. `plotted`: of `mlscale.analysis.verdicts.by_window`.
    """
    table = by_window(rows, pairs, with_invalid=with_invalid)
    with style():
        row = new_axes(1, len(FIGURES), 2.7, sharey=True)[0] if axes is None else axes
        for panel, (figure, title) in zip(row, FIGURES.items(), strict=True):
            mine = table[table["figure"] == figure]
            windows = list(dict.fromkeys(mine["window"]))
            panel.axhline(1.0, color=INK, lw=0.8)
            for number, (pair, line) in enumerate(mine.groupby("pair", sort=False)):
                face = INK if line["claimable"].all() else "white"
                label = " / ".join(short_name(name) for name in str(pair).split(" / "))
                places = [windows.index(window) for window in line["window"]]
                panel.plot(
                    places,
                    line["ratio"],
                    "o",
                    ls=_LINES[number % len(_LINES)],
                    color=MUTED,
                    mfc=face,
                    mec=INK,
                    ms=5,
                    label=label,
                )
            panel.set_yscale("log")
            panel.set_xticks(range(len(windows)), windows)
            panel.set_xlim(-0.4, len(windows) - 0.6)
            panel.set_xlabel("window W")
            panel.set_title(title, fontsize=8.5, fontweight="normal")
            mark_modes(panel, rows["mode"])
            attach(panel, mine.reset_index(drop=True))
        for panel in row:
            _limits(panel, table["ratio"].to_numpy(dtype=float))
        row[0].set_ylabel("ratio (log scale)")
        handles, _ = row[0].get_legend_handles_labels()
        if not table["claimable"].all():
            handles.append(Line2D([], [], marker="o", ls="", ms=5, mfc="white", mec=INK, label="hollow: no claim"))
        row[0].figure.legend(
            handles=handles, loc="outside lower center", ncols=2 if len(handles) > 3 else max(1, len(handles))
        )
    return row


def _limits(panel: Any, ratios: npt.NDArray[np.float64]) -> None:
    known = np.log(ratios[np.isfinite(ratios) & (ratios > 0)])
    reach = max(1.25 * np.abs(known).max(initial=0.0), np.log(1.15))
    panel.set_ylim(np.exp(-reach), np.exp(reach))
    panel.yaxis.set_major_locator(FixedLocator(ratio_ticks(float(np.exp(-reach)), float(np.exp(reach)))))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
