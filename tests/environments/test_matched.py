"""What METHOD §4 says of the arm matched is what the environments set."""

from __future__ import annotations

from pathlib import Path

from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.environments.rayserve.settings import RayServeScaling
from mlscale.environments.torchserve.settings import TorchServeScaling
from mlscale_experiment.pilot import FASTEST_HPA
from mlscale_experiment.plan import AS_HPA_IS_SHIPPED, SENSITIVITY

METHOD = Path(__file__).parents[2] / "docs" / "METHOD.md"


def table() -> dict[str, list[str]]:
    """Row -> its cells for TorchServe, Ray Serve, Kubernetes."""
    lines = METHOD.read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("| in `matched` |"))
    rows = [line.strip("|").split("|") for line in lines[begin + 2 :]]
    end = next(number for number, row in enumerate(rows) if len(row) < 4)
    return {name.strip(): [cell.strip() for cell in cells] for name, *cells in rows[:end]}


def test_the_table_of_what_still_differs_states_the_settings() -> None:
    rows, ts, ray = table(), TorchServeScaling.matched(), RayServeScaling.matched()
    hpa = KubernetesScaling.matched()
    targets = ts.target_ongoing, ray.target_ongoing_requests, hpa.target_in_flight
    told = zip(rows["target"], targets, strict=True)
    assert all(cell.startswith(f"{target:g} a replica") for cell, target in told)
    assert rows["looks every"][0] == f"{ts.period_s:g} s"
    assert rows["looks every"][1].endswith(f"every {ray.metrics_interval_s:g} s")
    assert hpa.sync_period_s is None, "the cluster's own, which METHOD calls 15 s"
    sync_s, fastest_s = (f"{each['sync_period_s']:g} s" for each in (AS_HPA_IS_SHIPPED, FASTEST_HPA))
    assert rows["looks every"][2] == f"{fastest_s} on our own cluster, {sync_s} on any other (factor `sync-15s`)"
    assert rows["averages over"] == [
        f"{ts.look_back_s:g} s",
        f"{ray.look_back_period_s:g} s",
        f"{FASTEST_HPA['metric_window_s']:g} s; at looks every {sync_s}, {hpa.metric_window_s:g} s",
    ]
    delays = f"{ts.upscale_delay_s:g} s of wanting more", f"{ray.upscale_delay_s:g} s of wanting more"
    assert rows["grows after"][:2] == [*delays]
    assert (hpa.upscale_stabilisation_s, FASTEST_HPA["upscale_stabilisation_s"]) == (0, 2)
    assert AS_HPA_IS_SHIPPED["metric_window_s"] == hpa.metric_window_s
    assert AS_HPA_IS_SHIPPED["upscale_stabilisation_s"] == hpa.upscale_stabilisation_s
    shrinks = [f"{each:g} s" for each in (ts.downscale_delay_s, ray.downscale_delay_s, hpa.downscale_stabilisation_s)]
    assert [cell.split(" (")[0] for cell in rows["shrinks after"]] == shrinks
    assert hpa.readiness_period_s == 1


def test_matched_keeps_rays_router_at_its_shortest_pause() -> None:
    ray, shipped = RayServeScaling.matched(), RayServeScaling()
    assert ray.initial_backoff_s == shipped.initial_backoff_s == ray.max_backoff_s
    assert ray.backoff_multiplier == 1
    (factor,) = (variant.scaling for variant in SENSITIVITY if variant.name == "default-backoff")
    assert factor == {name: getattr(shipped, name) for name in ("backoff_multiplier", "max_backoff_s")}
