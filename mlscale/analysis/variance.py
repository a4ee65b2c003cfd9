"""The components of sigma_t^2 (METHOD §2): trend inside the window, bodies, replicas, and the rest.

Let y be the n durations in a window, less their mean. Least squares fits all causes together,

    y = slope * time + body + replica + rest,

with every fitted term centred in the window. Slope and replicas are fitted in each window anew; a body has one effect
in all windows, since its work is the same in each: with an effect of its own in every window, 24 bodies would use up
the degrees of freedom of a window in which a saturated framework gives 30 answers, and just the windows with the
largest sigma_t could not be split. Each cause's part is the covariance of its fitted effect with y (J. W. Pratt,
"Dividing the indivisible", Tampere Conference in Statistics, 1987), so the order of the causes plays no role, and a
replica isn't blamed for the bodies that it happened to get. There is no body-by-replica term.

A term with many levels fits noise too: each takes df_k s^2 of it on average, df_k being its trace in the window (of
the slope 1, of r replicas r - 1, of the bodies the window's share of their number less 1), and s^2 the rest's mean
square in the window. So, as in epsilon squared (T. L. Kelley, PNAS 21 (1935), 554-559),

    part_k = (fitted_k . y - df_k s^2) / n,       within replicas = sigma_t^2 - sum_k part_k.

The parts sum to sigma_t^2 exactly, and each is 0 on average where its cause is absent and the rest is independent
noise. So a single window's part can be slightly negative: average parts over windows, don't clip them. What a
straight line misses of the trend (a queue that jumps) stays in the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.durations import Floats, responses
from mlscale.analysis.moving import Ints, window_bounds

MAX_UNKNOWN_SHARE: Final = 0.05
# Fewer degrees of freedom for the rest: its mean square is too uncertain to correct the other parts.
MIN_REST_DF: Final = 10
PARTS: Final = ("within_replicas_s2", "between_replicas_s2", "bodies_s2", "trend_s2")
_COLUMNS: Final = ["n", "total_s2", *PARTS, "split"]


def variance_parts(requests: pd.DataFrame, window_s: float, at_s: npt.ArrayLike) -> pd.DataFrame:
    """The parts of sigma_t^2 over windows (t - W, t] of ``at_s`` that do not overlap, by intended time, of right
    answers alone.

    Returns:
        t_s, n, total_s2 (= sigma_t^2, NaN under 10 requests), the parts trend_s2, bodies_s2, between_replicas_s2,
        within_replicas_s2, unknown_share (requests without a replica id), split. Where ``split`` is False (over 5 % of
        replica ids unknown, fewer than 10 degrees of freedom for the rest, or causes that coincide) the parts are NaN.
        Up to 5 % unknown ids form a group.
    """
    ok, response_s, _ = responses(requests)
    intended_s = requests["intended_s"].to_numpy(dtype=float)
    order = np.argsort(intended_s, kind="stable")
    order = order[(ok & ~np.isnan(response_s))[order]]
    times, values = intended_s[order], response_s[order]
    body_ids, replica_ids = (requests[name].fillna("").array[order] for name in ("body_id", "replica_id"))
    bodies, replicas = pd.factorize(body_ids)[0], pd.factorize(replica_ids)[0]
    unknown = np.asarray(replica_ids == "", dtype=bool)
    ends = np.asarray(at_s, dtype=float)
    windows = [slice(int(a), int(b)) for a, b in zip(*window_bounds(times, ends, window_s), strict=True)]
    shares = [float(unknown[inside].mean()) if unknown[inside].size else float("nan") for inside in windows]
    known = [not share > MAX_UNKNOWN_SHARE for share in shares]
    table = split_variance(times, values, bodies, replicas, windows, known)
    table.insert(0, "t_s", ends)
    return table.assign(unknown_share=shares)


def split_variance(
    times: Floats,
    values: Floats,
    bodies: Ints,
    replicas: Ints,
    windows: Sequence[slice],
    known: Sequence[bool] | None = None,
) -> pd.DataFrame:
    """n, total_s2 (ddof 0), the parts and ``split`` of each window (module docstring).

    Args:
        times, values, bodies, replicas: of all requests, the latter two as codes.
        windows: which requests each holds; none is in two.
        known: which windows may be split (default: all).
    """
    rows: list[dict[str, Any]] = []
    fits: dict[int, _Window] = {}
    for index, inside in enumerate(windows):
        y = values[inside] - values[inside].mean() if values[inside].size else values[inside]
        n = len(y)
        total = float(y @ y) / n if n >= MIN_REST_DF else float("nan")
        rows.append({"n": n, "total_s2": total, **dict.fromkeys(PARTS, float("nan")), "split": False})
        if n >= MIN_REST_DF and (known is None or known[index]):
            own_terms = np.hstack([times[inside][:, None], _indicators(replicas[inside])])
            window = _Window(y, _centred(own_terms))
            if window.own_df is not None and n - 1 - window.own_df >= MIN_REST_DF:
                fits[index] = window
    levels = np.unique(np.concatenate([bodies[:0], *(bodies[windows[index]] for index in fits)]))
    columns = {index: _centred(_indicators(bodies[windows[index]], levels)) for index in fits}
    adjusted = {index: window.remove_own_terms(columns[index]) for index, window in fits.items()}
    gram = sum((matrix.T @ matrix for matrix in adjusted.values()), np.zeros((max(len(levels) - 1, 0),) * 2))
    tolerance = 1e-9 * sum(len(window.y) for window in fits.values())
    # A body and a replica can't be told apart.
    if np.linalg.matrix_rank(gram, tol=tolerance, hermitian=True) < len(gram):
        return pd.DataFrame(rows, columns=_COLUMNS)
    moments = sum((adjusted[index].T @ window.y for index, window in fits.items()), np.zeros(len(gram)))
    inverse = np.linalg.inv(gram)
    for index, window in fits.items():
        df = float(np.sum(inverse * (adjusted[index].T @ adjusted[index])))
        rows[index] |= window.parts(columns[index] @ inverse @ moments, df)
    return pd.DataFrame(rows, columns=_COLUMNS)


class _Window:
    """One window's durations ``y`` and its own terms: time in the first column, then its replicas; all centred."""

    def __init__(self, y: Floats, own_terms: Floats) -> None:
        self.y = y
        self._own = own_terms
        scale = np.linalg.norm(own_terms, axis=0)
        full_rank = bool(scale.all()) and int(np.linalg.matrix_rank(own_terms / scale)) == own_terms.shape[1]
        self._basis: Floats = np.linalg.qr(own_terms / scale)[0] if full_rank else own_terms[:, :0]
        self.own_df = own_terms.shape[1] if full_rank else None
        """None: its own terms can't be told apart."""

    def remove_own_terms(self, columns: Floats) -> Floats:
        """``columns`` less what the window's own terms explain of them."""
        return np.asarray(columns - self._basis @ (self._basis.T @ columns))

    def parts(self, body_effect: Floats, bodies_df: float) -> dict[str, float | bool]:
        """The parts, given what the bodies explain and with how many degrees of freedom; none with too few left."""
        n, own_df = len(self.y), self._own.shape[1]
        df_rest = n - 1 - own_df - bodies_df
        if df_rest < MIN_REST_DF:
            return {}
        effects = np.linalg.lstsq(self._own, self.y - body_effect, rcond=None)[0]
        fitted = [self._own[:, :1] @ effects[:1], body_effect, self._own[:, 1:] @ effects[1:]]
        residuals = self.y - sum(fitted)
        noise = float(residuals @ residuals) / df_rest
        sizes = (1.0, bodies_df, own_df - 1.0)
        explained = [(float(part @ self.y) - df * noise) / n for part, df in zip(fitted, sizes, strict=True)]
        within = float(self.y @ self.y) / n - sum(explained)
        trend, bodies, between = explained
        return {
            "within_replicas_s2": within,
            "between_replicas_s2": between,
            "bodies_s2": bodies,
            "trend_s2": trend,
            "split": True,
        }


def _indicators(codes: Ints, levels: Ints | None = None) -> Floats:
    """One 0/1 column per level (default: those that occur), without the last one."""
    levels = np.unique(codes) if levels is None else levels
    return np.asarray(codes[:, None] == levels[None, :-1], dtype=float)


def _centred(columns: Floats) -> Floats:
    return np.asarray(columns - columns.mean(axis=0), dtype=float)
