"""Requests per second as monitoring systems export them: JSON of Prometheus' HTTP API, and of ``aws cloudwatch``.

Formats: prometheus.io, "HTTP API", range queries; Amazon CloudWatch API reference, GetMetricData and
GetMetricStatistics (both read 2026-12).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from mlscale.errors import MlscaleError

Rates = tuple[list[datetime], list[float]]


def is_export(text: bytes) -> bool:
    """Whether it is JSON of one of the systems, by the names at its top."""
    try:
        return _reader(json.loads(text)) is not None
    except (ValueError, RecursionError):
        return False


def read_export(text: bytes, where: str) -> Rates:
    """From when on there are how many requests per second: Prometheus' samples of a query for that, or CloudWatch's
    sums divided by their period, beyond which there were none.

    Raises:
        MlscaleError: it is incomplete, has several series, or is something else.
    """
    try:
        data = json.loads(text)
        reader = _reader(data)
        if reader is None:
            raise ValueError("it is of neither Prometheus nor CloudWatch")
        return reader(data)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise MlscaleError(f"not an export of rates: {what}", where, "see the formats in docs/strategy.md") from error


def _reader(data: Any) -> Callable[[Any], Rates] | None:
    names = data.keys() if isinstance(data, dict) else ()
    return next((reader for name, reader in _READERS.items() if name in names), None)


def _prometheus(data: Mapping[str, Any]) -> Rates:
    if data.get("status") != "success":
        raise ValueError(data.get("error", "its status is not success"))
    series = data["data"]["result"]
    if len(series) != 1:
        raise ValueError(f"it has {len(series)} series, not one: use sum() in the query")
    samples = series[0]["values"]
    return [_moment(at) for at, _ in samples], [float(value) for _, value in samples]


def _metric_data(data: Mapping[str, Any]) -> Rates:
    pages = data["MetricDataResults"]  # one series may come in several
    names = {page["Id"] for page in pages}
    if len(names) != 1:
        raise ValueError(f"it has {len(names)} metrics, not one")
    if data.get("NextToken"):
        raise ValueError("it is incomplete: it has a NextToken")
    return _per_second([pair for page in pages for pair in zip(page["Timestamps"], page["Values"], strict=True)])


def _statistics(data: Mapping[str, Any]) -> Rates:
    return _per_second([(point["Timestamp"], point["Sum"]) for point in data["Datapoints"]])


def _per_second(sums: Sequence[tuple[str | float, float]]) -> Rates:
    ordered = sorted((_moment(at), float(value)) for at, value in sums)
    moments = [moment for moment, _ in ordered]
    if len(moments) < 2:
        raise ValueError("a single value does not show its period")
    period = min(later - earlier for earlier, later in pairwise(moments))
    if not period:
        raise ValueError("two values have the same time")
    rates: dict[datetime, float] = {}
    for moment, value in ordered:
        rates[moment] = value / period.total_seconds()
        rates[moment + period] = 0.0  # unless another sum follows
    del rates[moments[-1] + period]
    return list(rates), list(rates.values())


def _moment(at: str | float) -> datetime:
    return datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)


_READERS: Final[Mapping[str, Callable[[Any], Rates]]] = {
    "MetricDataResults": _metric_data,
    "Datapoints": _statistics,
    "data": _prometheus,
}
