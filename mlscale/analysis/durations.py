"""The three durations of each request (METHOD §1), and how a failure counts.

response = done - intended, send_to_done = done - sent, lateness = sent - intended, all in seconds. In main figures a
failure (every status but ``ok``) counts as the client's timeout; figures without failures stand beside them.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Value = Literal["response_s", "send_to_done_s", "inference_s", "queue_s"]
"""Which duration a statistic is about. The paper's inference time: send_to_done_s, and the server's inference_s."""
By = Literal["done", "intended"]
"""Which moment dates a request: its completion (the paper's view) or its intended start (free of survivorship bias)."""

Floats = npt.NDArray[np.float64]

DEFAULT_TIMEOUT_S: Final = 30.0
FAILURES: Final = ("http_4xx", "http_5xx", "timeout", "refused", "reset", "wrong_answer", "unfinished")


def durations(requests: pd.DataFrame, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> pd.DataFrame:
    """The requests with what they took, in order of intended_s.

    Args:
        requests: table ``requests`` of a run.
        timeout_s: what each failure counts as (response_s and send_to_done_s; inference_s and queue_s of a failure are
            NaN, since nobody served it).
    Returns:
        The table's columns and ok (bool), response_s, send_to_done_s, lateness_s, ended_s: the moment at which the
        request was over (done_s; where it never was, as for ``unfinished``, the moment at which it would have timed
        out, so that no request drops out of a view by completion).
    """
    ok, response_s, ended_s = responses(requests, timeout_s)
    names = ("intended_s", "sent_s", "done_s", "queue_s", "inference_s")
    intended, sent, done, queue, inference = (requests[name].to_numpy(dtype=float) for name in names)
    frame = requests.assign(
        queue_s=np.where(ok, queue, np.nan),
        inference_s=np.where(ok, inference, np.nan),
        ok=ok,
        lateness_s=sent - intended,
        response_s=response_s,
        send_to_done_s=np.where(ok, done - sent, timeout_s),
        ended_s=ended_s,
    )
    return frame.sort_values("intended_s", kind="stable", ignore_index=True)


def responses(
    requests: pd.DataFrame, timeout_s: float = DEFAULT_TIMEOUT_S
) -> tuple[npt.NDArray[np.bool_], Floats, Floats]:
    """ok, response_s and ended_s of `durations`, (n,) each, in the table's order, without a copy of the table."""
    ok = (requests["status"] == "ok").to_numpy(dtype=bool)
    intended, done = (requests[name].to_numpy(dtype=float) for name in ("intended_s", "done_s"))
    response_s = np.where(ok, done - intended, timeout_s)
    return ok, response_s, np.where(np.isnan(done), intended + timeout_s, done)


def answered(requests: pd.DataFrame) -> pd.DataFrame:
    """The requests that a replica served to completion, right or wrong."""
    return requests[requests["status"].isin(["ok", "wrong_answer"])]


def intended_between(frame: pd.DataFrame, from_s: float, to_s: float) -> pd.DataFrame:
    """The requests intended in [from_s, to_s). ``frame``: of `durations`, so in order of intended_s."""
    return frame.iloc[slice(*np.searchsorted(frame["intended_s"].to_numpy(dtype=float), (from_s, to_s)))]


def right_answers(frame: pd.DataFrame, from_s: float, to_s: float) -> int:
    """How many right answers were given in [from_s, to_s)."""
    done_s = frame["done_s"].to_numpy(dtype=float)[frame["ok"].to_numpy()]
    return int(np.count_nonzero((done_s >= from_s) & (done_s < to_s)))


def failure_share(frame: pd.DataFrame) -> float:
    """Share of requests that failed (0 to 1); NaN without requests."""
    return float((frame["status"] != "ok").mean()) if len(frame) else float("nan")


def body_standardised(frame: pd.DataFrame, value: Value = "response_s") -> tuple[float, float]:
    """Mean and standard deviation of a duration in which every body weighs the same, s.

    A request of body b has the weight 1 / (B n_b), with B bodies and n_b requests of b: direct standardisation to a
    uniform mix of bodies. (NaN, NaN) where no request has the duration.
    """
    values = frame[value].to_numpy(dtype=float)
    known = ~np.isnan(values)
    if not known.any():
        return float("nan"), float("nan")
    values = values[known]
    codes, bodies = pd.factorize(frame["body_id"].array[known], use_na_sentinel=False)
    weights = 1.0 / (np.bincount(codes)[codes].astype(float) * len(bodies))
    mean = float(np.sum(weights * values))
    return mean, float(np.sqrt(np.sum(weights * (values - mean) ** 2)))
