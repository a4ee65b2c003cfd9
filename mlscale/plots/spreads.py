"""The size of sigma_t and its components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from mlscale.analysis.moving import WINDOW_S
from mlscale.analysis.summary import summarise
from mlscale.plots.captions import figure
from mlscale.plots.style import (
    INK,
    MUTED,
    attach,
    headline,
    in_order,
    mark_modes,
    marker,
    new_axes,
    shade,
    short_name,
    spread,
    tone,
)
from mlscale.runs import Run

LABELS: Final = {
    "sigma_within_replicas_s2": "within replicas",
    "sigma_between_replicas_s2": "between replicas",
    "sigma_trend_s2": "trend in the window",
    "sigma_bodies_s2": "between bodies",
}
_STRENGTHS: Final = (1.0, 0.65, 0.35, 0.12)
# Parts with a smaller share have no room for their number.
_NAMED_FROM: Final = 0.08


@figure
def sigma(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Axes:
    """sigma_t of right answers after the step: a bar per environment, as long as sigma over all windows, a dot per run.

    The length is the root of the mean sigma_t^2. It is divided as sigma_t^2 is in the windows that could be split, by
    the means over runs; their share, and that of throttled quota periods, stand below. Each part is unbiased, so one
    whose cause is absent can come out a little below 0, and has no area then.
    A run none of whose windows could be split (replica ids unknown) counts for the length alone.
    `plotted`: environment, part, share (of the mean sigma_t^2, a row each), sigma_s, and a row for each run with its
    sigma_s.
    """
    rows = summarise(runs, level_s) if rows is None else rows
    names = in_order(list(rows["environment"]))
    numbers = []
    axes: Axes = new_axes(1, 1, 1.2 + 0.75 * len(names))[0, 0]
    for row, name in enumerate(names):
        numbers.append(_bar(axes, rows[rows["environment"] == name], name, -row))
    axes.set_yticks([-row for row in range(len(names))], [short_name(name).replace(" + ", "\n+ ") for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-len(names) + 0.4, 0.45)
    axes.set_xlim(0.0, 1.14 * axes.get_xlim()[1])
    axes.set_xlabel(r"$\sigma_t$ after the step (ms), divided as $\sigma_t^2$ is")
    parts = [
        Patch(color=shade("#333333", strength), label=label)
        for label, strength in zip(LABELS.values(), _STRENGTHS, strict=True)
    ]
    axes.legend(handles=parts, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(parts), borderaxespad=0.2)
    mark_modes(axes, rows["mode"])
    valid = set(rows.loc[rows["valid"].astype(bool), "environment"])
    named = [bar for name, bar in zip(names, numbers, strict=True) if name in valid]
    headline(axes, _headline(named), rows["mode"])
    return attach(axes, pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame())


def _headline(bars: list[pd.DataFrame]) -> str:
    """The figure's message from what `_bar` drew, smallest first."""
    sigma_s = {str(bar["environment"].iloc[0]): float(bar["sigma_s"].iloc[0]) for bar in bars}
    texts = [f"{short_name(name)} {1000 * sigma_s[name]:.0f} ms" for name in sorted(sigma_s, key=sigma_s.__getitem__)]
    values = ", ".join(texts) or "no valid run"
    return f"Standard deviation within windows of {WINDOW_S:g} s after the step: {values}"


def _bar(axes: Axes, rows: pd.DataFrame, name: str, y: float) -> pd.DataFrame:
    """One environment's bar, the runs' dots above it and a line of text below."""
    sigma_ms = 1000 * float(np.sqrt(rows["sigma_total_s2"].mean()))
    hue = tone(name, rows["valid"])
    parts = rows[list(LABELS)].mean()
    shares = parts / parts.sum()
    widths = shares.clip(lower=0.0) / shares.clip(lower=0.0).sum()
    left = 0.0
    for share, strength in zip(widths.fillna(0.0), _STRENGTHS, strict=True):
        axes.barh(y, sigma_ms * share, 0.36, left=left, color=shade(hue, strength), lw=0)
        if share >= _NAMED_FROM:
            ink = "white" if strength > 0.6 else INK
            axes.text(left + sigma_ms * share / 2, y, f"{share:.0%}", ha="center", va="center", fontsize=8, color=ink)
        left += sigma_ms * share
    axes.barh(y, sigma_ms, 0.36, fc="none", ec=hue, lw=0.9)
    run_ms = 1000 * np.sqrt(rows["sigma_total_s2"].to_numpy(dtype=float))
    axes.plot(
        run_ms,
        y + 0.28 + spread(len(run_ms), 0.1),
        marker(name),
        ms=3.2,
        color=hue,
        alpha=0.65,
        mew=0,
        ls="",
    )
    if np.isfinite(sigma_ms):
        axes.text(sigma_ms, y, f"  {sigma_ms:.0f} ms", va="center", fontsize=10, fontweight="bold", color=INK)
    text = axes.text(0.0, y - 0.22, f" {_note(rows)}", va="top", fontsize=7.2, color=MUTED)
    text.set_in_layout(False)
    by_part = pd.DataFrame({"part": list(LABELS), "share": shares.to_numpy(), "sigma_s": sigma_ms / 1000})
    by_run = pd.DataFrame({"run_id": rows["run_id"], "sigma_s": run_ms / 1000})
    return pd.concat([by_part, by_run], ignore_index=True).assign(environment=name)


def _note(rows: pd.DataFrame) -> str:
    """How many windows the parts speak for and, as METHOD asks beside every sigma, the throttled quota periods."""
    split, throttled = float(rows["windows_split_share"].mean()), float(rows["throttled_share"].mean())
    return "; ".join(
        (
            f"{100 * split:.3g} % of windows split" if split > 0 else "not split",
            f"{100 * throttled:.0f} % of quota periods throttled" if np.isfinite(throttled) else "throttling unknown",
        )
    )
