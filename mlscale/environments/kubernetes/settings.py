"""Settings of a Deployment scaled by the HorizontalPodAutoscaler. None: the cluster's default."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from mlscale.environments.base import Scaling
from mlscale.environments.kubernetes.names import IN_FLIGHT, IN_FLIGHT_MEAN

_METRIC_NAME: Final = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"


class KubernetesScaling(Scaling):
    """The HPA (autoscaling/v2), and the pods' settings that affect scaling.

    With ``min_replicas == max_replicas`` the number is fixed, without an HPA. With ``metric`` "cpu" the HPA wants
    ceil(n * utilisation / target_cpu_percent) replicas, utilisation in per cent of the requested CPU (which is the
    quota); with "in_flight" ceil(requests received, waiting or in service / target_in_flight), which KEDA adds up over
    the pods. It changes nothing while the result is within the controller's tolerance, and decides once per sync period
    (the run's facts give both).
    ``cpu_budget`` "total" changes nothing: kube-proxy's rules work in the kernel, so the pods' quotas are the budget.
    """

    no_zero: ClassVar[str] = "a Service without pods refuses connections (the environment keda holds them)"

    metric: Literal["cpu", "in_flight"] = Field(default="cpu", description="what the HPA scales on")
    target_cpu_percent: int = Field(default=50, ge=1, le=1000, description="target of the mean CPU utilisation, %")
    target_in_flight: float = Field(default=1.0, ge=0.001, le=1000, description="target of requests in flight per pod")
    metric_window_s: float = Field(
        default=1.6, ge=0.5, le=60, description="window over which requests in flight are averaged, s"
    )
    in_flight_metric: str = Field(
        default=IN_FLIGHT_MEAN,
        pattern=_METRIC_NAME,
        description="gauge of requests in flight on each pod's /metrics page",
    )
    sync_period_s: float | None = Field(
        default=None,
        ge=1,
        le=300,
        description="the HPA's sync period, s; a flag of the cluster, None: whatever it is",
    )
    upscale_stabilisation_s: int | None = Field(
        default=None, ge=0, le=3600, description="behavior.scaleUp.stabilizationWindowSeconds"
    )
    downscale_stabilisation_s: int | None = Field(
        default=None, ge=0, le=3600, description="behavior.scaleDown.stabilizationWindowSeconds"
    )
    readiness_period_s: int = Field(default=10, ge=1, le=300, description="period of the readiness probe, s")
    drain_delay_s: int = Field(
        default=3, ge=0, le=60, description="how long a deleted pod goes on serving (preStop), s"
    )
    grace_s: int = Field(default=30, ge=1, le=600, description="terminationGracePeriodSeconds, s")
    max_waiting: int = Field(
        default=100, ge=0, le=100_000, description="requests that may wait in a pod for its model; further ones get 503"
    )
    memory_mib: int = Field(default=256, ge=16, le=1_000_000, description="memory request of a pod, MiB")
    min_available: int | None = Field(
        default=None, ge=0, description="minAvailable of a PodDisruptionBudget; None: no budget"
    )
    image: str = Field(default="", description="the application's image; empty: the App's own")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.drain_delay_s >= self.grace_s:
            raise ValueError(f"drain_delay_s ({self.drain_delay_s}) must be shorter than grace_s ({self.grace_s})")
        if round(self.cpu_cores * 1000) < 1:
            raise ValueError(f"cpu_cores ({self.cpu_cores}) is below Kubernetes' minimum, 0.001")
        return self

    @classmethod
    def matched(cls) -> Self:
        """Requests in flight with a target of 1 per pod, averaged over as long as the other frameworks take from a
        queue to a decision (a look-back of 0.6 s plus a delay of 1 s); 30 s before scaling down; a readiness probe
        every second, the shortest period that Kubernetes allows.

        The HPA's sync period is a flag of the cluster and is left alone. (``shipped``: CPU utilisation at 50 %, the
        HPA's own behaviour, a readiness probe with Kubernetes' default period.)
        """
        return cls(
            metric="in_flight",
            target_in_flight=1.0,
            metric_window_s=1.6,
            upscale_stabilisation_s=0,
            downscale_stabilisation_s=30,
            readiness_period_s=1,
        )


class ZeroScaling(KubernetesScaling):
    """`KubernetesScaling` down to zero replicas, by KEDA and its HTTP add-on.

    With ``min_replicas`` 0 every request passes the add-on's interceptor, which holds it while nothing runs, and the
    signal is what the interceptor has: requests held or being answered, now (the pods' gauge is not read). KEDA starts
    the first replica as soon as the interceptor reports a request, and ends the last one at the first look,
    ``polling_interval_s`` apart, at which there was none for ``cooldown_s``; between one and max_replicas its HPA
    decides (KEDA, pkg/scaling/executor/scale_scaledobjects.go).
    """

    no_zero: ClassVar[str] = ""

    polling_interval_s: int = Field(default=30, ge=1, le=3600, description="KEDA's pollingInterval, s")
    cooldown_s: int = Field(
        default=300, ge=0, le=86_400, description="KEDA's cooldownPeriod: how long without a request before zero, s"
    )

    @model_validator(mode="after")
    def _interceptor_counts(self) -> Self:
        if self.min_replicas > 0:
            return self
        if self.metric != "in_flight":
            raise ValueError("min_replicas 0 needs metric=in_flight: without a pod there is no CPU to measure")
        if self.target_in_flight != round(self.target_in_flight):
            raise ValueError(f"with min_replicas 0 target_in_flight is a whole number, not {self.target_in_flight:g}")
        return self

    @classmethod
    def matched(cls) -> Self:
        """As on Kubernetes without KEDA; KEDA looks every second, and waits as long as the HPA before scaling down."""
        return super().matched().model_copy(update={"polling_interval_s": 1, "cooldown_s": 30})


class KedaScaling(ZeroScaling):
    """An HPA made by KEDA. KEDA has no default for what it scales on; ``shipped`` is one request in flight per pod, as
    the pods' gauge shows it when it is read."""

    metric: Literal["cpu", "in_flight"] = Field(default="in_flight", description="what the HPA scales on")
    in_flight_metric: str = Field(
        default=IN_FLIGHT,
        pattern=_METRIC_NAME,
        description="gauge of requests in flight on each pod's /metrics page",
    )

    @classmethod
    def matched(cls) -> Self:
        return super().matched().model_copy(update={"in_flight_metric": IN_FLIGHT_MEAN})
