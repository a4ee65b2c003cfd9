"""Where the time of a container's cold start goes, pod by pod: from the autoscaler's wish to the first ready answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.runs import Run

NAN: Final = float("nan")
# In the order in which they follow one another.
PHASES: Final = ("schedule_s", "pull_s", "start_s", "python_s", "import_s", "weights_s", "first_s", "probe_s")
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PULLED: Final = re.compile(r"Successfully pulled image .* in ([0-9.a-zµ]+)")


def cold_starts(run: Run) -> pd.DataFrame:
    """One row a pod that became ready: subject, created_s (run clock), the phases, total_s (created to ready).

    schedule_s: created to bound to a node. pull_s: the image's pull, 0 where it was there already. start_s: the rest
    until the process ran (sandbox, mounts, container). python_s, import_s, weights_s, first_s: as the application's
    server wrote in its log (`mlscale.serving.timeline`). probe_s: from its first answer to being ready, which is
    the wait for the next readiness probe and for the news of it. All in s; NaN where a part is not known.

    The process's start is on this host's clock where the node is this host; elsewhere start_s and probe_s come from
    the times at which the watch saw the container start and the pod become ready.
    """
    rows = [row for subject, lives in _lives(run).items() if (row := _row(run, subject, lives)) is not None]
    return pd.DataFrame(rows, columns=["subject", "created_s", *PHASES, "total_s"])


def pull_s(message: str | None) -> float:
    """Of the kubelet's "Pulled" event: how long the pull took, s; 0 where the image was on the node, NaN if unknown."""
    if not message:
        return NAN
    found = _PULLED.search(message)
    if found is None:
        return 0.0 if "already present" in message else NAN
    parts = re.findall(r"([0-9.]+)(ms|us|µs|ns|h|m|s)", found[1])
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _lives(run: Run) -> dict[str, dict[str, pd.Series]]:
    """subject -> kind -> its first event of that kind."""
    lives: dict[str, dict[str, pd.Series]] = {}
    for _, event in run.events.sort_values("t_s", kind="stable").iterrows():
        if event["subject"]:
            lives.setdefault(str(event["subject"]), {}).setdefault(str(event["kind"]), event)
    return lives


def _row(run: Run, subject: str, life: Mapping[str, pd.Series]) -> dict[str, Any] | None:
    if "replica_created" not in life or "replica_ready" not in life:
        return None
    created_s, ready_s = float(life["replica_created"]["t_s"]), float(life["replica_ready"]["t_s"])
    detail = json.loads(life["replica_ready"]["detail"] or "{}")
    own: Mapping[str, float] = detail.get("timeline") or {}
    pulled_s = pull_s(detail.get("pull"))
    scheduled_s = float(life["replica_scheduled"]["t_s"]) if "replica_scheduled" in life else NAN
    seen_s = float(life["replica_started"]["t_s"]) if "replica_started" in life else NAN
    phases = {name: float(own.get(name, NAN)) for name in ("python_s", "import_s", "weights_s", "first_s")}
    inside_s = sum(phases.values())
    answered_s = _on_run_clock(run, own)
    began_s = answered_s - inside_s if np.isfinite(answered_s) else seen_s
    return {
        "subject": subject,
        "created_s": created_s,
        "schedule_s": scheduled_s - created_s,
        "pull_s": pulled_s,
        "start_s": began_s - scheduled_s - (pulled_s if np.isfinite(pulled_s) else 0.0),
        **phases,
        "probe_s": ready_s - (began_s + inside_s),
        "total_s": ready_s - created_s,
    }


def _on_run_clock(run: Run, own: Mapping[str, float]) -> float:
    """When the server gave its first answer, on the run's clock by the wall clock; NaN on another host's clock."""
    if run.info.facts.get("resources_from") != "cgroups" or "ready_wall_s" not in own:
        return NAN
    return float(own["ready_wall_s"]) - run.info.wall_start.timestamp()
