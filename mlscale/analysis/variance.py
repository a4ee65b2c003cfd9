"""What sigma_t^2 is made of (METHOD §2): trend inside the window, photos, replicas, the rest.

Let y be the n durations in a window. Sums of squares are taken one after another (type I), each adjusted for those
before it, in the linear model

    y = mean + slope * time + photo + replica + rest

so that SS_trend + SS_photos + SS_replicas + SS_rest = n sigma_t^2 exactly. Photos stand before replicas, so that a
replica isn't blamed for the photos that it happened to get; no photo-by-replica term, since a window of 5 s holds about
one request per such cell and would leave nothing for the rest. Raw sums of squares favour the terms with many
levels: 24 photos take 23/(n - 1) of pure noise. So each is corrected by its degrees of freedom, as in epsilon
squared (T. L. Kelley, PNAS 21 (1935), 554-559):

    part_k = (SS_k - df_k MS_rest) / n,   within replicas = (SS_rest + sum_k df_k MS_rest) / n,   MS_rest = SS_rest
    / df_rest

The parts still sum to sigma_t^2 exactly, each is about 0 on average where its cause is absent, and a single
window's part can therefore be slightly negative: average parts over windows, don't clip them.
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
        unknown_share (requests without a replica id), split. Where ``split`` is False (over 5 % of replica ids unknown,
        or fewer than 10 degrees of freedom for the rest) the parts are NaN. Up to 5 % unknown ids form a group.
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
    total = float(y @ y)
    if unknown_share > MAX_UNKNOWN_SHARE:
        return {"total_s2": total / n, **nothing}
    terms = [np.ones((n, 1)), (times - times.mean())[:, None], _indicators(photos), _indicators(replicas)]
    left, ranks = [], []
    for upto in range(1, len(terms) + 1):
        rest, rank = _residual(np.hstack(terms[:upto]), y)
        left.append(float(rest @ rest))
        ranks.append(rank)
    df_rest = n - ranks[-1]
    if df_rest < MIN_REST_DF:
        return {"total_s2": total / n, **nothing}
    noise = left[-1] / df_rest
    gained = [(left[k] - left[k + 1] - (ranks[k + 1] - ranks[k]) * noise) / n for k in range(3)]
    trend, of_photos, between = gained
    within = (left[-1] + (ranks[-1] - 1) * noise) / n
    return {
        "total_s2": total / n,
        "within_replicas_s2": within,
        "between_replicas_s2": between,
        "photos_s2": of_photos,
        "trend_s2": trend,
        "split": True,
    }


def _indicators(codes: Ints) -> Floats:
    """One 0/1 column per level that occurs; the overlap with the mean is taken care of by rank."""
    levels = np.unique(codes)
    return np.asarray(codes[:, None] == levels[None, :], dtype=float)


def _residual(design: Floats, y: Floats) -> tuple[Floats, int]:
    """What is left of y after the columns of ``design``, and their rank."""
    scale = np.linalg.norm(design, axis=0)
    scaled = design / np.where(scale > 0, scale, 1.0)
    solution, _, rank, _ = np.linalg.lstsq(scaled, y, rcond=1e-10)
    return y - scaled @ solution, int(rank)


def _ends(times: Floats, window_s: float) -> Floats:
    """Ends of windows that follow one another, the first one starting just before the first request."""
    if not len(times):
        return np.empty(0)
    count = max(1, int(np.ceil((times[-1] - times[0]) / window_s)))
    return np.asarray(np.nextafter(times[0], -np.inf) + window_s * np.arange(1, count + 1), dtype=float)
