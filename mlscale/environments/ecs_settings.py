"""Settings of an Amazon ECS service under target tracking; the defaults are AWS' own where it has any."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlscale.environments.base import Scaling, scaling_of_arm


class EcsScaling(Scaling):
    """A scaling policy of Application Auto Scaling, and what the tasks run on.

    The service wants tasks in proportion to metric / ``target``, when the metric was above it for ``out_datapoints``
    periods, or below 90 % of it for ``in_datapoints``; `mlscale.policies.target_tracking` says where that is from.
    On ``launch`` "ec2" tasks need instances, which a capacity provider asks for.
    """

    metric: Literal["cpu", "in_flight"] = Field(
        default="cpu", description="ECSServiceAverageCPUUtilization in %, or requests in flight per task (custom)"
    )
    target: float = Field(default=50.0, gt=0, le=1000, description="of the metric")
    metric_period_s: Literal[20, 60] = Field(default=60, description="period of the metric, s (20: since June 2026)")
    out_datapoints: int = Field(default=3, ge=1, le=100, description="periods above the target before tasks are added")
    in_datapoints: int = Field(default=15, ge=1, le=100, description="periods below before tasks are removed")
    out_cooldown_s: float = Field(default=300.0, ge=0, le=86_400, description="ScaleOutCooldown, s")
    in_cooldown_s: float = Field(default=300.0, ge=0, le=86_400, description="ScaleInCooldown, s")
    max_waiting: int = Field(
        default=100, ge=0, le=100_000, description="requests that may wait in a task for its model; one more: 503"
    )
    memory_mib: int = Field(default=256, ge=16, le=1_000_000, description="memory of a task, MiB")
    launch: Literal["fargate", "ec2"] = Field(default="fargate", description="what tasks run on")
    instance_cores: float = Field(default=2.0, gt=0, le=192, description="ec2: cores of an instance")
    instance_memory_mib: int = Field(default=8192, ge=256, le=10_000_000, description="ec2: its memory, MiB")
    min_instances: int = Field(default=1, ge=0, le=1000, description="ec2: instances at least")
    max_instances: int = Field(default=4, ge=1, le=1000, description="ec2: instances at most")
    target_capacity: float = Field(default=100.0, gt=0, le=100, description="ec2: share of the instances in use, %")


def arm_settings(arm: str) -> EcsScaling:
    """The settings of an arm (METHOD §4).

    ``shipped``: CPU at 50 %, one-minute metrics, AWS' datapoints and cooldowns. ``matched``: requests in flight, target
    1 a task, on the shortest period there is; 30 s of cooldown before a service shrinks, none before it grows.

    Raises:
        MlscaleError: an unknown arm.
    """
    matched = EcsScaling(metric="in_flight", target=1.0, metric_period_s=20, out_cooldown_s=0.0, in_cooldown_s=30.0)
    return scaling_of_arm(arm, EcsScaling(), matched)
