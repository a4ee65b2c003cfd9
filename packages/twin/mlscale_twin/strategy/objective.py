"""The objective of a strategy, and by how much its figures miss it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Final

from mlscale.analysis.paired import t_quantile
from mlscale.errors import MlscaleError

# Share of requests that may be slow where a 95th percentile is asked for.
SHARE_SLOW: Final = 0.05
# Share of requests that may fail unless another is asked for.
ERROR_BUDGET: Final = 0.001


@dataclass(frozen=True)
class Figures:
    """Of one strategy over the trace.

    ``slow``: share of requests over the objective's limit, failed ones included; ``mean_s``, ``sd_s``: of answered
    requests; ``failed``: share without an answer; ``replicas``, ``machines``: on average; ``peak``: most replicas;
    ``at_error``: the same if the live system is slower than the twin by its largest error in a comparison with live
    runs (None: never compared, or an approximate stage).
    """

    slow: float
    mean_s: float
    sd_s: float
    failed: float
    usd_per_month: float
    replicas: float
    peak: int
    machines: float = 0.0
    at_error: Figures | None = None


@dataclass(frozen=True)
class Objective:
    """Everything that is given must hold.

    Args:
        p95_s, mean_s, sigma_s: of response times, at most, s. error_budget: share of requests that may fail.
        max_usd_per_month: what it may cost.

    Raises:
        MlscaleError: no response time is given, or a value that nothing can meet.
    """

    p95_s: float | None = None
    mean_s: float | None = None
    sigma_s: float | None = None
    error_budget: float = ERROR_BUDGET
    max_usd_per_month: float | None = None

    def __post_init__(self) -> None:
        if self.p95_s is None and self.mean_s is None and self.sigma_s is None:
            raise MlscaleError("no response time is given", "objective", "give --p95, --mean or --sigma, in seconds")
        for name, option in _OPTIONS.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise MlscaleError(f"{value:g} cannot be met", option, "give a number above 0")
        if self.error_budget >= 1:
            raise MlscaleError(f"{self.error_budget:g} lets every request fail", "--error-budget", "such as 0.001")

    @property
    def limit_s(self) -> float:
        """A request that takes longer is slow, s: the percentile, else the mean, else sigma that is asked for."""
        return next(value for value in (self.p95_s, self.mean_s, self.sigma_s) if value is not None)

    def excess(self, figures: Figures) -> float:
        """0 if everything holds; else by how much the worst is missed, relative to what is asked for."""
        return max(0.0, self.margin(figures))

    def margin(self, figures: Figures) -> float:
        """The same, and below 0 where everything holds: by how much the worst could be worse."""
        asked = [
            (SHARE_SLOW if self.p95_s is not None else None, figures.slow),
            (self.mean_s, figures.mean_s),
            (self.sigma_s, figures.sd_s),
            (self.error_budget, figures.failed),
            (self.max_usd_per_month, figures.usd_per_month),
        ]
        return max(value / limit - 1 for limit, value in asked if limit is not None)

    def interval(self, runs: Sequence[Figures]) -> tuple[float, float]:
        """Ends of the 95 % interval of the mean `margin` over runs that differ by their seed alone (Student's t)."""
        margins = [self.margin(figures) for figures in runs]
        middle = fmean(margins)
        if len(margins) < 2:
            return middle, middle
        half = t_quantile(0.975, len(margins) - 1) * stdev(margins) / math.sqrt(len(margins))
        return middle - half, middle + half


def mean_of(runs: Sequence[Figures]) -> Figures:
    """The means over runs with different seeds; the highest peak."""
    names = ("slow", "mean_s", "sd_s", "failed", "usd_per_month", "replicas", "machines")
    worse = [figures.at_error for figures in runs if figures.at_error is not None]
    return replace(
        runs[0],
        **{name: fmean(getattr(figures, name) for figures in runs) for name in names},
        peak=max(figures.peak for figures in runs),
        at_error=mean_of(worse) if worse else None,
    )


_OPTIONS: Final = {
    "p95_s": "--p95",
    "mean_s": "--mean",
    "sigma_s": "--sigma",
    "error_budget": "--error-budget",
    "max_usd_per_month": "--max-usd-per-month",
}


def pareto_front(figures: Sequence[Figures]) -> list[int]:
    """Places of the figures that no others beat in both cost and share of slow requests, the cheapest first."""
    order = sorted(range(len(figures)), key=lambda place: (figures[place].usd_per_month, figures[place].slow))
    lowest, front = math.inf, []
    for place in order:
        if figures[place].slow < lowest:
            lowest = figures[place].slow
            front.append(place)
    return front
