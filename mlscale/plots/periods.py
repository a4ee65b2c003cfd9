"""What the period of the CPU quota does to the spread of response times, replicas and quota being equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.summary import span
from mlscale.plots.style import attach, mark_modes, new_axes, style
from mlscale.runs import Run

_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def inference_by_period(runs: Sequence[Run], *, axes: Axes | None = None) -> Axes:
    """Distribution of the server's own inference time before the step, where nothing queues, by quota period.

    Cumulative shares of right answers; the legend has mean and standard deviation.

    Returns:
        The axes. `plotted`: period_ms, run_id, answers, mean_s, sd_s.
    """
    numbers: list[dict[str, Any]] = []
    with style():
        if axes is None:
            axes = new_axes(1, 1, 2.7)[0, 0]
        for place, run in enumerate(sorted(runs, key=period_ms, reverse=True)):
            times_s = np.sort(_quiet(run))
            if not len(times_s):
                continue
            mean_s, sd_s = float(times_s.mean()), float(times_s.std())
            label = f"{period_ms(run):g} ms: {1000 * mean_s:.0f} ± {1000 * sd_s:.0f} ms (n = {len(times_s)})"
            shares = 100 * np.arange(1, len(times_s) + 1) / len(times_s)
            axes.step(1000 * times_s, shares, where="post", color=_COLOURS[place % len(_COLOURS)], label=label)
            row = {"period_ms": period_ms(run), "run_id": run.info.run_id, "answers": len(times_s)}
            numbers.append(row | {"mean_s": mean_s, "sd_s": sd_s})
        axes.set_xlabel("inference time in the replica, before the step (ms)")
        axes.set_ylabel("share of answers (%)")
        axes.set_xlim(left=0.0)
        axes.legend(title="period of the quota: mean ± sd", loc="lower right")
        mark_modes(axes, [run.info.mode for run in runs])
    return attach(axes, pd.DataFrame(numbers))


def period_ms(run: Run) -> float:
    """The quota's period, ms."""
    return 1000 * float(next(iter(run.info.scaling.values()))["cpu_period_s"])


def _quiet(run: Run) -> Any:
    """Inference times of right answers before the step, s; of a run without a step all of them."""
    until_s = span(run)[0] if run.info.step_s is not None else np.inf
    right = run.requests[(run.requests["status"] == "ok") & (run.requests["done_s"] < until_s)]
    return right["inference_s"].dropna().to_numpy(dtype=float)
