"""Phases of a container's cold start, pod by pod: from its creation until it is ready."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.runs import Run
from mlscale.runs.clock import go_duration_s

NAN: Final = float("nan")
# In chronological order.
PHASES: Final = ("schedule_s", "pull_s", "start_s", "python_s", "import_s", "weights_s", "first_s", "probe_s")
_PULLED: Final = re.compile(r"Successfully pulled image .* in ([0-9.a-zµ]+)")


def cold_starts(run: Run) -> pd.DataFrame:
    """One row a pod that became ready: subject, created_s (run clock), the phases, total_s (created to ready).

    schedule_s: created to bound to a node. pull_s: the image pull, 0 if it was there already. start_s: the rest
    until the process ran (sandbox, mounts, container). python_s, import_s, weights_s, first_s: as the application's
    server wrote in its log (`mlscale.serving.timeline`). probe_s: from its first answer to being ready, which is
    the wait for the next readiness probe and for the news of it. All in s; NaN where a part is not known.

    The process's start is on this host's clock where the node is this host; elsewhere start_s and probe_s come from
    the times at which the watch saw the container start and the pod become ready.
    """
    rows = [row for subject, events in _first_events(run).items() if (row := _row(run, subject, events)) is not None]
    return pd.DataFrame(rows, columns=["subject", "created_s", *PHASES, "total_s"])


def cold_starts_of(runs: Sequence[Run]) -> pd.DataFrame:
    """`cold_starts` of several runs, with each run's run_id and readiness_period_s."""
    frames = []
    for run in runs:
        periods = {settings.get("readiness_period_s") for settings in run.info.scaling.values()}
        frames.append(cold_starts(run).assign(run_id=run.info.run_id, readiness_period_s=next(iter(periods), None)))
    return pd.concat(frames, ignore_index=True)


def pull_s(message: str | None) -> float:
    """Duration of an image pull from the kubelet's "Pulled" event, s; 0 if the node had the image, NaN if unknown."""
    if not message:
        return NAN
    match = _PULLED.search(message)
    if match is None:
        return 0.0 if "already present" in message else NAN
    return go_duration_s(match[1])


def _first_events(run: Run) -> dict[str, dict[str, pd.Series]]:
    """subject -> kind -> its first event of that kind."""
    first_events: dict[str, dict[str, pd.Series]] = {}
    for _, event in run.events.sort_values("t_s", kind="stable").iterrows():
        if event["subject"]:
            first_events.setdefault(str(event["subject"]), {}).setdefault(str(event["kind"]), event)
    return first_events


def _row(run: Run, subject: str, events: Mapping[str, pd.Series]) -> dict[str, Any] | None:
    if "replica_created" not in events or "replica_ready" not in events:
        return None
    created_s, ready_s = float(events["replica_created"]["t_s"]), float(events["replica_ready"]["t_s"])
    detail = json.loads(events["replica_ready"]["detail"] or "{}")
    timeline: Mapping[str, float] = detail.get("timeline") or {}
    pulled_s = pull_s(detail.get("pull"))
    scheduled_s = float(events["replica_scheduled"]["t_s"]) if "replica_scheduled" in events else NAN
    started_s = float(events["replica_started"]["t_s"]) if "replica_started" in events else NAN
    phases = {name: float(timeline.get(name, NAN)) for name in ("python_s", "import_s", "weights_s", "first_s")}
    inside_s = sum(phases.values())
    answered_s = _on_run_clock(run, timeline)
    process_start_s = answered_s - inside_s if np.isfinite(answered_s) else started_s
    return {
        "subject": subject,
        "created_s": created_s,
        "schedule_s": scheduled_s - created_s,
        "pull_s": pulled_s,
        "start_s": process_start_s - scheduled_s - (pulled_s if np.isfinite(pulled_s) else 0.0),
        **phases,
        "probe_s": ready_s - (process_start_s + inside_s),
        "total_s": ready_s - created_s,
    }


def _on_run_clock(run: Run, timeline: Mapping[str, float]) -> float:
    """When the server gave its first answer, on the run's clock by the wall clock; NaN on another host's clock."""
    if run.info.facts.get("resources_from") != "cgroups" or "ready_wall_s" not in timeline:
        return NAN
    return float(timeline["ready_wall_s"]) - run.info.wall_start.timestamp()
