"""Settings of a Deployment on machines that Karpenter adds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlscale.environments.kubernetes.names import EKS_GROUP
from mlscale.environments.kubernetes.settings import ZeroScaling
from mlscale.environments.machine_choice import MachineChoice


class MachineScaling(MachineChoice, ZeroScaling):
    """`ZeroScaling`, and which machines there may be.

    Karpenter waits until no further pods become pending (for 1 s, at most 10 s), packs them onto the cheapest machines
    of ``machine_types``, and removes machines that are empty or not needed ``consolidate_after_s`` after the last
    change of their pods.
    """

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


def is_auto_mode(node_class: str | None, node_group: str | None) -> bool:
    """Whether EKS Auto Mode, the default, runs the machines; ``node_class`` None: a run that does not state it."""
    return node_group is None and (node_class is None or node_class.startswith(f"{EKS_GROUP}/"))
