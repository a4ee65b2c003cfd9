"""What sigma_t^2 is made of (METHOD §2): trend inside the window, photos, replicas, the rest.

Let y be the n durations in a window, less their mean. Least squares fits all causes together,

    y = slope * time + photo + replica + rest,

with every fitted term centred. Then n sigma_t^2 = y.y = trend.y + photo.y + replica.y + rest.rest exactly: each
cause's part is the covariance of its fitted effect with y (J. W. Pratt, "Dividing the indivisible", Tampere
Conference in Statistics, 1987). The order of the causes plays no role, and a replica isn't blamed for the photos
that it happened to get. There is no photo-by-replica term: a window of 5 s holds about one request per such cell
and would leave no rest.

A term with many levels fits noise too: each takes df_k s^2 of it on average (its trace), s^2 = rest.rest / df_rest
being the rest's mean square. So, as in epsilon squared (T. L. Kelley, PNAS 21 (1935), 554-559),

    part_k = (fitted_k . y - df_k s^2) / n,       within replicas = (rest.rest + sum_k df_k s^2) / n.

The parts sum to sigma_t^2 exactly, and each is 0 on average where its cause is absent and the rest is independent
noise. So a single window's part can be slightly negative: average parts over windows, don't clip them. What a
straight line misses of the trend (a queue that jumps) stays in the rest.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.durations import DEFAULT_TIMEOUT_S, By, Value, durations
from mlscale.analysis.windows import Floats, Ints, window_bounds

MAX_UNKNOWN_SHARE: Final = 0.05
MIN_REST_DF: Final = 10
"""Fewer degrees of freedom for the rest: its mean square is too uncertain to correct the other parts."""
PARTS: Final = ("within_replicas_s2", "between_replicas_s2", "photos_s2", "trend_s2")


def variance_parts(
    requests: pd.DataFrame,
    window_s: float = 5.0,
    by: By = "done",
    include_failures: bool = True,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    value: Value = "response_s",
    at_s: npt.ArrayLike | None = None,
) -> pd.DataFrame:
    """The parts of sigma_t^2 over windows (t - W, t]; by default one window after another.

    Returns:
        t_s, n, total_s2 (= sigma_t^2), the parts trend_s2, photos_s2, between_replicas_s2, within_replicas_s2,
        unknown_share (requests without a replica id), split. Where ``split`` is False (over 5 % of replica ids
        unknown, fewer than 10 degrees of freedom for the rest, or causes that coincide) the parts are NaN. Up to 5
        % unknown ids form a group.
    """
    frame = durations(requests, include_failures=include_failures, timeout_s=timeout_s)
    frame = frame[frame[value].notna()]
    key = "ended_s" if by == "done" else "intended_s"
    frame = frame.sort_values(key, kind="stable", ignore_index=True)
    times, values = frame[key].to_numpy(dtype=float), frame[value].to_numpy(dtype=float)
    photos = pd.factorize(frame["photo_id"].fillna(""))[0]
    names = frame["replica_id"].fillna("")
    replicas, unknown = pd.factorize(names)[0], (names == "").to_numpy(dtype=bool)
    ends = _ends(times, window_s) if at_s is None else np.asarray(at_s, dtype=float)
    rows = []
    for end_s, first, last in zip(ends, *window_bounds(times, ends, window_s), strict=True):
        inside = slice(int(first), int(last))
        share = float(unknown[inside].mean()) if last > first else float("nan")
        row = {"t_s": float(end_s), "n": int(last - first), "unknown_share": share}
        rows.append(row | split_variance(times[inside], values[inside], photos[inside], replicas[inside], share))
    columns = ["t_s", "n", "total_s2", *PARTS, "unknown_share", "split"]
    return pd.DataFrame(rows, columns=columns)


def split_variance(
    times: Floats, values: Floats, photos: Ints, replicas: Ints, unknown_share: float = 0.0
) -> dict[str, float | bool]:
    """One window's total (ddof 0) and parts (module docstring); arrays of equal length, photos and replicas as
    codes."""
    n = len(values)
    nothing: dict[str, float | bool] = {**dict.fromkeys(PARTS, float("nan")), "split": False}
    if n < MIN_REST_DF:
        return {"total_s2": float("nan"), **nothing}
    y = values - values.mean()
    total = float(y @ y) / n
    terms = [_centred(times[:, None]), _centred(_indicators(photos)), _centred(_indicators(replicas))]
    sizes = [term.shape[1] for term in terms]
    df_rest = n - 1 - sum(sizes)
    if unknown_share > MAX_UNKNOWN_SHARE or df_rest < MIN_REST_DF:
        return {"total_s2": total, **nothing}
    design = np.hstack(terms)
    scale = np.linalg.norm(design, axis=0)
    if not scale.all():
        return {"total_s2": total, **nothing}
    solution, _, rank, _ = np.linalg.lstsq(design / scale, y, rcond=1e-9)
    if rank < sum(sizes):  # photos and replicas (or a photo and the time) can't be told apart in this window
        return {"total_s2": total, **nothing}
    effects = np.split(solution / scale, np.cumsum(sizes)[:-1])
    fitted = [term @ effect for term, effect in zip(terms, effects, strict=True)]
    rest = y - sum(fitted)
    noise = float(rest @ rest) / df_rest
    trend, of_photos, between = ((float(part @ y) - size * noise) / n for part, size in zip(fitted, sizes, strict=True))
    return {
        "total_s2": total,
        "within_replicas_s2": total - trend - of_photos - between,
        "between_replicas_s2": between,
        "photos_s2": of_photos,
        "trend_s2": trend,
        "split": True,
    }


def _indicators(codes: Ints) -> Floats:
    """One 0/1 column per level that occurs, without the last one."""
    levels = np.unique(codes)[:-1]
    return np.asarray(codes[:, None] == levels[None, :], dtype=float)


def _centred(columns: Floats) -> Floats:
    return np.asarray(columns - columns.mean(axis=0), dtype=float)


def _ends(times: Floats, window_s: float) -> Floats:
    """Ends of windows that follow one another, the first one starting just before the first request."""
    if not len(times):
        return np.empty(0)
    count = max(1, int(np.ceil((times[-1] - times[0]) / window_s)))
    return np.asarray(np.nextafter(times[0], -np.inf) + window_s * np.arange(1, count + 1), dtype=float)
