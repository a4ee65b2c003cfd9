"""The environment ``keda``: containers scaled by an HPA that KEDA makes, on the cluster of the kubeconfig, and by KEDA
itself to and from zero.

KEDA is installed by whoever owns the cluster (``helm install keda kedacore/keda``; on our own, ``make cluster``); for
``min_replicas=0`` its HTTP add-on, too (``make cluster ZERO=1``).
"""

from __future__ import annotations

from typing import ClassVar

from mlscale.environments.base import Look, Scaling
from mlscale.environments.kubernetes.environment import KubernetesEnvironment
from mlscale.environments.kubernetes.settings import KedaScaling
from mlscale.runs import Level, Mode


class Keda(KubernetesEnvironment):
    """Pods go to existing nodes."""

    name: ClassVar[str] = "keda"
    look: ClassVar[Look] = Look("Kubernetes (KEDA)", "Kubernetes (KEDA)", "#56B4E9", "P", 4)
    level: ClassVar[Level] = "container"
    modes: ClassVar[frozenset[Mode]] = frozenset({"live"})
    settings: ClassVar[type[Scaling]] = KedaScaling

    def arm(self, arm: str) -> KedaScaling:
        return KedaScaling.of_arm(arm)
