"""Names on Kubernetes objects that a run and the one-node cluster have to agree on. Nothing is imported here."""

from __future__ import annotations

from typing import Final

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
TOOL: Final = "mlscale"
RUN: Final = "mlscale/run"
COMPONENT: Final = "app.kubernetes.io/component"
ROLE: Final = "mlscale/role"
BUFFER: Final = "buffer"
# PriorityClass of pods that give way (the one-node cluster's manifests).
BUFFER_PRIORITY: Final = "mlscale-buffer"
# External metric, and the gauge of a pod that it is made from.
IN_FLIGHT: Final = "mlscale_in_flight"
# Where a pod answers.
PORT: Final = 8080
# Label in the metric's selector: the window that a pod's gauge is averaged over.
WINDOW_LABEL: Final = "window-ms"
# Annotation of a NodePool: which boot times its machines have (`mlscale.environments.machine_types`).
BOOT: Final = "mlscale/boot"
# Annotation of a NodeClaim: when its machine's programs had started.
BOOTED: Final = "mlscale/booted"
# ConfigMap in kube-system by which the one-node cluster says what it is.
OWN_CLUSTER: Final = "mlscale"
