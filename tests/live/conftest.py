"""A cluster for the live tests: ours where it runs; it is built and started only with CI=true or CLUSTER=1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlscale.environments.kubernetes_own import own_kubeconfig


@pytest.fixture(scope="session")
def cluster_kubeconfig() -> Path:
    """The kubeconfig of our own one-node cluster, up and whole."""
    from mlscale.cluster.commands import status_command, up_command

    if os.environ.get("CI") == "true" or os.environ.get("CLUSTER") == "1":
        up_command(None)
    elif not own_kubeconfig().exists():
        pytest.skip("no cluster is up here: make cluster (or CLUSTER=1 make test)")
    text, whole = status_command(False)
    if not whole:
        pytest.skip(f"the cluster is not whole: {text}")
    return own_kubeconfig()
