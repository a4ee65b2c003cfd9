"""The HorizontalPodAutoscaler decides as Kubernetes' own code does: in some thousand situations, and in `make proof` in
100,000 and in 400 lives of an autoscaler."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hpa_agreement import differing_looks, differing_situations
from hpa_oracle import CALCULATOR, Oracle, built_folder, oracle

from mlscale.runs import MlscaleError
from onenode.preflight import check_host

# Least number of times that 100,000 situations reach each return statement of the calculator.
LEAST = 500


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[Oracle]:
    if not built_folder().exists() and os.environ.get("CI") != "true":
        pytest.skip("Kubernetes' autoscaler is not built here: make proof builds it (minutes)")
    try:
        check_host()
    except MlscaleError as error:
        pytest.skip(f"no cluster can be made here: {error}")
    with oracle() as found:
        yield found


def test_every_situation_is_answered_alike(kubernetes: Oracle, tmp_path: Path) -> None:
    assert differing_situations(kubernetes, 3_000, 7, tmp_path) == []


def test_every_look_of_a_life_is_decided_alike(kubernetes: Oracle, tmp_path: Path) -> None:
    looks, differing = differing_looks(kubernetes, 12, 7, tmp_path)
    assert differing == []
    assert looks == 12 * 60


@pytest.mark.proof
def test_100_000_situations(tmp_path: Path) -> None:
    with oracle() as kubernetes:
        differing = differing_situations(kubernetes, 100_000, 1, tmp_path)
        reached = kubernetes.returns(tmp_path)
    for line, count in reached.items():
        print(f"{CALCULATOR}:{line}: reached {count} times", file=sys.__stderr__)
    print(f"{100_000 - len(differing)} of 100,000 decided alike", file=sys.__stderr__)
    assert differing == []
    assert min(reached.values()) >= LEAST


@pytest.mark.proof
def test_400_lives(tmp_path: Path) -> None:
    with oracle() as kubernetes:
        looks, differing = differing_looks(kubernetes, 400, 1, tmp_path)
    print(f"{looks} looks in 400 lives, {len(differing)} lives differ", file=sys.__stderr__)
    assert differing == []
