"""Twins of whole platforms for tests: small settings, every default spelled out."""

from __future__ import annotations

from typing import Any

from mlscale import environments
from mlscale.runs import ClosedLoop
from mlscale.runs.schedule import ClosedStage
from mlscale_twin.cloud import variant_of
from mlscale_twin.durations import Fixed
from mlscale_twin.policies.karpenter import InstanceType, Resources
from mlscale_twin.profile_files import read_profile
from mlscale_twin.twin import Setup

SMALL = InstanceType("small", Resources(400, 2**30), Resources(300, 2**30), 0.01)
LARGE = InstanceType("large", Resources(2000, 2 * 2**30), Resources(2000, 2 * 2**30), 0.08)
BOOT = Fixed(value_s=30.0, source="a test", date="2026-11")
UP = ClosedLoop(
    duration_s=960.0,
    stages=(
        ClosedStage(start_s=0, clients=2),
        ClosedStage(start_s=60, clients=18),
        ClosedStage(start_s=600, clients=2),
    ),
    think_mean_s=0.76,
)


def setup(environment: str, arm: str = "matched", **changes: Any) -> Setup:
    """Setup of an environment under an arm; ``changes``: fields of `Setup`, or settings."""
    platform = environments.get(environment)
    setup_fields = {name: changes.pop(name) for name in list(changes) if name in Setup.__dataclass_fields__}
    scaling = type(platform.arm(arm)).model_validate({**platform.arm(arm).model_dump(), **changes}).model_dump()
    fields: dict[str, Any] = {
        "profile": read_profile(variant_of(environment, scaling)),
        "schedule": UP,
        "scalings": {"app": scaling},
    }
    if environment == "eks":
        fields |= {"types": (SMALL,), "boot": BOOT}
    if scaling.get("launch") == "ec2":
        fields |= {"types": (LARGE,)}
    return Setup(**(fields | {"photos": tuple(f"p{k}" for k in range(24))} | setup_fields))
