"""Settings of a Deployment on machines that Karpenter adds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from mlscale.environments.base import PaidBy
from mlscale.environments.kubernetes.names import EKS_GROUP
from mlscale.environments.kubernetes.settings import ZeroScaling


class MachineScaling(ZeroScaling):
    """`ZeroScaling`, and which machines there may be.

    Karpenter waits until no further pods become pending (for 1 s, at most 10 s), packs them onto the cheapest machines
    of ``machine_types``, and removes machines that are empty or not needed ``consolidate_after_s`` after the last
    change of their pods.
    """

    machine_types: tuple[str, ...] = Field(
        default=("rehearsal.small",), min_length=1, description="allowed machine types"
    )
    max_machines: int = Field(
        default=6, ge=1, le=60, description="most machines, if all are of the smallest type (a limit on memory)"
    )
    boot: str = Field(
        default="ec2", description="boot times: a name in the list of machine types, or a constant such as 10s"
    )
    consolidation: Literal["WhenEmptyOrUnderutilized", "WhenEmpty"] = Field(
        default="WhenEmptyOrUnderutilized", description="which machines Karpenter removes"
    )
    consolidate_after_s: int = Field(
        default=0, ge=0, le=86_400, description="how long after the last change of its pods, s"
    )
    node_class: str = Field(
        default=f"{EKS_GROUP}/NodeClass/default",
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9]+/[a-z0-9.-]+$",
        description="live: group/kind/name of the node class; default: EKS Auto Mode's",
    )
    node_group: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="live: a managed node group, scaled by the Cluster Autoscaler, instead of a NodePool; "
        "machine_types then names its machine type",
    )
    buffer_replicas: int = Field(
        default=0, ge=0, le=64, description="replicas to reserve room for, by pods that are preempted at once"
    )

    @property
    def auto_mode(self) -> bool:
        """Whether the machines are those of EKS Auto Mode."""
        return is_auto_mode(self.node_class, self.node_group)

    @field_validator("machine_types", mode="before")
    @classmethod
    def _from_text(cls, given: object) -> object:
        """As the command line gives them: names with commas between, or a JSON list."""
        if not isinstance(given, str):
            return given
        return json.loads(given) if given.startswith("[") else [name.strip() for name in given.split(",")]

    @classmethod
    def paid_by(cls, settings: Mapping[str, Any]) -> PaidBy:
        """A machine is an instance."""
        return "instances"


def is_auto_mode(node_class: str | None, node_group: str | None) -> bool:
    """Whether EKS Auto Mode, the default, runs the machines; ``node_class`` None: a run that does not state it."""
    return node_group is None and (node_class is None or node_class.startswith(f"{EKS_GROUP}/"))
