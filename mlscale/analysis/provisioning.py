"""The parts of provisioning between a load step and the first answers of new replicas (METHOD §3); descriptive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from mlscale.analysis.durations import Floats
from mlscale.runs import Event, Run

NAN: Final = float("nan")
# A replica that used more CPU before it entered its quota was provisioned faster than the quota allows (METHOD §4).
MAX_CPU_BEFORE_QUOTA_S: Final = 0.05


# Event -> the machine's state from then on; joining: it runs, but accepts no pods yet.
_MACHINE_STATES: Final = {
    "machine_requested": "booting",
    "machine_booted": "joining",
    "machine_registered": "joining",
    "machine_ready": "ready",
    "machine_failed": "gone",
    "machine_removed": "gone",
}


@dataclass(frozen=True)
class Provisioning:
    """In s; ``*_first_s`` and ``*_last_s``: of the first and the last needed new replica; milestones count from t0."""

    needed: int
    detection_s: float
    detection_within_s: float
    machine_first_s: float
    machine_last_s: float
    created_first_s: float
    created_last_s: float
    container_first_s: float
    container_last_s: float
    ready_first_s: float
    ready_last_s: float
    ready_within_s: float
    first_answer_s: float
    last_answer_s: float
    provisioning_valid: bool


def decisions(run: Run) -> pd.DataFrame:
    """The scale decisions: t_s, known_within_s, component, from, to, reason; holds have from = to."""
    events = [event for event in run.event_list if event.kind == "scale_decision"]
    within_s = np.array([event.known_within_s for event in events], dtype=float)
    return pd.DataFrame(
        {
            "t_s": np.array([event.t_s for event in events], dtype=float),
            "known_within_s": np.where(np.isnan(within_s), 0.0, within_s),
            "component": np.array([event.component for event in events], dtype=object),
            "from": [_number(event.detail.get("from")) for event in events],
            "to": [_number(event.detail.get("to")) for event in events],
            "reason": [str(event.detail.get("reason", "")) for event in events],
        }
    )


def grew_before(run: Run, t0: float) -> bool:
    """Whether the framework had begun to grow before t0, by its decisions or by the desired number of replicas.

    The first replicas of a deployment (from 0) do not count as growth.
    """
    decided = decisions(run)
    if bool(((decided["t_s"] < t0) & (decided["from"] >= 1) & (decided["to"] > decided["from"])).any()):
        return True
    before = [desired[(t_s < t0) & (desired >= 1)] for t_s, desired, _ in samples_by_component(run)]
    return any(bool((desired > desired[0]).any()) for desired in before if len(desired))


def provisioning(run: Run, t0: float, horizon_s: float) -> Provisioning:
    """Parts of the response within [t0, t0 + horizon_s].

    Needed new replicas: see `new_replicas_needed`. "First" is the new replica
    that was ready (or answered) first; "last" the last needed one, NaN where fewer came within the horizon.
    """
    end_s = t0 + horizon_s
    decided = decisions(run)
    growth = decided[(decided["to"] > decided["from"]) & decided["t_s"].between(t0, end_s)]
    needed = new_replicas_needed(run, t0, end_s)
    pods = _lives(run, t0, end_s, "replica_created", "replica_ready", by_s=end_s)
    machines = _lives(run, t0, end_s, "machine_requested", "machine_registered", by_s=end_s)
    first, last = _nth(pods, 1), _nth(pods, needed)
    answers = sorted(_first_answers(run, t0, end_s).values())
    return Provisioning(
        needed=needed,
        detection_s=float(growth["t_s"].iloc[0] - t0) if len(growth) else NAN,
        detection_within_s=float(growth["known_within_s"].iloc[0]) if len(growth) else NAN,
        machine_first_s=_nth(machines, 1).took_s,
        machine_last_s=_nth(machines, len(machines)).took_s,
        created_first_s=first.begun_s - t0,
        created_last_s=last.begun_s - t0,
        container_first_s=first.took_s,
        container_last_s=last.took_s,
        ready_first_s=first.ended_s - t0,
        ready_last_s=last.ended_s - t0,
        ready_within_s=first.within_s,
        first_answer_s=answers[0] - t0 if answers else NAN,
        last_answer_s=answers[needed - 1] - t0 if 1 <= needed <= len(answers) else NAN,
        provisioning_valid=cpu_before_quota(run) <= MAX_CPU_BEFORE_QUOTA_S,
    )


def machine_states(run: Run) -> pd.DataFrame:
    """Numbers of machines from each change on, exact to the event: t_s (run clock), booting, joining, ready."""
    events = run.events.assign(state=run.events["kind"].map(_MACHINE_STATES)).dropna(subset="state")
    ordered = events.sort_values("t_s", kind="stable")
    states = ordered.pivot_table(index="t_s", columns="subject", values="state", aggfunc="last").ffill()
    counts = pd.DataFrame({name: (states == name).sum(axis=1) for name in ("booting", "joining", "ready")})
    return counts[counts.ne(counts.shift()).any(axis=1)].rename_axis("t_s").reset_index()


def lives(run: Run, t0: float, end_s: float, begin: str, end: str, *, by_s: float = float("inf")) -> pd.DataFrame:
    """Subjects whose ``begin`` came in [t0, end_s] and whose ``end`` came by ``by_s``, in order of the latter.

    Returns:
        ``begun_s``, ``ended_s`` (the first event of each kind), ``took_s``, ``within_s``; index: subject.
    """
    found = _lives(run, t0, end_s, begin, end, by_s=by_s)
    index = pd.Index([life.subject for life in found], name="subject")
    return pd.DataFrame(found, index=index, columns=_Life._fields).drop(columns="subject").astype(float)


class _Life(NamedTuple):
    """A row of `lives`."""

    subject: str
    begun_s: float
    ended_s: float
    within_s: float
    took_s: float


def _lives(run: Run, t0: float, end_s: float, begin: str, end: str, *, by_s: float) -> list[_Life]:
    """`lives` as a list: building the table takes longer than finding the rows."""
    begun, ended = dict[str, float](), dict[str, Event]()
    for event in run.event_list:
        if event.kind == begin and t0 <= event.t_s <= end_s:
            begun.setdefault(event.subject, event.t_s)
        elif event.kind == end and event.t_s <= by_s:
            ended.setdefault(event.subject, event)
    both = [(name, begun[name], ended[name]) for name in sorted(begun.keys() & ended.keys() - {""})]
    found = [_Life(name, at_s, last.t_s, last.known_within_s, last.t_s - at_s) for name, at_s, last in both]
    return sorted(found, key=lambda life: life.ended_s)


def cpu_before_quota(run: Run) -> float:
    """The most CPU that a replica used before it entered its quota, s (``cpu_before_s`` of events or facts); 0 if
    unknown."""
    details = [event.detail for event in run.event_list] + [run.info.facts]
    known = [_number(detail.get("cpu_before_s")) for detail in details]
    return max((value for value in known if np.isfinite(value)), default=0.0)


def new_replicas_needed(run: Run, t0: float, end_s: float) -> int:
    """The peak of ``desired`` in [t0, end_s] less the replicas ready at t0."""
    needed = 0
    for t_s, desired, ready in samples_by_component(run):
        before, after = ready[t_s <= t0], (t_s >= t0) & (t_s <= end_s)
        if after.any():
            needed += max(0, int(desired[after].max()) - int(before[-1] if len(before) else ready[after][0]))
    return needed


def samples_by_component(run: Run) -> list[tuple[Floats, Floats, Floats]]:
    """t_s, desired and ready of each component, in order of t_s."""
    ordered = run.replicas.sort_values("t_s", kind="stable")
    columns = [ordered[name].to_numpy(dtype=float) for name in ("t_s", "desired", "ready")]
    t_s, desired, ready = columns
    return [(t_s[rows], desired[rows], ready[rows]) for rows in ordered.groupby("component").indices.values()]


def _nth(found: Sequence[_Life], nth: int) -> _Life:
    """Number ``nth`` (from 1), NaN where there is none."""
    return found[nth - 1] if 1 <= nth <= len(found) else _Life("", NAN, NAN, NAN, NAN)


def _first_answers(run: Run, t0: float, end_s: float) -> dict[str, float]:
    """New replica -> the first correct answer that it had a part in, on the client's clock, by end_s.

    New: it gave no answer before t0 and no event says that it was created or ready before t0.
    """
    right = run.requests.loc[run.requests["status"] == "ok", ["request_id", "replica_id", "done_s"]]
    if len(run.hops):
        called = run.hops[["request_id", "replica_id"]].merge(right[["request_id", "done_s"]], on="request_id")
        right = pd.concat([right, called])
    first = right.groupby("replica_id")["done_s"].min()
    existing = known_before(run, t0) | {""}
    return {str(name): float(t) for name, t in first.items() if t0 <= t <= end_s and name not in existing}


def known_before(run: Run, t0: float) -> set[str]:
    """Names of the replicas that existed before t0, by the events."""
    kinds = ("replica_created", "replica_started", "replica_ready")
    early = [event for event in run.event_list if event.kind in kinds and event.t_s < t0]
    return {name for event in early for name in (event.subject, str(event.detail.get("replica_id", "")))} - {""}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else NAN
