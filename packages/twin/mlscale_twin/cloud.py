"""ECS and EKS on equal ground: profiles composed of numbers that all variants share, and those of one variant alone.

`cloud.json` has every number as a range with its source. What a user would choose alike is shared: registry and image,
load balancer, metric source, instance type. The application's work and start are those of profile k3s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlscale.runs import EventKind, MlscaleError
from mlscale_twin.durations import Duration, Fixed, LogNormal, Number, Sourced, Uniform, scale_duration
from mlscale_twin.profile import Machines, Profile, Starts, StartStep, fitted_profile, profile_names

FILE: Final = Path(__file__).with_suffix(".json")
# The variant that an environment has unless its settings say otherwise (`variant_of`).
DEFAULTS: Final = {"ecs": "ecs-fargate"}


class Range(Sourced):
    """A number's plausible values: half of them below ``typical``, evenly spread on either side."""

    low: float = Field(ge=0)
    typical: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.typical <= self.high:
            raise ValueError(f"not in order: {self.low}, {self.typical}, {self.high}")
        return self

    def at(self, share: float) -> float:
        """The value that a ``share`` (0 to 1) of all plausible ones do not exceed."""
        below, above = min(share, 0.5), max(share - 0.5, 0.0)
        return self.low + 2 * below * (self.typical - self.low) + 2 * above * (self.high - self.typical)


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Variant(_Data):
    """One way to run ECS or EKS. ``like``: the variant whose numbers it has, too. ``rates``: limits that matter for
    thousands of containers only (tests/test_launch_curves.py)."""

    environment: Literal["ecs", "eks"]
    what: str
    like: str | None = None
    numbers: dict[str, Range]
    rates: dict[str, Range] = Field(default_factory=dict)


class Cloud(_Data):
    shared: dict[str, Range]
    variants: dict[str, Variant]

    def numbers_of(self, variant: str) -> dict[str, Range]:
        """Every number of a variant's profile: shared ones by their names, its own as "variant.name"."""
        own = self.variants[variant]
        base = self.variants[own.like].numbers if own.like else {}
        return self.shared | {f"{variant}.{name}": value for name, value in (base | own.numbers).items()}

    def rates_of(self, variant: str) -> dict[str, Range]:
        own = self.variants[variant]
        return (self.variants[own.like].rates if own.like else {}) | own.rates


def read_cloud() -> Cloud:
    return Cloud.model_validate_json(FILE.read_text())


def variant_of(environment: str, scaling: Mapping[str, object]) -> str:
    """The name of the profile that fits some settings: of `ecs`, the variant by what tasks run on."""
    return "ecs-ec2" if environment == "ecs" and scaling.get("launch") == "ec2" else environment


def cloud_profile(
    variant: str,
    shares: Mapping[str, float] | None = None,
    own_metrics: bool = False,
    k3s: Profile | None = None,
) -> Profile:
    """The profile of a variant.

    Args:
        variant: of `cloud.json`, or "ecs" for its default.
        shares: where in its range a number lies, 0 to 1, by the names of `Cloud.numbers_of`; default: typical.
        own_metrics: EKS reads metrics-server, as it does by default, and not the metric source that is shared.
        k3s: whose application it is of; None: of the shipped profile's.

    Raises:
        MlscaleError: an unknown variant.
    """
    cloud, variant = read_cloud(), DEFAULTS.get(variant, variant)
    if variant not in cloud.variants:
        choice = ", ".join([*profile_names(), *DEFAULTS, *cloud.variants])
        raise MlscaleError("no such profile", variant, f"choose a file, or one of: {choice}")
    kind, k3s = cloud.variants[variant], k3s or fitted_profile("k3s")
    drawn = _Drawn(variant, cloud.numbers_of(variant), shares or {})
    imports, speed = k3s.starts.steps[-1], drawn.number("host_speed").value
    work = {
        name: each.model_copy(update={"mean_s": each.mean_s.model_copy(update={"value": each.mean_s.value * speed})})
        for name, each in k3s.work.items()
    }
    placed: EventKind | None = None if variant in _SCALERS else "replica_scheduled"  # which else its machine records
    steps = (
        StartStep(name="placed and launched", takes=drawn.duration("launch_s"), ends_with=placed),
        StartStep(name="image pulled", takes=drawn.duration("image_pull_s"), ends_with="replica_started"),
        imports.model_copy(update={"takes": scale_duration(imports.takes, speed)}),
    )
    if kind.environment == "ecs":
        loop = {name: drawn.number(name) for name in ("metric_delay_20s", "metric_delay_60s")}
    else:
        delay = drawn.number("metric_delay_20s")
        shared = {"metric_resolution_s": delay.model_copy(update={"value": 20.0}), "metric_delay_s": delay}
        loop = k3s.loop | ({} if own_metrics else shared)
    return Profile(
        environment=kind.environment,
        level="container+machine" if variant in _SCALERS else "container",
        scales_by="target-tracking" if kind.environment == "ecs" else "hpa",
        what=f"{kind.what}: from documents and assumptions, no run on AWS; the application's work as on k3s here",
        application=k3s.application,
        work=work,
        requests=k3s.requests.model_copy(update={"routing": "round-robin", "outside_s": drawn.number("lb_hop_s")}),
        starts=Starts(
            steps=steps,
            noticed=drawn.until_healthy(),
            leaves=Fixed(value_s=drawn.number("lb_deregistration_s").value, **drawn.source("lb_deregistration_s")),
            probe_period_s="readiness_period_s" if kind.environment == "eks" else None,
        ),
        machines=_machines(variant, drawn) if variant in _SCALERS else None,
        loop=loop,
    )


_SCALERS: Final[Mapping[str, Literal["karpenter", "capacity-provider", "cluster-autoscaler"]]] = {
    "ecs-ec2": "capacity-provider",
    "eks-karpenter": "karpenter",
    "eks-node-group": "cluster-autoscaler",
}


def _machines(variant: str, drawn: _Drawn) -> Machines:
    return Machines(
        by=_SCALERS[variant],
        boot=drawn.duration("instance_boot_s"),
        boot_overhead=drawn.duration("request_s"),
        registers=drawn.duration("join_s"),
        turns_ready=Fixed(value_s=0.0, **drawn.source("join_s")),
    )


class _Drawn:
    """A variant's numbers, each at its place in its range."""

    def __init__(self, variant: str, ranges: Mapping[str, Range], shares: Mapping[str, float]) -> None:
        self._variant, self._ranges, self._shares = variant, ranges, shares

    def source(self, name: str) -> dict[str, Any]:
        return self._range(name)[1].model_dump(include={"source", "date", "note"})

    def number(self, name: str) -> Number:
        key, values = self._range(name)
        return Number(value=values.at(self._shares.get(key, 0.5)), **self.source(name))

    def duration(self, name: str) -> Duration:
        """Differs from one replica or machine to another by the shared `start_spread`."""
        mean_s = self.number(name).value
        if not mean_s:
            return Fixed(value_s=0.0, **self.source(name))
        return LogNormal(mean_s=mean_s, sd_s=mean_s * self.number("start_spread").value, **self.source(name))

    def until_healthy(self) -> Duration:
        """From ready to the first request: the load balancer's registration, then its checks, at any phase."""
        period_s = self.number("lb_check_interval_s").value
        checked_s = self.number("lb_registration_s").value + self.number("lb_checks").value * period_s
        return Uniform(low_s=checked_s - period_s, high_s=checked_s, **self.source("lb_check_interval_s"))

    def _range(self, name: str) -> tuple[str, Range]:
        own = f"{self._variant}.{name}"
        key = own if own in self._ranges else name
        return key, self._ranges[key]
