"""The comparison as an estimation plot: runs as points, paired; effects with intervals; the noise floor; p last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from mlscale.analysis import design
from mlscale.analysis.inference import PRIMARY, Endpoint
from mlscale.plots.style import (
    BAND,
    INK,
    MUTED,
    attach,
    colour,
    in_order,
    mark_modes,
    marker,
    new_axes,
    ratio_ticks,
    short_name,
    style,
)

_WIDEST: Final = 25.0
_TICK_STEPS: Final = ((1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8))
_FEWEST_TICKS: Final = 3
"""Of the first of these steps, within a power of ten, that give so many."""
_TITLES: Final = {"T_slo + W": r"$\mathbf{T_{slo}}$ + W"}


def estimation(
    rows: pd.DataFrame,
    table: pd.DataFrame,
    endpoints: Sequence[Endpoint] = PRIMARY,
    *,
    with_invalid: bool = False,
    axes: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """One column per endpoint: above every run, blocks joined by lines; below each pair's ratio with its intervals.

    Args:
        rows: of `summarise`, as given to `compare`; table: what `compare` made of them.
    Returns:
        Axes, 2 x endpoints. `plotted`: endpoint, environment, block, value (s) for the upper row; the plotted
        columns of ``table`` for the lower one.
    """
    selected = design.chosen(rows, with_invalid=with_invalid)
    pairs = max(1, table["pair"].nunique()) if len(table) else 1
    with style():
        if axes is None:
            axes = new_axes(
                2, len(endpoints), 3.2 + 0.8 * pairs, gridspec_kw={"height_ratios": [2.3, 0.75 + 0.5 * pairs]}
            )
        for column, endpoint in enumerate(endpoints):
            runs_panel(axes[0, column], selected, endpoint)
            effect_panel(axes[1, column], table[table["endpoint"] == endpoint.name], names=column == 0)
            axes[0, column].set_title(f"{endpoint.name}: {_TITLES.get(endpoint.label, endpoint.label)}")
            mark_modes(axes[0, column], rows["mode"])
        axes[0, 0].set_ylabel("seconds (log scale)")
        _explain(axes)
    return axes


def runs_panel(axes: Axes, selected: pd.DataFrame, endpoint: Endpoint) -> Axes:
    """Every run of one endpoint, the runs of a block joined; A/A repeats hollow; a bar at the geometric mean."""
    names = in_order(list(selected["environment"]))
    wide = design.by_block(selected, endpoint.column).reindex(columns=names)
    for _, block in wide.iterrows():
        axes.plot(range(len(names)), block.to_numpy(dtype=float), color=MUTED, lw=0.6, alpha=0.6, zorder=1)
    for place, name in enumerate(names):
        values = wide[name].dropna().to_numpy(dtype=float)
        axes.plot(
            [place] * len(values), values, marker(name), ms=4.5, mfc=colour(name), mec="white", mew=0.5, zorder=3, ls=""
        )
        if len(values):
            middle = float(np.exp(np.log(values).mean()))
            axes.plot([place - 0.22, place + 0.22], [middle] * 2, color=INK, lw=1.6, zorder=4, solid_capstyle="butt")
    again = selected[selected["aa_label"] == "B"]
    for name, value in zip(again["environment"], again[endpoint.column], strict=True):
        axes.plot(names.index(name) + 0.13, value, marker(name), ms=4, mfc="none", mec=colour(name), mew=0.9, zorder=2)
    axes.set_xlim(-0.5, len(names) - 0.5)
    crowded = len(names) > 2
    labels = [short_name(name).replace(" + ", "\n+ ") for name in names]
    labels = [label.replace(" (", "\n(").replace("y S", "y\nS") if crowded else label for label in labels]
    axes.set_xticks(range(len(names)), labels, fontsize=6.5 if crowded else 8)
    axes.set_yscale("log")
    _plain_log_ticks(axes)
    numbers = selected[["environment", "block", "aa_label", endpoint.column]]
    return attach(axes, numbers.rename(columns={endpoint.column: "value"}).assign(endpoint=endpoint.name))


def effect_panel(axes: Axes, effects: pd.DataFrame, *, names: bool = True) -> Axes:
    """Ratios of one endpoint: thick 95 %, thin simultaneous interval, band: where a ratio lies when nothing differs."""
    for place, effect in enumerate(effects.to_dict(orient="records")):
        y = -place
        if np.isfinite(effect["aa_low"]):
            axes.fill_betweenx([y - 0.33, y + 0.33], effect["aa_low"], effect["aa_high"], color=BAND, lw=0, zorder=0)
        if np.isfinite(effect["ratio"]):
            axes.plot([effect["sim_low"], effect["sim_high"]], [y, y], color=INK, lw=1.0, zorder=2)
            axes.plot([effect["low"], effect["high"]], [y, y], color=INK, lw=3.0, zorder=2, solid_capstyle="butt")
            axes.plot(effect["ratio"], y, "o", ms=5.5, color=INK, mec="white", mew=0.8, zorder=3)
        axes.annotate(
            _effect_text(effect),
            (0.0, y + 0.36),
            xycoords=("axes fraction", "data"),
            va="bottom",
            fontsize=7.2,
            color=INK,
        )
        axes.plot([1.0, 1.0], [y - 0.45, y + 0.36], color=INK, lw=0.8, zorder=1)
    axes.set_xscale("log")
    _ratio_limits(axes, effects)
    axes.set_ylim(-len(effects) + 0.45, 0.85)
    labels = [f"{short_name(effect.a)} /\n{short_name(effect.b)}" for effect in effects.itertuples()] if names else []
    axes.set_yticks([-k for k in range(len(labels))], labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("ratio (log scale)")
    return attach(axes, effects.reset_index(drop=True))


def _explain(axes: npt.NDArray[Any]) -> None:
    handles = [
        Line2D([], [], marker="o", ls="", ms=4.5, color=MUTED, label="run"),
        Line2D([], [], marker="o", ls="", ms=4, mfc="none", mec=MUTED, label="second run of an A/A pair"),
        Line2D([], [], color=MUTED, lw=0.6, label="same block"),
        Line2D([], [], color=INK, lw=1.6, label="geometric mean"),
        Line2D([], [], color=INK, lw=3.0, label="95 % interval"),
        Line2D([], [], color=INK, lw=1.0, label="simultaneous (in brackets)"),
        Patch(color=BAND, label="A/A floor: nothing differs"),
    ]
    axes[0, 0].figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7.5, handlelength=1.6)


def _effect_text(effect: dict[str, Any]) -> str:
    if not np.isfinite(effect["ratio"]):
        return str(effect["verdict"])
    if not np.isfinite(effect["sim_low"]):
        return f"{effect['ratio']:.2f}, no interval ({effect['n_blocks']} block)"
    text = f"{effect['ratio']:.2f} [{effect['sim_low']:.2f}, {effect['sim_high']:.2f}]"
    if np.isfinite(effect["p_holm"]):
        text += f", p {_p_text(effect['p_holm'])}"
    return text


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _ratio_limits(axes: Axes, effects: pd.DataFrame) -> None:
    values = effects[["ratio", "sim_low", "sim_high", "aa_low", "aa_high"]].to_numpy(dtype=float).ravel()
    known = np.log(values[np.isfinite(values) & (values > 0)])
    pad = float(np.exp(0.12 * np.abs(known).max(initial=0.0)))
    low = min(max(float(np.exp(known.min(initial=0.0))) / pad, 1 / _WIDEST), 1 / 1.15)
    high = max(min(float(np.exp(known.max(initial=0.0))) * pad, _WIDEST), 1.15)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ratio_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _plain_log_ticks(axes: Axes) -> None:
    low, high = axes.get_ylim()
    for steps in _TICK_STEPS:
        ticks = [step * 10.0**power for power in range(-4, 4) for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= _FEWEST_TICKS:
            break
    else:  # so narrow that it is as good as linear
        inside = [tick for tick in MaxNLocator(8).tick_values(low, high) if low <= tick <= high]
    axes.yaxis.set_major_locator(FixedLocator(inside))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
