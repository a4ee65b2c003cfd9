"""From a scaling's settings and a profile to the control loop in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mlscale.environments.worker_controller import ControllerSettings
from mlscale.runs import MlscaleError
from mlscale_twin.loops import HpaLoop, KedaLoop, LoopContext, RayServeLoop, TargetTrackingLoop, WorkerControllerLoop
from mlscale_twin.policies.hpa import HpaSettings
from mlscale_twin.policies.ray_serve import RayServeSettings
from mlscale_twin.policies.target_tracking import TargetTrackingSettings
from mlscale_twin.profile import Profile

Scaling = Mapping[str, Any]
"""Settings of one component, every default spelled out, as run.json holds them."""


def start_loop(context: LoopContext, scaling: Scaling, profile: Profile) -> None:
    """Starts the profile's control loop over the component; a fixed number of replicas has none.

    Raises:
        MlscaleError: a setting that the twin does not support.
    """
    if scaling["min_replicas"] != scaling["max_replicas"]:
        _STARTERS[profile.scales_by](context, scaling, profile)


def _worker_controller(context: LoopContext, scaling: Scaling, profile: Profile) -> None:
    settings = _fields(ControllerSettings, scaling)
    WorkerControllerLoop(
        context,
        settings,
        sample_interval_s=scaling["sample_interval_s"],
        period_s=scaling["period_s"],
        look_back_s=scaling["look_back_s"],
    )


def _ray_serve(context: LoopContext, scaling: Scaling, profile: Profile) -> None:
    if scaling["aggregation_function"] != "mean":
        raise MlscaleError("only the mean is simulated", "aggregation_function", "leave it at mean, or measure live")
    RayServeLoop(
        context,
        _fields(RayServeSettings, scaling),
        metrics_interval_s=scaling["metrics_interval_s"],
        look_back_s=scaling["look_back_period_s"],
        period_s=profile.loop_value("control_period_s"),
        delay_s=profile.loop_value("report_delay_s"),
    )


def _hpa(context: LoopContext, scaling: Scaling, profile: Profile) -> None:
    on_cpu = scaling["metric"] == "cpu"
    up_s, down_s = scaling["upscale_stabilisation_s"], scaling["downscale_stabilisation_s"]
    settings = HpaSettings(
        "cpu" if on_cpu else "external",
        scaling["target_cpu_percent"] if on_cpu else round(1000 * scaling["target_in_flight"]),
        max(1, scaling["min_replicas"]),
        scaling["max_replicas"],
        request_milli=round(1000 * scaling["cpu_cores"]),
        upscale_stabilization_s=float(up_s or 0.0),
        downscale_stabilization_s=float(profile.loop_value("downscale_stabilisation_s") if down_s is None else down_s),
        tolerance=profile.loop_value("tolerance"),
        cpu_initialization_period_s=profile.loop_value("cpu_initialisation_period_s"),
        initial_readiness_delay_s=profile.loop_value("initial_readiness_delay_s"),
    )
    held = scaling["min_replicas"] == 0
    if held:
        KedaLoop(context, polling_interval_s=scaling["polling_interval_s"], cooldown_s=scaling["cooldown_s"])
    HpaLoop(
        context,
        settings,
        sync_s=scaling.get("sync_period_s") or profile.loop_value("sync_period_s"),
        window_s=0.0 if held else scaling["metric_window_s"],
        scrape_s=profile.loop_value("metric_resolution_s"),
        delay_s=profile.loop_value("metric_delay_s") if "metric_delay_s" in profile.loop else 0.0,
    )


def _target_tracking(context: LoopContext, scaling: Scaling, profile: Profile) -> None:
    settings = TargetTrackingSettings(
        target=scaling["target"],
        min_capacity=scaling["min_replicas"],
        max_capacity=scaling["max_replicas"],
        period_s=scaling["metric_period_s"],
        out_datapoints=scaling["out_datapoints"],
        in_datapoints=scaling["in_datapoints"],
        out_cooldown_s=scaling["out_cooldown_s"],
        in_cooldown_s=scaling["in_cooldown_s"],
    )
    TargetTrackingLoop(
        context,
        settings,
        metric=scaling["metric"],
        quota_cores=scaling["cpu_cores"],
        delay_s=profile.loop_value(f"metric_delay_{scaling['metric_period_s']}s"),
    )


def _fields(kind: type[Any], scaling: Scaling) -> Any:
    """The policy's settings, whose field names equal the scaling's."""
    return kind(**{name: scaling[name] for name in kind.__dataclass_fields__ if name in scaling})


_STARTERS: Final = {
    "worker-controller": _worker_controller,
    "ray-serve": _ray_serve,
    "hpa": _hpa,
    "target-tracking": _target_tracking,
}
