"""Waking up: from the first request while nothing runs to its right answer, in parts (METHOD §3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis.components import replicas_in_all
from mlscale.analysis.durations import durations
from mlscale.analysis.provisioning import decisions, lives
from mlscale.analysis.summary import NAN, labels
from mlscale.runs import Run

# The parts, one after another: until the autoscaler has decided, until a machine accepts the replica, until its
# container (or process) runs, until it is ready, and until the client has a right answer.
PARTS: Final = ("decision_s", "machine_s", "container_s", "load_s", "answer_s")
_LOST: Final = ("timeout", "refused", "reset", "unfinished")


def wake_ups(runs: Sequence[Run], level_s: float) -> pd.DataFrame:
    """One row a wake-up, with its run's labels (`mlscale.analysis.summary.labels`).

    Returns:
        asked_s: run clock of the first request while no replica is ready or starting. wake_s: from there to the first
        right answer; `PARTS`, which add up to it, of the replica that was ready first (NaN: not observed). requests:
        sent until that answer; late: answered rightly, but after more than ``level_s``; wrong: answered wrongly or
        with an error; lost: not answered.
    """
    return pd.DataFrame([labels(run) | row for run in runs for row in _of_run(run, level_s)])


def _of_run(run: Run, level_s: float) -> Iterator[dict[str, Any]]:
    frame = durations(run.requests, timeout_s=run.info.timeout_s).sort_values("sent_s")
    spans = asleep(run)
    for (begin_s, end_s), (next_s, _) in zip(spans, [*spans[1:], (np.inf, np.inf)], strict=False):
        sent = frame[frame["sent_s"].between(begin_s, end_s)]
        if sent.empty:
            continue
        asked_s = float(sent["sent_s"].iloc[0])
        right = frame[frame["ok"] & (frame["sent_s"] >= asked_s) & (frame["done_s"] < next_s)]
        answered_s = float(right["done_s"].min()) if len(right) else NAN
        until_s = answered_s if np.isfinite(answered_s) else next_s
        of_it = frame[frame["sent_s"].between(asked_s, until_s)]
        failed = of_it[~of_it["ok"]]
        yield {
            "asked_s": asked_s,
            "wake_s": answered_s - asked_s,
            **_parts(run, asked_s, answered_s),
            "requests": len(of_it),
            "late": int((of_it["ok"] & (of_it["response_s"] > level_s)).sum()),
            "lost": int(failed["status"].isin(_LOST).sum()),
            "wrong": int((~failed["status"].isin(_LOST)).sum()),
        }


def asleep(run: Run) -> list[tuple[float, float]]:
    """From when to when no replica was ready or starting, once there was one, s on the run's clock."""
    replicas = replicas_in_all(run.replicas)
    there = (replicas["ready"] + replicas["starting"]).to_numpy() > 0
    times = replicas["t_s"].to_numpy(float)
    spans: list[tuple[float, float]] = []
    was_there, begin_s = False, NAN
    for t_s, is_there in zip(times, there, strict=True):
        if was_there and not is_there:
            begin_s = t_s
        elif is_there and np.isfinite(begin_s):
            spans.append((begin_s, t_s))
            begin_s = NAN
        was_there = is_there
    end_s = run.info.schedule.duration_s
    return [*spans, (begin_s, end_s)] if np.isfinite(begin_s) and begin_s < end_s else spans


def _parts(run: Run, asked_s: float, answered_s: float) -> dict[str, float]:
    """Each part ends at a milestone; one that was not observed is NaN, and so is the part after it. Milestones are
    observed by polling, some later than what follows from them: none counts as later than the next one."""
    decided = decisions(run)
    grown = decided.loc[(decided["from"] == 0) & (decided["to"] > 0) & (decided["t_s"] >= asked_s), "t_s"]
    ready = lives(run, asked_s, answered_s, "replica_created", "replica_ready", by_s=answered_s)
    first = str(ready.index[0]) if len(ready) else ""
    moments = {
        event.kind: event.t_s for event in run.event_list if event.subject == first and event.t_s >= asked_s and first
    }
    started_s = moments.get("replica_started", NAN)
    placed_s = moments.get("replica_scheduled", moments.get("replica_created", NAN))
    replicas = replicas_in_all(run.replicas)
    wanted = replicas.loc[(replicas["desired"] > 0) & (replicas["t_s"] >= asked_s), "t_s"]
    milestones = (
        min([*grown, *wanted], default=NAN),
        placed_s,
        started_s,
        moments.get("replica_ready", NAN),
        answered_s,
    )
    in_order = np.fmin.accumulate(milestones[::-1])[::-1]
    times_s = np.where(np.isnan(milestones), NAN, in_order)
    return dict(zip(PARTS, np.diff([asked_s, *times_s]).tolist(), strict=True))
