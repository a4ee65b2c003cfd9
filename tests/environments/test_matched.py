"""What METHOD §4 says of the arm matched is what the environments set."""

from __future__ import annotations

from pathlib import Path

from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.environments.rayserve.settings import RayServeScaling
from mlscale.environments.torchserve.settings import TorchServeScaling

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
    assert rows["averages over"] == [
        f"{each:g} s" for each in (ts.look_back_s, ray.look_back_period_s, hpa.metric_window_s)
    ]
    delays = f"{ts.upscale_delay_s:g} s of wanting more", f"{ray.upscale_delay_s:g} s of wanting more"
    assert rows["grows after"][:2] == [*delays]
    assert hpa.upscale_stabilisation_s == 0
    shrinks = [f"{each:g} s" for each in (ts.downscale_delay_s, ray.downscale_delay_s, hpa.downscale_stabilisation_s)]
    assert [cell.split(" (")[0] for cell in rows["shrinks after"]] == shrinks
    assert hpa.readiness_period_s == 1


def test_matched_leaves_rays_router_as_it_is_shipped() -> None:
    ray, shipped = RayServeScaling.matched(), RayServeScaling()
    for name in ("initial_backoff_s", "backoff_multiplier", "max_backoff_s"):
        assert getattr(ray, name) == getattr(shipped, name)
