"""Effects of a run's position in its block and of its predecessor (METHOD §6). Descriptive: orders are balanced, so an
effect that all environments share cancels in every comparison."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.durations import Floats
from mlscale.analysis.endpoints import PRIMARY, Endpoint
from mlscale.analysis.paired import ALPHA, t_quantile

NAN: Final = float("nan")


def position_effects(rows: pd.DataFrame) -> pd.DataFrame:
    """How much an endpoint changes from one position in the block to the next, by environment.

    Least squares of log y on environment, block and, for each environment, position. The slope is within blocks, so a
    block that was slower as a whole does not affect it.

    Args:
        rows: of `mlscale.analysis.summary.summarise`, every attempt of one cell; used is one valid run for each place,
            the second of an A/A pair as well.
    Returns:
        endpoint, environment, runs, change (of a position, as a share: 0.1 is 10 % more), low, high (95 % t
        interval, the residuals' degrees of freedom); NaN where positions, blocks and environments can't be told apart.
    """
    effects: list[dict[str, Any]] = []
    for endpoint, used in _used(rows):
        names = list(dict.fromkeys(used["environment"]))
        centred = used["position"].astype(float) - used["position"].mean()
        slopes = np.column_stack([centred.where(used["environment"] == name, 0.0) for name in names])
        fit = _slopes(np.log(used[endpoint.column].to_numpy(dtype=float)), slopes, _places(used))
        for name, (change, low, high) in zip(names, fit, strict=True):
            runs = int((used["environment"] == name).sum())
            row = {"endpoint": f"{endpoint.name} {endpoint.label}", "environment": name, "runs": runs}
            effects.append({**row, "change": change, "low": low, "high": high})
    return pd.DataFrame(effects, columns=["endpoint", "environment", "runs", "change", "low", "high"])


def predecessor_effects(rows: pd.DataFrame) -> pd.DataFrame:
    """How runs differ after each predecessor from the rest of their environment and block; without intervals, since a
    predecessor occurs only a few times.

    Returns:
        environment, predecessor, runs, and a column per endpoint: the geometric mean of the ratios, less 1.
    """
    columns = {}
    for endpoint, used in _used(rows):
        logs, places = np.log(used[endpoint.column].to_numpy(dtype=float)), _places(used)
        residuals = logs - places @ np.linalg.lstsq(places, logs, rcond=None)[0]
        keys = [used["environment"], used["predecessor"].fillna("none")]
        groups = pd.Series(residuals, index=used.index).groupby(keys, sort=False)
        columns["runs"] = groups.size()
        columns[f"{endpoint.name} {endpoint.label}"] = np.exp(groups.mean()) - 1
    return pd.DataFrame(columns).sort_index().reset_index()


def _used(rows: pd.DataFrame) -> list[tuple[Endpoint, pd.DataFrame]]:
    """Each primary endpoint that some chosen run has, with these runs."""
    selected = design.chosen(rows)
    selected = selected[selected["position"].notna()]
    with_values = [(endpoint, selected[selected[endpoint.column].gt(0)]) for endpoint in PRIMARY]
    return [(endpoint, runs) for endpoint, runs in with_values if len(runs)]


def _places(used: pd.DataFrame) -> Floats:
    """A 0/1 column per environment, and one per block but the first."""
    blocks = pd.get_dummies(used["block"], dtype=float).iloc[:, 1:]
    return np.hstack([pd.get_dummies(used["environment"], dtype=float).to_numpy(), blocks.to_numpy()])


def _slopes(logs: Floats, slopes: Floats, places: Floats) -> list[tuple[float, float, float]]:
    """exp(slope) - 1 with its interval for each column of ``slopes``, beside ``places``."""
    columns = np.hstack([slopes, places])
    df = len(logs) - columns.shape[1]
    if df < 1 or np.linalg.matrix_rank(columns) < columns.shape[1]:
        return [(NAN, NAN, NAN)] * slopes.shape[1]
    inverse = np.linalg.inv(columns.T @ columns)
    coefficients = inverse @ columns.T @ logs
    residuals = logs - columns @ coefficients
    half_width = t_quantile(1 - ALPHA / 2, df) * np.sqrt(residuals @ residuals / df * np.diag(inverse))
    estimates, half_width = coefficients[: slopes.shape[1]], half_width[: slopes.shape[1]]
    ends = (np.expm1(estimates), np.expm1(estimates - half_width), np.expm1(estimates + half_width))
    return [(float(a), float(b), float(c)) for a, b, c in zip(*ends, strict=True)]
