"""What the period of the CPU quota does to the spread of response times, replicas and quota being equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from mlscale.analysis.summary import span
from mlscale.plots.captions import figure
from mlscale.plots.style import INK, MUTED, attach, colour, headline, mark_modes, new_axes
from mlscale.runs import MlscaleError, Run

# Share of the answers that the axis covers.
SHOWN_SHARE: Final = 0.99


@figure
def inference_by_period(runs: Sequence[Run]) -> Axes:
    """Distribution of the server's own inference time before the step, where nothing queues, by quota period.

    Cumulative shares of right answers: thin by run, thick of all runs; the legend has the means over runs of mean and
    standard deviation.

    `plotted`: period_ms, run_id, answers, mean_s, sd_s.
    Raises:
        MlscaleError: a run without a CPU quota.
    """
    if not all(run.info.scaling for run in runs):
        raise MlscaleError("a run has no CPU quota", "quota period", "leave out runs of mlscale load")
    answers = pd.concat([_quiet(run) for run in runs], ignore_index=True)
    rows = answers.groupby(["period_ms", "run_id"])["inference_s"].agg(
        answers="size", mean_s="mean", sd_s=lambda times_s: times_s.std(ddof=0)
    )
    by_period = rows.groupby("period_ms").agg(
        runs=("answers", "size"), answers=("answers", "sum"), mean_s=("mean_s", "mean"), sd_s=("sd_s", "mean")
    )
    by_period = by_period.sort_index(ascending=False)
    tones = dict(zip(by_period.index, (colour(runs[0].info.environment), INK, MUTED), strict=False))
    axes: Axes = new_axes(1, 1, 3.0)[0, 0]
    for (period, _), group in answers.groupby(["period_ms", "run_id"]):
        sns.ecdfplot(1000 * group["inference_s"], stat="percent", color=tones[period], lw=0.5, alpha=0.5, ax=axes)
    for period, row in by_period.iterrows():
        group = answers[answers["period_ms"] == period]
        label = f"period {period:g} ms: mean ± sd {1000 * row['mean_s']:.0f} ± {1000 * row['sd_s']:.0f} ms"
        label += f" ({_count(row['runs'], 'run')}, {_count(row['answers'], 'answer')})"
        sns.ecdfplot(1000 * group["inference_s"], stat="percent", color=tones[period], lw=1.8, label=label, ax=axes)
    _cut(axes, 1000 * answers["inference_s"])
    axes.set_xlabel("inference time in the replica, before the step (ms)")
    axes.set_ylabel("share of answers (%)")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0))
    text = ", ".join(
        f"{1000 * sd_s:.0f} ms with a period of {period:g} ms" for period, sd_s in by_period["sd_s"].items()
    )
    modes = [run.info.mode for run in runs]
    headline(axes, f"standard deviation of the inference time: {text}", modes)
    mark_modes(axes, modes)
    return attach(axes, rows.reset_index().sort_values("period_ms", ascending=False, ignore_index=True))


def period_ms(run: Run) -> float:
    """The quota's period, ms."""
    return 1000 * float(next(iter(run.info.scaling.values()))["cpu_period_s"])


def _quiet(run: Run) -> pd.DataFrame:
    """Inference times of right answers before the step (of all, if the run has no step), s."""
    until_s = span(run)[0] if run.info.step_s is not None else np.inf
    right = run.requests[(run.requests["status"] == "ok") & (run.requests["done_s"] < until_s)]
    return right[["inference_s"]].dropna().assign(period_ms=period_ms(run), run_id=run.info.run_id)


def _cut(axes: Axes, times_ms: pd.Series) -> None:
    """End the axis at `SHOWN_SHARE` of the answers, and say how many lie beyond."""
    end_ms = float(times_ms.quantile(SHOWN_SHARE))
    cut_off = int((times_ms > end_ms).sum())
    axes.set_xlim(0.0, end_ms)
    if cut_off:
        text = f"{_count(cut_off, 'answer')} beyond, up to {times_ms.max():.0f} ms →"
        axes.annotate(text, (1.0, 0.42), xycoords="axes fraction", ha="right", fontsize=8, color=INK)


def _count(number: float, noun: str) -> str:
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"
