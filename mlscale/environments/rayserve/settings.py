"""Settings of Ray Serve's autoscaler and of the deployment it scales; the defaults are Ray's own (Ray 2.60)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mlscale.environments.base import PaidBy, Scaling
from mlscale.environments.machine_choice import MachineChoice


class RayServeScaling(Scaling):
    """`ray.serve.config.AutoscalingConfig` and the deployment's settings that affect scaling.

    With ``min_replicas == max_replicas`` no autoscaler runs. With ``min_replicas`` 0 the router holds requests until a
    replica has started.

    Ray wants ceil(n + factor * (mean(queued + in service) / target_ongoing_requests - n)) replicas, n running; it acts
    once it has wanted more (fewer) for ``upscale_delay_s`` (``downscale_delay_s``) without a break.
    """

    no_zero: ClassVar[str] = ""

    target_ongoing_requests: float = Field(
        default=2.0, gt=0, le=1000, description="requests queued or in service per replica aimed at"
    )
    max_ongoing_requests: int = Field(
        default=5, ge=1, le=1000, description="requests a replica takes at once; the rest waits at the router"
    )
    max_queued_requests: int = Field(
        default=-1, ge=-1, le=1_000_000, description="requests that may wait at the router, -1 = any; more: 503"
    )
    upscale_delay_s: float = Field(
        default=30.0, ge=0, le=3600, description="more replicas must be wanted for so long, s"
    )
    downscale_delay_s: float = Field(
        default=600.0, ge=0, le=86_400, description="fewer replicas must be wanted for so long, s"
    )
    downscale_to_zero_delay_s: float | None = Field(
        default=None, ge=0, le=86_400, description="the same for the last replica, s; None: downscale_delay_s"
    )
    look_back_period_s: float = Field(
        default=30.0, ge=0.1, le=3600, description="window over which requests are averaged, s"
    )
    metrics_interval_s: float = Field(
        default=10.0, ge=0.05, le=600, description="period at which the router reports its requests, s"
    )
    upscaling_factor: float = Field(default=1.0, gt=0, le=100, description="gain on the difference when scaling up")
    downscaling_factor: float = Field(default=1.0, gt=0, le=100, description="gain on the difference when scaling down")
    aggregation_function: Literal["mean", "max", "min"] = Field(
        default="mean", description="how the window becomes one number"
    )
    initial_backoff_s: float = Field(
        default=0.025, gt=0, le=10, description="router: first wait when every replica it asked is full, s"
    )
    backoff_multiplier: float = Field(default=2.0, ge=1, le=10, description="router: growth of that wait")
    max_backoff_s: float = Field(default=0.5, gt=0, le=60, description="router: longest such wait, s")
    graceful_shutdown_wait_loop_s: float = Field(
        default=2.0, gt=0, le=60, description="draining: period at which idleness is looked at, s"
    )
    graceful_shutdown_timeout_s: float = Field(default=20.0, ge=0, le=600, description="draining: killed after, s")
    health_check_period_s: float = Field(default=10.0, gt=0, le=600, description="period of Ray's health checks, s")
    health_check_timeout_s: float = Field(default=30.0, gt=0, le=600, description="a health check fails after, s")
    address: str = Field(
        default="",
        pattern=r"^(https?://[^/\s]+/?)?$",
        description="dashboard of a Ray cluster that runs already, such as http://HEAD:8265; empty: its own Ray here",
    )
    working_dir: str = Field(
        default="",
        description="with address: URI of a zip with the application, which every node fetches; empty: they have it",
    )
    load_from: str = Field(
        default="",
        description="with address: IP or ID of the cluster's node on which a task sends the load; empty: from here",
    )
    startup_concurrency: int = Field(
        default=0, ge=0, le=64, description="replicas that start at once; 0 = Ray's own: as many as the host has cores"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.look_back_period_s <= self.metrics_interval_s:
            raise ValueError(
                f"look_back_period_s ({self.look_back_period_s} s) must be longer than "
                f"metrics_interval_s ({self.metrics_interval_s} s)"
            )
        for name in ("working_dir", "load_from"):
            if getattr(self, name) and not self.address:
                raise ValueError(f"{name} is for a cluster that runs already: give its address, too")
        if self.initial_backoff_s > self.max_backoff_s:
            raise ValueError(
                f"initial_backoff_s ({self.initial_backoff_s} s) is above max_backoff_s ({self.max_backoff_s} s)"
            )
        return self

    @classmethod
    def paid_by(cls, settings: Mapping[str, Any]) -> PaidBy:
        """Where Ray adds machines (`RayMachineScaling`), they are instances."""
        return "instances" if "machine_types" in settings else super().paid_by(settings)

    @classmethod
    def matched(cls) -> Self:
        """Queues requests at the router (``max_ongoing_requests`` 1: one queue for all replicas, like TorchServe's).

        The router looks for a free replica every 25 ms, Ray's own shortest pause, which otherwise grows to 0.5 s:
        requests then wait less (data/control_loops.csv). The metrics interval is the loop's effective period: Ray
        decides about 8 times a second, but on numbers that change once per interval. Ray requires the look-back to be
        longer than the interval.
        """
        return cls(
            target_ongoing_requests=1.0,
            max_ongoing_requests=1,
            upscale_delay_s=1.0,
            downscale_delay_s=30.0,
            metrics_interval_s=0.5,
            look_back_period_s=0.6,
            backoff_multiplier=1.0,
            max_backoff_s=0.025,
        )


class RayMachineScaling(MachineChoice, RayServeScaling):
    """`RayServeScaling`, and which machines Ray's own autoscaler may add in a rehearsal; the head node has room for
    ``min_replicas``.

    It looks every 5 s which replicas have no room (the resources of pending actors), packs them onto machines of
    ``machine_types``, and requests of each type at most ceil(``upscaling_speed`` * running machines) at a look, at
    least one (ray/autoscaler/v2: scheduler.py, reconciler.py).
    """

    no_zero: ClassVar[str] = "the head node of a rehearsal always runs, and holds the first replicas"

    upscaling_speed: float = Field(
        default=1.0, ge=0, le=1000, description="machines requested at once, per running one; KubeRay's default: 1000"
    )
    idle_timeout_s: float = Field(
        default=300.0, ge=0, le=86_400, description="a machine without replicas is removed after, s"
    )
