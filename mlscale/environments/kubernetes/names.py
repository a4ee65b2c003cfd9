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
# The pods' gauge of requests received, waiting or in service.
IN_FLIGHT: Final = "mlscale_in_flight"
# The pods' gauge of its mean over the settings' window.
IN_FLIGHT_MEAN: Final = "mlscale_in_flight_mean"
# KEDA's HTTP add-on, as its Helm chart installs it: the Services that take requests, and that KEDA asks.
KEDA_NAMESPACE: Final = "keda"
INTERCEPTOR: Final = "keda-add-ons-http-interceptor-proxy"
HTTP_SCALER: Final = "keda-add-ons-http-external-scaler"
HTTP_SCALER_PORT: Final = 9090
# Header by which its interceptor tells the runs apart.
RUN_HEADER: Final = "X-Mlscale-Run"
# Port that a pod serves on.
PORT: Final = 8080
# Annotation of a NodePool: its machines' boot times (`mlscale.environments.machine_types`).
BOOT: Final = "mlscale/boot"
# Annotation of a NodeClaim: when its machine's programs had started.
BOOTED: Final = "mlscale/booted"
# ConfigMap in kube-system that identifies the one-node cluster.
OWN_CLUSTER: Final = "mlscale"
# API group of AWS in a cluster of EKS, and the label that it gives the machines of a managed node group.
EKS_GROUP: Final = "eks.amazonaws.com"
NODE_GROUP_LABEL: Final = f"{EKS_GROUP}/nodegroup"
