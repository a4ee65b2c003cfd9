"""The parts of provisioning between a load step and the first answers of new replicas (METHOD §3); descriptive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.runs import Run

NAN: Final = float("nan")
# A replica that used more CPU before it entered its quota was provisioned faster than the quota allows (METHOD §4).
MAX_CPU_BEFORE_QUOTA_S: Final = 0.05


@dataclass(frozen=True)
class Provisioning:
    """The parts of `mlscale.analysis.response.UpscalingResponse`; times in s since t0, durations in s."""

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
    events = run.events[run.events["kind"] == "scale_decision"].sort_values("t_s", kind="stable")
    details = [json.loads(text or "{}") for text in events["detail"].fillna("{}")]
    return pd.DataFrame(
        {
            "t_s": events["t_s"].to_numpy(dtype=float),
            "known_within_s": events["known_within_s"].fillna(0.0).to_numpy(dtype=float),
            "component": events["component"].to_numpy(),
            "from": [_number(detail.get("from")) for detail in details],
            "to": [_number(detail.get("to")) for detail in details],
            "reason": [str(detail.get("reason", "")) for detail in details],
        }
    )


def grew_before(run: Run, t0: float) -> bool:
    """Whether the framework had begun to grow before t0, by its decisions or by the desired number of replicas.

    The first replicas of a deployment (from 0) are no growth.
    """
    decided = decisions(run)
    if bool(((decided["t_s"] < t0) & (decided["from"] >= 1) & (decided["to"] > decided["from"])).any()):
        return True
    before = run.replicas[(run.replicas["t_s"] < t0) & (run.replicas["desired"] >= 1)].sort_values("t_s", kind="stable")
    return bool((before["desired"] > before.groupby("component")["desired"].transform("first")).any())


def provisioning(run: Run, t0: float, horizon_s: float) -> Provisioning:
    """Parts of the response within [t0, t0 + horizon_s].

    Needed new replicas: the peak of ``desired`` in the horizon less those ready at t0. "First" is the new replica
    that was ready (or answered) first; "last" the last needed one, NaN where fewer came within the horizon.
    """
    end_s = t0 + horizon_s
    decided = decisions(run)
    growth = decided[(decided["to"] > decided["from"]) & decided["t_s"].between(t0, end_s)]
    needed = _needed(run, t0, end_s)
    pods = lives(run, t0, end_s, "replica_created", "replica_ready", by_s=end_s)
    machines = lives(run, t0, end_s, "machine_requested", "machine_registered", by_s=end_s)
    first, last = _nth(pods, 1), _nth(pods, needed)
    answers = sorted(_first_answers(run, t0, end_s).values())
    last_machine = _nth(machines, len(machines))
    return Provisioning(
        needed=needed,
        detection_s=float(growth["t_s"].iloc[0] - t0) if len(growth) else NAN,
        detection_within_s=float(growth["known_within_s"].iloc[0]) if len(growth) else NAN,
        machine_first_s=_nth(machines, 1)["took_s"],
        machine_last_s=last_machine["took_s"],
        created_first_s=first["begun_s"] - t0,
        created_last_s=last["begun_s"] - t0,
        container_first_s=first["took_s"],
        container_last_s=last["took_s"],
        ready_first_s=first["ended_s"] - t0,
        ready_last_s=last["ended_s"] - t0,
        ready_within_s=first["within_s"],
        first_answer_s=answers[0] - t0 if answers else NAN,
        last_answer_s=answers[needed - 1] - t0 if 1 <= needed <= len(answers) else NAN,
        provisioning_valid=cpu_before_quota(run) <= MAX_CPU_BEFORE_QUOTA_S,
    )


def lives(run: Run, t0: float, end_s: float, begin: str, end: str, *, by_s: float = float("inf")) -> pd.DataFrame:
    """Subjects whose ``begin`` came in [t0, end_s] and whose ``end`` came by ``by_s``, in order of the latter.

    Returns:
        ``begun_s``, ``ended_s`` (the first event of each kind), ``took_s``, ``within_s``; index: subject.
    """
    wanted = run.events["kind"].isin([begin, end]) & (run.events["subject"].fillna("") != "")
    events = run.events[wanted].sort_values("t_s", kind="stable")
    begun, ended = dict[str, float](), dict[str, tuple[float, float]]()
    columns = (events[name].tolist() for name in ("kind", "subject", "t_s", "known_within_s"))
    for kind, subject, t_s, within_s in zip(*columns, strict=True):  # few: a loop costs a fifth of groupby and join
        if kind == begin and t0 <= t_s <= end_s:
            begun.setdefault(subject, t_s)
        elif kind == end and t_s <= by_s:
            ended.setdefault(subject, (t_s, within_s))
    subjects = sorted(begun.keys() & ended.keys())
    rows = [(begun[subject], *ended[subject]) for subject in subjects]
    index = pd.Index(subjects, name="subject")
    both = pd.DataFrame(rows, columns=["begun_s", "ended_s", "within_s"], index=index, dtype=float)
    both["took_s"] = both["ended_s"] - both["begun_s"]
    return both.sort_values("ended_s", kind="stable")


def cpu_before_quota(run: Run) -> float:
    """The most CPU that a replica used before it entered its quota, s (``cpu_before_s`` of events or facts); 0 if
    unknown."""
    details = [json.loads(text) for text in run.events["detail"].dropna() if "cpu_before_s" in text]
    known = [_number(detail.get("cpu_before_s")) for detail in details] + [_number(run.info.facts.get("cpu_before_s"))]
    return max((value for value in known if np.isfinite(value)), default=0.0)


def _needed(run: Run, t0: float, end_s: float) -> int:
    needed = 0
    for _, samples in run.replicas.sort_values("t_s", kind="stable").groupby("component"):
        before, after = samples[samples["t_s"] <= t0], samples[samples["t_s"].between(t0, end_s)]
        if len(after):
            ready = int(before["ready"].iloc[-1]) if len(before) else int(after["ready"].iloc[0])
            needed += max(0, int(after["desired"].max()) - ready)
    return needed


def _nth(spans: pd.DataFrame, nth: int) -> dict[str, float]:
    """Row number ``nth`` (from 1) as a dict, NaN where there is none."""
    if 1 <= nth <= len(spans):
        return {str(name): float(value) for name, value in spans.iloc[nth - 1].items()}
    return dict.fromkeys(("begun_s", "ended_s", "took_s", "within_s"), NAN)


def _first_answers(run: Run, t0: float, end_s: float) -> dict[str, float]:
    """New replica -> the first correct answer that it had a part in, on the client's clock, by end_s.

    New: it gave no answer before t0 and no event says that it was created or ready before t0.
    """
    answers = run.requests[run.requests["status"] == "ok"][["request_id", "replica_id", "done_s"]]
    called = run.hops[["request_id", "replica_id"]].merge(answers[["request_id", "done_s"]], on="request_id")
    right = pd.concat([answers, called]) if len(called) else answers
    first = right[right["replica_id"].fillna("") != ""].groupby("replica_id")["done_s"].min()
    existing = known_before(run, t0)
    return {str(name): float(t) for name, t in first.items() if t0 <= t <= end_s and name not in existing}


def known_before(run: Run, t0: float) -> set[str]:
    """Names of the replicas that existed before t0, by the events."""
    events = run.events
    early = events[events["kind"].isin(["replica_created", "replica_started", "replica_ready"]) & (events["t_s"] < t0)]
    names = set(early["subject"].dropna().astype(str))
    for text in early["detail"].dropna():
        names.add(str(json.loads(text).get("replica_id", "")))
    return names - {""}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else NAN
