"""Names on Kubernetes objects that runs and the one-node cluster share. Imports nothing."""

from __future__ import annotations

from typing import Final

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
TOOL: Final = "mlscale"
RUN: Final = "mlscale/run"
COMPONENT: Final = "app.kubernetes.io/component"
ROLE: Final = "mlscale/role"
BUFFER: Final = "buffer"
# PriorityClass of pods that are preempted (in the one-node cluster's manifests).
BUFFER_PRIORITY: Final = "mlscale-buffer"
# External metric, and the pods' gauge that it is computed from.
IN_FLIGHT: Final = "mlscale_in_flight"
# The pods' gauge of its mean over the settings' window.
IN_FLIGHT_MEAN: Final = "mlscale_in_flight_mean"
# Port that a pod serves on.
PORT: Final = 8080
# Label in the metric's selector: window that gauges are averaged over, ms.
WINDOW_LABEL: Final = "window-ms"
# Annotation of a NodePool: its machines' boot times (`mlscale.environments.machine_types`).
BOOT: Final = "mlscale/boot"
# Annotation of a NodeClaim: when its machine's programs had started.
BOOTED: Final = "mlscale/booted"
# ConfigMap in kube-system that identifies the one-node cluster.
OWN_CLUSTER: Final = "mlscale"
# API group of AWS in a cluster of EKS, and the label that it gives the machines of a managed node group.
EKS_GROUP: Final = "eks.amazonaws.com"
NODE_GROUP_LABEL: Final = f"{EKS_GROUP}/nodegroup"
