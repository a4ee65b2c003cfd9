"""An application whole and in components: what theory expects, what was measured, and where a request's time goes."""

from __future__ import annotations

from textwrap import fill
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from mlscale.plots.style import (
    BAND,
    INK,
    MUTED,
    attach,
    colour,
    display_name,
    headline,
    in_order,
    marker,
    new_axes,
    plain_log_ticks,
    short_name,
    spread,
    style,
)
from mlscale_paper.partition_theory import Way, capacity_rps, expected_response_s

_WAY_COLOURS: Final = {"whole": "#222222", "overlapping": "#44AA99", "blocking": "#882255"}
_WAY_NAMES: Final = {
    "whole": "whole",
    "overlapping": "split, the front end overlaps its calls",
    "blocking": "split, the front end waits for its calls",
}
_PAPER: Final = {"fc": "white", "ec": "none", "pad": 0.5}
_PART_COLOURS: Final = {
    "app waits": "#DCDCDC",
    "app works": "#222222",
    "localiser waits": "#DCC0CF",
    "localiser works": "#882255",
    "readers waits": "#C7E6E0",
    "readers works": "#44AA99",
    "rest": "#EFEFEF",
}


def expected(services_s: tuple[float, float], replicas: tuple[int, int], *, whole_s: float | None = None) -> Axes:
    """Mean response that `mlscale_paper.partition_theory` expects against the rate of requests, for each way.

    Args:
        services_s: of the localiser and the readers, a request's time in service, s.
        replicas: of both where they are split; the whole application has as many in all.
        whole_s: as of `expected_response_s`.
    """
    with style():
        ax: Axes = new_axes(1, 1, 2.9)[0, 0]
        highest_rps = capacity_rps("whole", services_s, replicas, whole_s)
        rates = np.linspace(0.02 * highest_rps, 0.98 * highest_rps, 97)
        rows = []
        for way in _WAY_NAMES:
            typed: Way = way  # type: ignore[assignment]
            means = np.array([expected_response_s(typed, rate, services_s, replicas, whole_s) for rate in rates])
            ax.plot(rates, np.where(np.isfinite(means), means, np.nan), color=_WAY_COLOURS[way], label=_WAY_NAMES[way])
            rows.append(pd.DataFrame({"way": way, "rate_rps": rates, "response_s": means}))
        ax.set_ylim(0, 6 * sum(services_s))
        ax.set_xlabel("requests per second")
        ax.set_ylabel("mean response (s)")
        ax.legend()
        whole, overlapping, blocking = (capacity_rps(way, services_s, replicas, whole_s) for way in _WAY_NAMES)  # type: ignore[arg-type]
        most = f"{whole:.1f} requests/s whole, {overlapping:.1f} split, {blocking:.1f} if the front waits"
        headline(ax, f"Expected of {sum(replicas)} replicas: at most {most}")
        numbers = pd.concat(rows, ignore_index=True)
        return attach(ax, numbers[np.isfinite(numbers["response_s"])].reset_index(drop=True))


def measured(table: pd.DataFrame) -> npt.NDArray[Any]:
    """Each run as a point: mean response by load stage, and correct answers per second in the last stage.

    ``table``: `mlscale_paper.partition_runs.shown_ways`.
    """
    stages = list(dict.fromkeys(table["stage"]))
    with style():
        grid = new_axes(1, len(stages) + 1, 2.7)
        columns = grid.ravel()
        for ax, stage in zip(columns, stages, strict=False):
            _points(ax, table[table["stage"] == stage], "mean_response_s")
            ax.set_title(f"{stage} load")
            ax.set_ylabel("mean response (s)")
        _points(columns[-1], table[table["stage"] == stages[-1]], "answers_rps")
        columns[-1].set_title(f"{stages[-1]} load")
        columns[-1].set_ylabel("correct answers per second")
        columns[-1].legend(loc="best")
        answers = table[table["stage"] == stages[-1]].groupby(["environment", "way"], sort=False)["answers_rps"].mean()
        texts = [f"{short_name(name)} {way} {rps:.1f}" for (name, way), rps in answers.items()]
        headline(grid[0, 0], f"correct answers per second, {stages[-1]} load: {', '.join(texts)}")
    return grid


def _points(ax: Axes, rows: pd.DataFrame, column: str) -> None:
    ways = list(dict.fromkeys(rows["way"]))
    names = in_order(list(rows["environment"].unique()))
    for name, offset in zip(names, spread(len(names), 0.3), strict=True):
        env_rows = rows[rows["environment"] == name]
        at = [ways.index(way) + offset for way in env_rows["way"]]
        ax.plot(
            at, env_rows[column], marker(name), color=colour(name), ms=5, mec="white", mew=0.5, label=display_name(name)
        )
    ax.set_xticks(range(len(ways)), [way.replace(", ", ",\n") for way in ways])
    ax.set_xlim(-0.5, len(ways) - 0.5)
    ax.set_ylim(0, 1.15 * float(rows[column].max()) if len(rows) and np.isfinite(rows[column].max()) else 1.0)
    ax.grid(axis="y", color=BAND, lw=0.5)
    attach(ax, rows[["environment", "way", "stage", column]].reset_index(drop=True))


def compared(table: pd.DataFrame) -> npt.NDArray[Any]:
    """Partitioned over whole, a panel an endpoint, a row an environment: hollow dots are blocks, the filled mark is
    their geometric mean with its 95 % t interval.

    Args:
        table: `mlscale_paper.partition_runs.compared_ways`.
    Returns:
        Axes 1 x endpoints; `plotted`: environment, n_blocks, ratio, low, high, by_block.
    """
    names, labels = in_order(list(table["environment"])), list(dict.fromkeys(table["label"]))
    known = [
        *table[["low", "high"]].to_numpy().ravel(),
        *(each for blocks in table["by_block"] for each in blocks),
        1.0,
    ]
    low, high = float(np.nanmin(known)) / 1.05, float(np.nanmax(known)) * 1.05
    with style():
        grid = new_axes(1, len(labels), 1.3 + 0.5 * len(names), sharex=True, sharey=True)
        for axes, label in zip(grid[0], labels, strict=True):
            rows = table[table["label"] == label].set_index("environment").loc[names]
            axes.axvline(1.0, color=INK, lw=0.8)
            for place, (name, row) in enumerate(rows.iterrows()):
                _ratio(axes, place, str(name), row)
            axes.set_title(label)
            attach(axes, rows[["n_blocks", "ratio", "low", "high", "by_block"]].reset_index())
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        plain_log_ticks(axes.xaxis)
        first = table[table["label"] == labels[0]].set_index("environment").loc[names]
        axes.set_yticks(
            range(len(names)), [f"{short_name(name)}\nn = {first['n_blocks'][name]} blocks" for name in names]
        )
        axes.set_ylim(len(names) - 0.5, -0.5)
        grid[0, len(labels) // 2].set_xlabel(
            "partitioned / whole: mean with its 95 % t interval; hollow: single blocks"
        )
        texts = [f"{short_name(name)} x {ratio:.2f}" for name, ratio in first["ratio"].dropna().items()]
        headline(axes, f"{labels[0].capitalize()}, partitioned / whole: {', '.join(texts) or 'not comparable'}")
    return grid


def _ratio(axes: Axes, place: int, name: str, row: pd.Series) -> None:
    if not np.isfinite(row["ratio"]):
        why = fill(f"{row['verdict']}: {row['notes']}", 32)
        transform = axes.get_yaxis_transform()
        text = axes.text(0.02, place, why, transform=transform, va="center", fontsize=7, color=MUTED, bbox=_PAPER)
        text.set_in_layout(False)
        return
    axes.plot([row["low"], row["high"]], [place, place], color=colour(name), lw=2.0, solid_capstyle="butt")
    axes.plot(row["ratio"], place, marker(name), color=colour(name), ms=6)
    blocks = row["by_block"]
    axes.plot(blocks, place + 0.22 + spread(len(blocks), 0.1), "o", ms=3, mec=colour(name), mfc="white", ls="")
    axes.annotate(
        f"{row['ratio']:.2f}", (row["ratio"], place), (0, 6), textcoords="offset points", ha="center", fontsize=8
    )


def time_parts(table: pd.DataFrame) -> npt.NDArray[Any]:
    """Mean response of each way, stacked by where it went; a row of axes for each load stage.

    ``table``: `mlscale_paper.partition_runs.where_time_goes`.
    """
    stages = list(dict.fromkeys(table["stage"]))
    parts = [name for name in _PART_COLOURS if name in table.columns]
    with style():
        grid = new_axes(len(stages), 1, 0.6 + 1.5 * len(stages))
        for ax, stage in zip(grid.ravel(), stages, strict=True):
            rows = table[table["stage"] == stage].reset_index(drop=True)
            labels = [f"{display_name(row.environment)}, {row.way}" for row in rows.itertuples()]
            bars = rows[parts].set_axis(labels)
            bars.plot.barh(ax=ax, stacked=True, color=_PART_COLOURS, width=0.8, ec="white", lw=0.5, legend=False)
            ax.invert_yaxis()
            ax.set_title(f"{stage} load")
            ax.tick_params(axis="y", labelcolor=INK)
            attach(ax, rows)
        last = grid.ravel()[-1]
        last.set_xlabel("mean response time (s)")
        last.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.4, -0.35))
    return grid
