"""An application's components: their total replicas, and each component's share of a request's time and CPU."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.resources import cpu_by_role, throttling
from mlscale.runs import Run

NUMBERS: Final = ("desired", "starting", "ready")


def replicas_in_all(replicas: pd.DataFrame) -> pd.DataFrame:
    """Replicas of all components together over time: t_s, desired, starting, ready.

    Components are sampled in turn, so a sample holds until its component's next one. Before its first sample a
    component counts as 0.
    """
    ordered = replicas.sort_values("t_s", kind="stable")
    if ordered["component"].nunique() <= 1:
        return ordered.drop_duplicates("t_s", keep="last", ignore_index=True)[["t_s", *NUMBERS]]
    latest = ordered.pivot_table(index="t_s", columns="component", values=[*NUMBERS], aggfunc="last").ffill().fillna(0)
    summed = {name: latest[name].sum(axis=1) for name in NUMBERS}
    return pd.DataFrame(summed).reset_index()[["t_s", *NUMBERS]]


def value_at(times: npt.ArrayLike, values: npt.NDArray[Any], at_s: npt.ArrayLike) -> npt.NDArray[Any]:
    """Of a step function, (n,) each: a value holds until the next time, the first one also before its time."""
    return np.asarray(values[np.maximum(np.searchsorted(times, at_s, side="right") - 1, 0)])


def visits(run: Run) -> pd.DataFrame:
    """One row per visit to a component: request_id, component, replica_id, queue_s, inference_s (its own work), and the
    request's intended_s and status. In an undivided application, each request visits the only component once."""
    columns = ["request_id", "intended_s", "status"]
    if len(run.info.components) > 1:
        return run.hops.merge(run.requests[columns], on="request_id", validate="many_to_one")
    hop_columns = ["replica_id", "queue_s", "inference_s"]
    return run.requests[[*columns, *hop_columns]].assign(component=run.info.components[0])


def by_component(run: Run, from_s: float, to_s: float) -> pd.DataFrame:
    """Each component's work for correct answers intended in [from_s, to_s), and the resources it used meanwhile.

    Returns:
        Index component; columns visits_per_request, queue_s and work_s (means per visit), work_per_request_s, replicas
        (mean ready), cpu_s (its replicas'), cpu_per_request_s, throttled_share.
    """
    visited = visits(run)
    inside = visited[(visited["status"] == "ok") & (visited["intended_s"] >= from_s) & (visited["intended_s"] < to_s)]
    requests = inside["request_id"].nunique()
    rows = {}
    for name in run.info.components:
        component_visits = inside[inside["component"] == name]
        used = run.resources[(run.resources["component"] == name) & (run.resources["role"] == "replica")]
        cpu = cpu_by_role(used, from_s, to_s)
        cpu_s = float(cpu["cpu_s"].iloc[0]) if len(cpu) else float("nan")
        ready = run.replicas[run.replicas["component"] == name]
        rows[name] = {
            "visits_per_request": len(component_visits) / requests if requests else float("nan"),
            "queue_s": float(component_visits["queue_s"].mean()),
            "work_s": float(component_visits["inference_s"].mean()),
            "work_per_request_s": float(component_visits["inference_s"].sum()) / requests if requests else float("nan"),
            "replicas": float(ready[ready["t_s"].between(from_s, to_s)]["ready"].mean()),
            "cpu_s": cpu_s,
            "cpu_per_request_s": cpu_s / requests if requests else float("nan"),
            "throttled_share": throttling(used, from_s, to_s)[0],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("component")


def response_breakdown(run: Run) -> pd.DataFrame:
    """Where each correct answer's time went, s: one row per request with request_id, intended_s, response_s, for each
    component "<name> waits" and "<name> works" (sums over its visits), and "rest": what no component accounts for
    (connecting, the network, the front component waiting to resume after a call)."""
    visited = visits(run)
    right = run.requests[run.requests["status"] == "ok"]
    table = pd.DataFrame(
        {
            "request_id": right["request_id"].to_numpy(),
            "intended_s": right["intended_s"].to_numpy(dtype=float),
            "response_s": (right["done_s"] - right["intended_s"]).to_numpy(dtype=float),
        }
    )
    accounted_s = np.zeros(len(table))
    for name in run.info.components:
        sums = visited[visited["component"] == name].groupby("request_id")[["queue_s", "inference_s"]].sum()
        times = sums.reindex(table["request_id"]).fillna(0.0)
        table[f"{name} waits"], table[f"{name} works"] = times["queue_s"].to_numpy(), times["inference_s"].to_numpy()
        accounted_s += times.sum(axis=1).to_numpy()
    table["rest"] = table["response_s"] - accounted_s
    return table
