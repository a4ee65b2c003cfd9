"""Notebook 04 as papermill runs it: a short measured run on a real Kubernetes, and its figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from notebook_run import check_notebook


@pytest.mark.live
def test_one_run_measured_and_drawn(
    photos: Path, tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster))
    check_notebook("04_k3s", photos, tmp_path, duration_s=45.0)  # the HPA's sync period is 15 s
