"""The environment ``k3s``: containers scaled by Kubernetes' HorizontalPodAutoscaler, on the cluster of the kubeconfig.

The cluster may be K3s, kind, minikube, a company's, or our own one-node Kubernetes (``make cluster``). The run's facts
and every figure's caption name it: a run on another distribution is not a K3s run.
"""

from __future__ import annotations

from typing import ClassVar

from mlscale.environments.base import Look
from mlscale.environments.kubernetes.environment import KubernetesEnvironment
from mlscale.runs import Level, Mode


class K3s(KubernetesEnvironment):
    """Pods go to existing nodes."""

    name: ClassVar[str] = "k3s"
    look: ClassVar[Look] = Look("Kubernetes (HPA)", "Kubernetes (HPA)", "#009E73", "D", 3)
    level: ClassVar[Level] = "container"
    modes: ClassVar[frozenset[Mode]] = frozenset({"live"})
