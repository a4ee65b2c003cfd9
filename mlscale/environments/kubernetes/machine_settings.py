"""Settings of a Deployment on machines that Karpenter asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlscale.environments.kubernetes.settings import KubernetesScaling, arm_settings


class MachineScaling(KubernetesScaling):
    """`KubernetesScaling`, and which machines there may be.

    Karpenter waits for pending pods to stop coming (1 s, at most 10 s), packs them onto the cheapest machines of
    ``machine_types``, and takes machines away that are empty, or could be done without, ``consolidate_after_s`` after
    the last change of their pods.
    """

    machine_types: tuple[str, ...] = Field(
        default=("rehearsal.small",), min_length=1, description="types that machines may have"
    )
    max_machines: int = Field(
        default=6, ge=1, le=60, description="machines at most, if all are of the smallest type (a limit on memory)"
    )
    boot: str = Field(default="ec2", description="how long a machine boots: a name in the list of types, or 10s")
    consolidation: Literal["WhenEmptyOrUnderutilized", "WhenEmpty"] = Field(
        default="WhenEmptyOrUnderutilized", description="which machines Karpenter takes away"
    )
    consolidate_after_s: int = Field(default=0, ge=0, le=86_400, description="and how long after its pods changed, s")
    node_class: str = Field(
        default="eks.amazonaws.com/NodeClass/default",
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9]+/[a-z0-9.-]+$",
        description="live: group/kind/name of what makes the machines; default: EKS Auto Mode's",
    )
    node_group: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="live: a managed node group scaled by the Cluster Autoscaler, in place of a NodePool; then "
        "machine_types names the type of its machines",
    )
    buffer_replicas: int = Field(
        default=0, ge=0, le=64, description="room kept free for so many replicas, by pods that give way at once"
    )


def machine_arm_settings(arm: str) -> MachineScaling:
    """The settings of an arm: those of `arm_settings`; Karpenter's own are the same in all.

    Raises:
        MlscaleError: an unknown arm.
    """
    return MachineScaling(**arm_settings(arm).model_dump())
