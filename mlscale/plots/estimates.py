"""The comparison as an estimation plot: effects with intervals, the noise floor and p; below them the runs, paired."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mlscale.analysis import design
from mlscale.analysis.endpoints import PRIMARY, Endpoint
from mlscale.analysis.inference import compare
from mlscale.analysis.summary import summarise
from mlscale.plots.captions import figure
from mlscale.plots.style import (
    BAND,
    INK,
    MUTED,
    NOT_VALID,
    attach,
    colour,
    headline,
    in_order,
    invalid_runs,
    mark_modes,
    marker,
    new_axes,
    plain_log_ticks,
    short_name,
)
from mlscale.runs import MlscaleError, Run

_WIDEST: Final = 25.0
_TITLES: Final = {"T_slo + W": r"$\mathbf{T_{slo}}$ + W"}


@figure
def estimation(
    runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None, table: pd.DataFrame | None = None
) -> npt.NDArray[Any]:
    """A column per primary endpoint: above, each pair's ratio with its intervals; below, every run, joined by block.

    A pair that is not comparable has neither ratio nor noise floor, and words for it.
    ``table``: of `mlscale.compare` over the rows.
    `plotted`: the plotted columns of ``table`` for the upper row; endpoint, environment,
        block, value (s) for the lower one.
    Raises:
        MlscaleError: one environment alone.
    """
    rows = summarise(runs, level_s) if rows is None else rows
    table = compare(rows) if table is None else table
    if table.empty:
        raise MlscaleError("one environment alone: there is nothing to compare", "estimation", "name runs of another")
    effects = with_words(table, rows)
    pairs = max(1, effects["pair"].nunique())
    axes = new_axes(2, len(PRIMARY), 3.2 + 0.72 * pairs, height_ratios=[0.62 * pairs + 0.2, 2.0])
    headline(axes[0, 0], _headline(effects[effects["endpoint"] == PRIMARY[0].name], PRIMARY[0]), rows["mode"])
    for column, endpoint in enumerate(PRIMARY):
        effect_panel(axes[0, column], effects[effects["endpoint"] == endpoint.name], names=column == 0)
        runs_panel(axes[1, column], rows, endpoint)
        axes[0, column].set_title(f"{endpoint.name}: {_TITLES.get(endpoint.label, endpoint.label)}")
        mark_modes(axes[1, column], rows["mode"])
    axes[1, 0].set_ylabel("seconds (log scale)")
    _explain(axes, rows, effects)
    return axes


def runs_panel(axes: Axes, rows: pd.DataFrame, endpoint: Endpoint) -> Axes:
    """Every run of one endpoint, the runs of a block joined; A/A repeats hollow; a bar at the geometric mean; invalid
    runs, which are in no ratio, as grey crosses."""
    names = in_order(list(rows["environment"]))
    selected = design.chosen(rows)
    wide = design.by_block(selected, endpoint.column).reindex(columns=names)
    for _, block in wide.iterrows():
        axes.plot(range(len(names)), block.to_numpy(dtype=float), color=MUTED, lw=0.6, alpha=0.6, zorder=1)
    invalid = rows[~rows["run_id"].isin(selected["run_id"]) & ~rows["valid"].astype(bool)]
    for x, name in enumerate(names):
        values = wide[name].dropna().to_numpy(dtype=float)
        axes.plot(
            [x] * len(values), values, marker(name), ms=4.5, mfc=colour(name), mec="white", mew=0.5, zorder=3, ls=""
        )
        if len(values) > 1:
            middle = float(np.exp(np.log(values).mean()))
            axes.plot([x - 0.22, x + 0.22], [middle] * 2, color=INK, lw=1.6, zorder=4, solid_capstyle="butt")
        invalid_values = invalid.loc[invalid["environment"] == name, endpoint.column].to_numpy(dtype=float)
        axes.plot([x - 0.18] * len(invalid_values), invalid_values, "x", ms=3.5, color=NOT_VALID, zorder=2)
    repeats = selected[selected["aa_label"] == "B"]
    for name, value in zip(repeats["environment"], repeats[endpoint.column], strict=True):
        axes.plot(names.index(name) + 0.16, value, marker(name), ms=4, mfc="none", mec=colour(name), mew=0.9, zorder=2)
    axes.set_xlim(-0.5, len(names) - 0.5)
    labels = [short_name(name).replace(" + ", "\n+ ").replace(" (", "\n(").replace("y S", "y\nS") for name in names]
    axes.set_xticks(range(len(names)), labels, fontsize=7)
    for name, tick in zip(names, axes.get_xticklabels(), strict=True):
        tick.set_color(INK if name in set(selected["environment"]) else NOT_VALID)
    axes.set_yscale("log")
    plain_log_ticks(axes.yaxis)
    numbers = selected[["environment", "block", "aa_label", endpoint.column]]
    return attach(axes, numbers.rename(columns={endpoint.column: "value"}).assign(endpoint=endpoint.name))


def effect_panel(axes: Axes, effects: pd.DataFrame, *, names: bool = True) -> Axes:
    """Ratios of one endpoint: thick 95 %, thin simultaneous interval, band: where a ratio lies when nothing differs.

    ``effects``: of `compare`, with ``words`` where a pair has no ratio.
    """
    for row, effect in enumerate(effects.to_dict(orient="records")):
        y = -row
        if not effect["words"]:
            if np.isfinite(effect["aa_low"]):
                axes.fill_betweenx([y - 0.3, y + 0.2], effect["aa_low"], effect["aa_high"], color=BAND, lw=0, zorder=0)
            axes.plot([effect["sim_low"], effect["sim_high"]], [y - 0.05] * 2, color=INK, lw=1.0, zorder=2)
            ends = [effect["low"], effect["high"]]
            axes.plot(ends, [y - 0.05] * 2, color=INK, lw=3.6, zorder=2, solid_capstyle="butt")
            axes.plot(effect["ratio"], y - 0.05, "o", ms=6, color=INK, mec="white", mew=0.8, zorder=3)
            axes.plot([1.0, 1.0], [y - 0.4, y + 0.2], color=INK, lw=0.8, zorder=1)
        has_ratio = not effect["words"]
        if not has_ratio and not names:  # said once, in the first column, for all of them
            continue
        axes.annotate(
            _effect_text(effect) if has_ratio else effect["words"],
            (0.0, y + (0.27 if has_ratio else 0.0)),
            xycoords=("axes fraction", "data"),
            va="bottom" if has_ratio else "center",
            fontsize=7.3,
            fontweight="bold" if has_ratio else "normal",
            color=INK if has_ratio else MUTED,
        ).set_in_layout(False)
    axes.patch.set_visible(False)  # words may reach over the next panel
    axes.set_xscale("log")
    _ratio_limits(axes, effects[effects["words"] == ""])
    axes.set_ylim(-len(effects) + 0.5, 0.65)
    labels = [f"{short_name(effect.a)} /\n{short_name(effect.b)}" for effect in effects.itertuples()] if names else []
    axes.set_yticks([-k for k in range(len(labels))], labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if (effects["words"] == "").any():
        axes.set_xlabel("ratio (log scale)")
    else:
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
    return attach(axes, effects.reset_index(drop=True))


def with_words(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """``table`` with the column ``words``, why a pair has no ratio (empty where it has one); such pairs come last."""
    effects = table.assign(words=[_why_not(effect, rows) for effect in table.to_dict(orient="records")])
    return effects.sort_values("words", key=lambda words: words != "", kind="stable")


def _why_not(effect: Mapping[Hashable, Any], rows: pd.DataFrame) -> str:
    """Why a pair has no ratio, in words; empty where it has one."""
    if np.isfinite(effect["ratio"]):
        return ""
    invalid = design.invalid_share(rows)
    refused = [name for name in (effect["a"], effect["b"]) if name in design.refused(invalid)]
    counts = [invalid_runs(name, invalid.loc[name, "invalid"], invalid.loc[name, "runs"]) for name in refused]
    return f"not comparable: {' and '.join(counts)}" if counts else "no block has valid runs of both"


def _headline(effects: pd.DataFrame, endpoint: Endpoint) -> str:
    """What the first endpoint's ratios say, each with its 95 % interval."""
    texts = []
    for effect in effects[effects["words"] == ""].to_dict(orient="records"):
        a, b, ratio = short_name(effect["a"]), short_name(effect["b"]), effect["ratio"]
        text = f"{a} {ratio:.{1 if ratio > 1 else 2}f} times {b}"
        if not np.isfinite(effect["low"]):
            text += ", in one block"
        elif not effect["favours"]:
            text = f"no difference shown between {a} and {b}"
        texts.append(text)
    start = [f"{endpoint.label} after the load step: {', '.join(texts)}"] if texts else []
    return "; ".join([*start, *dict.fromkeys(effects.loc[effects["words"] != "", "words"])])


def _explain(axes: npt.NDArray[Any], rows: pd.DataFrame, table: pd.DataFrame) -> None:
    paired = rows["block"].nunique() > 1
    run = "run (lines: same block; bar: geometric mean)" if paired else "run (lines: same block)"
    handles: list[Artist] = [Line2D([], [], marker="o", ls="", ms=4.5, color=MUTED, label=run)]
    if (rows["aa_label"] == "B").any():
        handles.append(
            Line2D([], [], marker="o", ls="", ms=4, mfc="none", mec=MUTED, label="second run of an A/A pair")
        )
    if not rows["valid"].all():
        handles.append(
            Line2D([], [], marker="x", ls="", ms=3.5, color=NOT_VALID, label="invalid run, not in the ratios")
        )
    if table["low"].notna().any():
        handles = [
            Line2D([], [], color=INK, lw=3.6, label="95 % interval (in brackets)"),
            Line2D([], [], color=INK, lw=1.0, label="simultaneous interval, all ratios together"),
            Patch(color=BAND, label="A/A floor: nothing differs"),
            *handles,
        ]
    axes[0, 0].figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7.5, handlelength=1.6)


def _effect_text(effect: dict[Hashable, Any]) -> str:
    if not np.isfinite(effect["low"]):
        return f"{effect['ratio']:.2f}, no interval ({effect['n_blocks']} block{'s' * (effect['n_blocks'] > 1)})"
    text = f"{effect['ratio']:.2f} [{effect['low']:.2f}, {effect['high']:.2f}]"
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
    plain_log_ticks(axes.xaxis)
