"""The HorizontalPodAutoscaler decides as Kubernetes' own code does: some thousand situations (all: make proof)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hpa_agreement import differing_looks, differing_situations
from hpa_oracle import Oracle, built_folder, oracle

from mlscale.runs import MlscaleError
from onenode.preflight import check_host


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[Oracle]:
    if not built_folder().exists() and os.environ.get("CI") != "true":
        pytest.skip("Kubernetes' autoscaler is not built here: CI=true builds it (minutes), make proof does, too")
    try:
        check_host()
    except MlscaleError as error:
        pytest.skip(f"no cluster can be made here: {error}")
    with oracle() as found:
        yield found


def test_every_situation_is_answered_alike(kubernetes: Oracle, tmp_path: Path) -> None:
    assert differing_situations(kubernetes, 7_000, 7, tmp_path) == []


def test_every_look_of_a_life_is_decided_alike(kubernetes: Oracle, tmp_path: Path) -> None:
    looks, differing = differing_looks(kubernetes, 40, 7, tmp_path)
    assert differing == []
    assert looks == 40 * 60
