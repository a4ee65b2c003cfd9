"""Whether a ranking depends on the window W."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mlscale.analysis import design
from mlscale.analysis.verdicts import WINDOW_FIGURES, by_window, window_name
from mlscale.plots.style import (
    INK,
    attach,
    headline,
    invalid_runs,
    mark_modes,
    new_axes,
    ratio_ticks,
    short_name,
    spread,
    style,
)

FIGURES: Final = {
    "m_t": "mean of $m_t$ after the step",
    "sigma_t": r"mean of $\sigma_t$ after the step",
    "T_slo + W": "$T_{slo} + W$",
}
_LINES: Final = ("-", "--", ":", "-.")
_MARKS: Final = ("o", "s", "D", "^")


def window_sensitivity(rows: pd.DataFrame, pairs: list[tuple[str, str]]) -> npt.NDArray[Any]:
    """The ratio of each pair (geometric mean over blocks) with its 95 % interval for every W, one panel per figure.

    A line that crosses 1 is a ranking that depends on W, and no claim; its points are then hollow. A pair that is not
    comparable has no line, and words in the legend. A window that tells nothing of a run has no point.

    Args:
        rows: of `summarise`, one cell.
    Returns:
        Axes, one per figure. `plotted`: of `mlscale.analysis.verdicts.by_window`, without the pairs that are not
        comparable.
    """
    table = by_window(rows, pairs)
    invalid = design.invalid_share(rows)
    refused = design.refused(invalid)
    not_comparable = {f"{a} / {b}": sorted(refused & {a, b}) for a, b in pairs if refused & {a, b}}
    table = table[~table["pair"].isin(not_comparable)]
    comparable = [f"{a} / {b}" for a, b in pairs if f"{a} / {b}" not in not_comparable]
    with style():
        row: npt.NDArray[Any] = new_axes(1, len(FIGURES), 3.3, sharey=True)[0]
        for panel, (figure, title) in zip(row, FIGURES.items(), strict=True):
            figure_rows = table[table["figure"] == figure]
            windows = [window_name(column) for column in WINDOW_FIGURES[figure]]
            panel.axhline(1.0, color=INK, lw=0.8)
            for number, (pair, line) in enumerate(figure_rows.groupby("pair", sort=False)):
                places = np.array([windows.index(window) for window in line["window"]])
                panel.errorbar(
                    places + spread(len(comparable), 0.24)[number],
                    line["ratio"],
                    np.abs(line[["low", "high"]].to_numpy().T - line["ratio"].to_numpy()),
                    fmt=_MARKS[number % len(_MARKS)],
                    ls=_LINES[number % len(_LINES)],
                    color=INK,
                    lw=0.9,
                    elinewidth=2.0,
                    mfc=INK if line["claimable"].all() else "white",
                    ms=5,
                    label=_pair(str(pair)),
                )
            panel.set_yscale("log")
            panel.set_xticks(range(len(windows)), windows)
            panel.set_xlim(-0.4, len(windows) - 0.6)
            panel.set_xlabel("window W")
            panel.set_title(title, fontsize=8.5, fontweight="normal")
            mark_modes(panel, rows["mode"])
            attach(panel, figure_rows.reset_index(drop=True))
        for panel in row:
            _limits(panel, table[["ratio", "low", "high"]].to_numpy(dtype=float))
        row[0].set_ylabel("ratio (log scale), 95 % interval")
        handles, _ = row[0].get_legend_handles_labels()
        if not table["claimable"].all():
            handles.append(Line2D([], [], marker="o", ls="", ms=5, mfc="white", mec=INK, label="hollow: no claim"))
        counts = [invalid_runs(name, *invalid.loc[name, ["invalid", "runs"]].astype(int)) for name in sorted(refused)]
        handles += [Line2D([], [], ls="", label=f"{_pair(pair)}: not comparable") for pair in not_comparable]
        row[0].figure.legend(handles=handles, loc="outside lower center", ncols=2 if len(handles) > 1 else 1)
        excluded = [f"not comparable: {', '.join(counts)}"] if not_comparable else []
        headline(row[0], "; ".join([*_headline(table), *excluded]))
    return row


def _headline(table: pd.DataFrame) -> list[str]:
    """Whether every ranking is the same for all W, or which one is not."""
    unstable = table[~table["claimable"]].drop_duplicates(["pair", "figure"])
    texts = [f"{_pair(line.pair)}: {FIGURES[line.figure]}" for line in unstable.itertuples()]
    if table["ratio"].notna().any():
        return [
            f"the ranking depends on the window W ({', '.join(texts)})"
            if texts
            else "the ranking is the same for every window W"
        ]
    return []


def _pair(pair: str) -> str:
    return " / ".join(short_name(name) for name in pair.split(" / "))


def _limits(panel: Any, ratios: npt.NDArray[np.float64]) -> None:
    """Around what is drawn and 1, whichever side that lies on."""
    known = np.log(ratios[np.isfinite(ratios) & (ratios > 0)])
    pad = 0.08 * max(np.ptp(known) if len(known) else 0.0, np.log(1.5))
    low, high = (float(np.exp(end)) for end in (known.min(initial=0.0) - pad, known.max(initial=0.0) + pad))
    panel.set_ylim(low, high)
    panel.yaxis.set_major_locator(FixedLocator(ratio_ticks(low, high)))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
