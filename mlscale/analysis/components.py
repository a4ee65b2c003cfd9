"""An application's components: their replicas together, and each one's share of a request's way and of the cost."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from mlscale.analysis.resources import cpu_by_role, throttling
from mlscale.runs import Run

NUMBERS: Final = ("desired", "starting", "ready")


def replicas_in_all(replicas: pd.DataFrame) -> pd.DataFrame:
    """Replicas of all components together over time: t_s, desired, starting, ready.

    Components are looked at one after the other, so each sample stands until its component's next one. Before a
    component's first sample it counts as none.
    """
    ordered = replicas.sort_values("t_s", kind="stable")
    if ordered["component"].nunique() <= 1:
        return ordered.groupby("t_s", as_index=False)[[*NUMBERS]].last()
    held = ordered.pivot_table(index="t_s", columns="component", values=[*NUMBERS], aggfunc="last").ffill().fillna(0)
    summed = {name: held[name].sum(axis=1) for name in NUMBERS}
    return pd.DataFrame(summed).reset_index()[["t_s", *NUMBERS]]


def visits(run: Run) -> pd.DataFrame:
    """One row per visit of a component: request_id, component, replica_id, queue_s, inference_s (its own work), and of
    the request intended_s and status. A whole application's requests visit its only component once."""
    columns = ["request_id", "intended_s", "status"]
    if len(run.info.components) > 1:
        return run.hops.merge(run.requests[columns], on="request_id", validate="many_to_one")
    own = ["replica_id", "queue_s", "inference_s"]
    return run.requests[[*columns, *own]].assign(component=run.info.components[0])


def by_component(run: Run, from_s: float, to_s: float) -> pd.DataFrame:
    """What each component did for right answers intended in [from_s, to_s), and what it used meanwhile.

    Returns:
        Index component; columns visits_per_request, queue_s and work_s (means per visit), work_per_request_s, replicas
        (mean ready), cpu_s (its replicas'), cpu_per_request_s, throttled_share.
    """
    seen = visits(run)
    inside = seen[(seen["status"] == "ok") & (seen["intended_s"] >= from_s) & (seen["intended_s"] < to_s)]
    requests = inside["request_id"].nunique()
    rows = {}
    for name in run.info.components:
        mine = inside[inside["component"] == name]
        used = run.resources[(run.resources["component"] == name) & (run.resources["role"] == "replica")]
        cpu = cpu_by_role(used, from_s, to_s)
        cpu_s = float(cpu["cpu_s"].iloc[0]) if len(cpu) else float("nan")
        ready = run.replicas[run.replicas["component"] == name]
        rows[name] = {
            "visits_per_request": len(mine) / requests if requests else float("nan"),
            "queue_s": float(mine["queue_s"].mean()),
            "work_s": float(mine["inference_s"].mean()),
            "work_per_request_s": float(mine["inference_s"].sum()) / requests if requests else float("nan"),
            "replicas": float(ready[ready["t_s"].between(from_s, to_s)]["ready"].mean()),
            "cpu_s": cpu_s,
            "cpu_per_request_s": cpu_s / requests if requests else float("nan"),
            "throttled_share": throttling(used, from_s, to_s)[0],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("component")


def way(run: Run) -> pd.DataFrame:
    """Where each right answer's time went, s: one row per request with request_id, intended_s, response_s, for each
    component "<name> waits" and "<name> works" (all its visits together), and "rest": what no component tells of (the
    way back, connecting beyond the queue, the front waiting for its turn after a call)."""
    seen = visits(run)
    right = run.requests[run.requests["status"] == "ok"]
    found = pd.DataFrame(
        {
            "request_id": right["request_id"].to_numpy(),
            "intended_s": right["intended_s"].to_numpy(dtype=float),
            "response_s": (right["done_s"] - right["intended_s"]).to_numpy(dtype=float),
        }
    )
    told = np.zeros(len(found))
    for name in run.info.components:
        sums = seen[seen["component"] == name].groupby("request_id")[["queue_s", "inference_s"]].sum()
        mine = sums.reindex(found["request_id"]).fillna(0.0)
        found[f"{name} waits"], found[f"{name} works"] = mine["queue_s"].to_numpy(), mine["inference_s"].to_numpy()
        told += mine.sum(axis=1).to_numpy()
    found["rest"] = found["response_s"] - told
    return found
