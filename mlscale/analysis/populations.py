"""Numbers of pods and machines in each lifecycle state over time, exact to the event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd

from mlscale.runs import Run

GONE: Final = ""
# Event -> the pod's state from then on. Pending: not on a machine yet.
PODS: Final[Mapping[str, str]] = {
    "replica_created": "pending",
    "replica_scheduled": "starting",
    "replica_started": "starting",
    "replica_ready": "ready",
    "replica_failed": "starting",
    "replica_draining": GONE,
    "replica_removed": GONE,
}
# Joining: running, but not accepting pods yet.
MACHINES: Final[Mapping[str, str]] = {
    "machine_requested": "booting",
    "machine_booted": "joining",
    "machine_registered": "joining",
    "machine_ready": "ready",
    "machine_failed": GONE,
    "machine_removed": GONE,
}


def populations(run: Run, states: Mapping[str, str]) -> pd.DataFrame:
    """Numbers in each state from each of their changes on.

    Args:
        states: event kind -> state, `PODS` or `MACHINES`.

    Returns:
        t_s (run clock, ascending), and one column of counts for each state, in the order of ``states``.
    """
    names = list(dict.fromkeys(state for state in states.values() if state != GONE))
    events = run.events[run.events["kind"].isin(list(states))].sort_values("t_s", kind="stable")
    counts = dict.fromkeys(names, 0)
    current: dict[str, str] = {}
    rows: list[dict[str, float]] = []
    for t_s, kind, subject in zip(events["t_s"], events["kind"], events["subject"], strict=True):
        before, after = current.get(subject, GONE), states[kind]
        if before == after:
            continue
        current[subject] = after
        for state, change in ((before, -1), (after, 1)):
            if state != GONE:
                counts[state] += change
        rows.append({"t_s": float(t_s), **counts})
    frame = pd.DataFrame(rows, columns=["t_s", *names]).astype({"t_s": float, **dict.fromkeys(names, int)})
    return frame.groupby("t_s", as_index=False).last()


def machine_seconds(run: Run, from_s: float, to_s: float) -> float:
    """Seconds of machines from their request to their end, within [from_s, to_s): what is paid for.

    A cloud bills from when a machine runs: the boot time, counted here, is partly free there.
    """
    steps = populations(run, MACHINES)
    if steps.empty:
        return 0.0
    count = steps.drop(columns="t_s").sum(axis=1)
    begins = steps["t_s"].clip(from_s, to_s)
    ends = steps["t_s"].shift(-1, fill_value=to_s).clip(from_s, to_s)
    return float((count * (ends - begins)).sum())
