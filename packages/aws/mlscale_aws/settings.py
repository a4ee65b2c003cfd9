"""Settings of an Amazon ECS service under target tracking; the defaults are AWS's where it has any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from mlscale.environments.base import PaidBy, Scaling

# vCPU of a Fargate task, and the memory in MiB that goes with it (ECS developer guide, "Task CPU and memory").
FARGATE_SIZES: Final[Mapping[float, Sequence[int]]] = {
    0.25: (512, 1024, 2048),
    0.5: range(1024, 4096 + 1, 1024),
    1.0: range(2048, 8192 + 1, 1024),
    2.0: range(4096, 16_384 + 1, 1024),
    4.0: range(8192, 30_720 + 1, 1024),
    8.0: range(16_384, 61_440 + 1, 4096),
    16.0: range(32_768, 122_880 + 1, 8192),
}


class EcsScaling(Scaling):
    """A scaling policy of Application Auto Scaling, and what the tasks run on.

    The number of tasks is scaled by metric / ``target`` once the metric was above the target for ``out_datapoints``
    periods, or below 90 % of it for ``in_datapoints``; `mlscale_twin.policies.target_tracking` names the sources.
    With ``launch`` "ec2", tasks need instances, which a capacity provider starts.
    """

    cpu_cores: float = Field(default=0.25, gt=0, le=64, description="CPU of a task, vCPU; Fargate: at least 0.25")
    metric: Literal["cpu", "in_flight"] = Field(
        default="cpu", description="ECSServiceAverageCPUUtilization in %, or requests in flight per task (custom)"
    )
    target: float = Field(default=50.0, gt=0, le=1000, description="target value of the metric")
    metric_period_s: Literal[20, 60] = Field(
        default=60, description="period of the metric, s (20: CPU only, since June 2026)"
    )
    out_datapoints: int = Field(default=3, ge=1, le=100, description="periods above the target before tasks are added")
    in_datapoints: int = Field(default=15, ge=1, le=100, description="periods below before tasks are removed")
    out_cooldown_s: float = Field(default=300.0, ge=0, le=86_400, description="ScaleOutCooldown, s")
    in_cooldown_s: float = Field(default=300.0, ge=0, le=86_400, description="ScaleInCooldown, s")
    max_waiting: int = Field(
        default=100, ge=0, le=100_000, description="requests that may queue in a task; more are answered 503"
    )
    memory_mib: int = Field(default=512, ge=16, le=1_000_000, description="memory of a task, MiB")
    launch: Literal["fargate", "ec2"] = Field(default="fargate", description="what tasks run on")
    instance_cores: float = Field(default=2.0, gt=0, le=192, description="ec2: cores of an instance")
    instance_memory_mib: int = Field(default=8192, ge=256, le=10_000_000, description="ec2: memory of an instance, MiB")
    min_instances: int = Field(default=1, ge=0, le=1000, description="ec2: minimum number of instances")
    max_instances: int = Field(default=4, ge=1, le=1000, description="ec2: maximum number of instances")
    target_capacity: float = Field(default=100.0, gt=0, le=100, description="ec2: share of the instances in use, %")
    image: str | None = Field(default=None, min_length=1, description="live: the application's image, in a registry")
    region: str | None = Field(default=None, min_length=1, description="live: AWS region; none: as configured")
    lifetime_min: int = Field(
        default=60, ge=20, le=720, description="live: minutes after which everything deletes itself"
    )
    budget_usd: float | None = Field(default=None, gt=0, description="live: the most that the run may cost, USD")
    prices: str | None = Field(
        default=None, min_length=1, description="live: price list (mlscale prices --out); none: the shipped one"
    )
    load_cores: float = Field(default=1.0, gt=0, le=16, description="live: CPU of the task that sends the load, vCPU")
    load_memory_mib: int = Field(default=2048, ge=512, le=120_000, description="live: its memory, MiB")

    @field_validator("metric_period_s", mode="before")
    @classmethod
    def _from_text(cls, given: object) -> object:
        """As the command line gives it."""
        return int(given) if isinstance(given, str) and given.isdecimal() else given

    @model_validator(mode="after")
    def _exists_on_aws(self) -> Self:
        if self.metric == "in_flight" and self.metric_period_s == 20:
            raise ValueError("metric_period_s=20 exists for metric=cpu only (a custom metric is read every 60 s)")
        if self.launch == "fargate":
            memory = FARGATE_SIZES.get(self.cpu_cores)
            if memory is None:
                sizes = ", ".join(f"{size:g}" for size in FARGATE_SIZES)
                raise ValueError(f"Fargate has no tasks of {self.cpu_cores:g} vCPU (only {sizes}); or set launch=ec2")
            if self.memory_mib not in memory:
                raise ValueError(
                    f"a Fargate task of {self.cpu_cores:g} vCPU has {memory[0]} to {memory[-1]} MiB "
                    f"in certain steps, not {self.memory_mib}"
                )
        elif self.min_instances > self.max_instances:
            raise ValueError(f"min_instances ({self.min_instances}) is above max_instances ({self.max_instances})")
        return self

    @classmethod
    def sized(cls, sizes: Mapping[str, Any]) -> dict[str, Any]:
        """Fargate has fixed sizes: take the smallest with so many cores and so much memory, or the largest."""
        changed = dict(sizes)
        if changed.get("launch", "fargate") == "fargate" and "cpu_cores" in changed:
            needed = changed["cpu_cores"], changed.get("memory_mib", 0)
            every = [(cores, mib) for cores, memory in FARGATE_SIZES.items() for mib in memory]
            fits = [size for size in every if size[0] >= needed[0] and size[1] >= needed[1]]
            changed |= dict(zip(("cpu_cores", "memory_mib"), (fits or every[-1:])[0], strict=True))
        return changed

    @classmethod
    def paid_by(cls, settings: Mapping[str, Any]) -> PaidBy:
        """Tasks on Fargate, instances otherwise."""
        return "tasks" if settings.get("launch", "fargate") == "fargate" else "instances"

    @classmethod
    def matched(cls) -> Self:
        """AWS's nearest equivalent to one request in flight per replica on a short period: CPU at 50 % every 20 s (the
        utilisation at which a single-server queue holds one request on average).

        But CPU saturates at 100 %, so one decision at most doubles the tasks. Cooldown: 30 s before a service shrinks,
        none before it grows. (``shipped``: CPU at 50 %, one-minute metrics, AWS's datapoints and cooldowns.)
        """
        return cls(metric="cpu", target=50.0, metric_period_s=20, out_cooldown_s=0.0, in_cooldown_s=30.0)
