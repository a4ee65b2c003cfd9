"""The objective of a strategy, and by how much its figures miss it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any, Final

from mlscale.analysis.paired import t_quantile
from mlscale.errors import MlscaleError

# Share of requests that may be slow where a 95th percentile is asked for.
SHARE_SLOW: Final = 0.05
# Fields of `Figures`, and the share of answered requests that took no longer.
PERCENTILES: Final = {"p50_s": 0.50, "p95_s": 0.95, "p99_s": 0.99}
# Share of requests that may fail unless another is asked for.
ERROR_BUDGET: Final = 0.001


@dataclass(frozen=True)
class Figures:
    """Of one strategy over the trace.

    ``slow``: share of requests over the objective's limit, failed ones included; ``over``: the same of the limits of
    its other percentiles; ``mean_s``, ``sd_s``: of answered requests; ``failed``: share without an answer;
    ``replicas``, ``machines``: on average; ``peak``: most replicas;
    ``at_error``: the same if the live system is slower than the twin by its largest error in a comparison with live
    runs (None: never compared, or an approximate stage); ``p50_s``, ``p95_s``, ``p99_s``: percentiles of answered
    requests (None: an approximate stage, or none was answered).
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
    over: tuple[float, ...] = ()
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None


@dataclass(frozen=True)
class Objective:
    """Everything that is given must hold.

    Args:
        p95_s, mean_s, sigma_s, p50_s, p90_s, p99_s: of response times, at most, s.
        error_budget: share of requests that may fail. max_usd_per_month: what it may cost.

    Raises:
        MlscaleError: no response time is given, or a value that nothing can meet.
    """

    p95_s: float | None = None
    mean_s: float | None = None
    sigma_s: float | None = None
    error_budget: float = ERROR_BUDGET
    max_usd_per_month: float | None = None
    p50_s: float | None = None
    p90_s: float | None = None
    p99_s: float | None = None

    def __post_init__(self) -> None:
        if not self.percentiles and self.mean_s is None and self.sigma_s is None:
            raise MlscaleError("no response time is given", "objective", "give --p95, --mean or --sigma, in seconds")
        for name, option in _OPTIONS.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise MlscaleError(f"{value:g} cannot be met", option, "give a number above 0")
        if self.error_budget >= 1:
            raise MlscaleError(f"{self.error_budget:g} lets every request fail", "--error-budget", "such as 0.001")

    @property
    def percentiles(self) -> dict[int, float]:
        """Those that are asked for, the 95th first, and their limits, s."""
        every = {95: self.p95_s, 99: self.p99_s, 90: self.p90_s, 50: self.p50_s}
        return {percent: limit_s for percent, limit_s in every.items() if limit_s is not None}

    @property
    def limits_s(self) -> tuple[float, ...]:
        """Of the percentiles, else the mean, else sigma that is asked for, s: a request over the first is slow."""
        others = (value for value in (self.mean_s, self.sigma_s) if value is not None)
        return tuple(self.percentiles.values()) or (next(others),)

    @property
    def limit_s(self) -> float:
        """The first of them."""
        return self.limits_s[0]

    @property
    def shares(self) -> tuple[float, ...]:
        """Of requests that may take longer than each percentile that is asked for."""
        return tuple((100 - percent) / 100 for percent in self.percentiles)

    def told(self, figures: Figures) -> str:
        """The figures that it is about, in words."""
        limits = zip(self.limits_s, (figures.slow, *figures.over), strict=True)
        slow = [f"{100 * share:.3g} % of requests slower than {limit_s:g} s" for limit_s, share in limits]
        failed = f"{100 * figures.failed:.3g} % failed (at most {100 * self.error_budget:g} %)"
        percentiles = [f"{name[:-2]} {value:.3g} s" for name in PERCENTILES if (value := getattr(figures, name))]
        return ", ".join([f"mean {figures.mean_s:.3g} s", *percentiles, *slow, failed])

    def excess(self, figures: Figures) -> float:
        """0 if everything holds; else by how much the worst is missed, relative to what is asked for."""
        return max(0.0, self.margin(figures))

    def margin(self, figures: Figures) -> float:
        """The same, and below 0 where everything holds: by how much the worst could be worse."""
        asked = [
            *zip(self.shares, (figures.slow, *figures.over)[: len(self.shares)], strict=True),
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
    names = ("slow", "mean_s", "sd_s", "failed", "usd_per_month", "replicas", "machines", *PERCENTILES)
    values = {name: [getattr(figures, name) for figures in runs] for name in names}
    means: dict[str, Any] = {name: None if None in each else fmean(each) for name, each in values.items()}
    over = [figures.over for figures in runs]
    worse = [figures.at_error for figures in runs if figures.at_error is not None]
    return replace(
        runs[0],
        **means,
        peak=max(figures.peak for figures in runs),
        at_error=mean_of(worse) if worse else None,
        over=tuple(fmean(shares) for shares in zip(*over, strict=True)),
    )


_OPTIONS: Final = {
    "p95_s": "--p95",
    "mean_s": "--mean",
    "sigma_s": "--sigma",
    "error_budget": "--error-budget",
    "max_usd_per_month": "--max-usd-per-month",
    "p50_s": "--p50",
    "p90_s": "--p90",
    "p99_s": "--p99",
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
