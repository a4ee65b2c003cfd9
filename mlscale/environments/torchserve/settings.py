"""Settings of the environment ``torchserve``: the worker controller's, and those of TorchServe that affect scaling."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from mlscale.environments.base import Scaling
from mlscale.environments.worker_controller import ControllerSettings


class TorchServeScaling(Scaling):
    """The worker controller (mlscale.environments.worker_controller) and TorchServe's queue.

    wanted = ceil(mean(queued + in service) / target_ongoing) workers; applied once more (fewer) have been wanted for
    ``upscale_delay_s`` (``downscale_delay_s``) without a break. ``min_replicas == max_replicas`` fixes their number.

    TorchServe ships no autoscaler. The defaults (the arm ``shipped``) are TorchServe's own for its queue and timeouts,
    and cautious ones for the controller: it averages over 10 s and waits 5 s to grow and, like Kubernetes, 300 s to
    shrink.
    """

    no_zero: ClassVar[str] = "TorchServe answers 503 while no worker runs"

    target_ongoing: float = Field(
        default=2.0, gt=0, le=1000, description="requests queued or in service per worker aimed at"
    )
    period_s: float = Field(default=1.0, ge=0.05, le=60, description="period of the controller's decisions, s")
    sample_interval_s: float = Field(
        default=0.25, ge=0.05, le=0.5, description="period at which the queue is looked at, s"
    )
    look_back_s: float = Field(default=10.0, ge=0.05, le=600, description="window over which requests are averaged, s")
    upscale_delay_s: float = Field(default=5.0, ge=0, le=3600, description="more workers must be wanted for so long, s")
    downscale_delay_s: float = Field(
        default=300.0, ge=0, le=86_400, description="fewer workers must be wanted for so long, s"
    )
    max_step_up: int = Field(default=64, ge=1, le=64, description="workers added at once, at most")
    max_step_down: int = Field(default=64, ge=1, le=64, description="workers given up by one decision, at most")
    job_queue_size: int = Field(default=100, ge=1, le=100_000, description="requests that may wait; one more: 503")
    response_timeout_s: int = Field(
        default=120, ge=1, le=3600, description="a worker is restarted when it takes longer, s"
    )
    startup_timeout_s: int = Field(default=120, ge=1, le=3600, description="a worker may take this long to load, s")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.period_s < self.sample_interval_s:
            raise ValueError(f"period_s ({self.period_s}) is shorter than sample_interval_s ({self.sample_interval_s})")
        return self

    def controller(self) -> dict[str, Any]:
        """The fields of mlscale.environments.worker_controller.ControllerSettings."""
        return {field.name: getattr(self, field.name) for field in fields(ControllerSettings)}

    @classmethod
    def matched(cls) -> Self:
        """Settings that Ray Serve supports as well: with an interval of 0.5 s, the shortest look-back that Ray accepts
        is about 0.6 s."""
        return cls(target_ongoing=1.0, period_s=0.5, look_back_s=0.6, upscale_delay_s=1.0, downscale_delay_s=30.0)
