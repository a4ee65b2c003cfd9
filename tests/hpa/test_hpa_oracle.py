"""The HorizontalPodAutoscaler decides as Kubernetes' own code does: in some thousand situations, and in `make proof` in
100,000 and in 400 lives of an autoscaler."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hpa_oracle import Oracle, built_folder, oracle
from hpa_questions import lives, situations

from mlscale.runs import MlscaleError
from mlscale_twin.policies.hpa import Proposal
from onenode.preflight import check_host

# What a proposal's reason may end with, each at least so many times among 100,000 situations.
OUTCOMES = ("an error", "within the tolerance", "per pod", "pods ready", "turn the direction", "pods counted")
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


def differing_situations(kubernetes: Oracle, count: int, seed: int, work: Path) -> tuple[list[Any], Counter[str]]:
    """(question, ours, theirs) where the answers differ, and how often ours had each of `OUTCOMES`."""
    asked = list(situations(count, seed))
    theirs = kubernetes.ask("TestCalculator", [question for question, _ in asked], work)
    differing = [
        (question, ours, answer)
        for (question, ours), answer in zip(asked, theirs, strict=True)
        if (ours is None) != bool(answer["Error"])
        or (ours is not None and (ours.replicas, ours.usage) != (answer["Replicas"], answer["Usage"]))
    ]
    return differing, Counter(_outcome(ours) for _, ours in asked)


def _outcome(proposal: Proposal | None) -> str:
    return "an error" if proposal is None else next(end for end in OUTCOMES if proposal.reason.endswith(end))


def differing_lives(kubernetes: Oracle, count: int, seed: int, work: Path) -> tuple[int, list[str]]:
    """How many syncs there were in ``count`` lives, and in words the first that differs in each."""
    asked = list(lives(count, seed))
    theirs = kubernetes.ask("TestController", [question for question, _ in asked], work)
    syncs, differing = 0, []
    for number, ((question, decisions), looks) in enumerate(zip(asked, theirs, strict=True)):
        assert len(looks) == len(decisions)
        for sync, (ours, look) in enumerate(zip(decisions, looks, strict=True), 1):
            syncs += 1
            active = look["Conditions"].get("ScalingActive", ["", ""])[1]
            if ours.desired != look["To"] or ours.scaling_active not in ("", active):
                differing.append(
                    f"life {number}, sync {sync}: from {look['From']} ours goes to {ours.desired}, theirs to "
                    f"{look['To']} ({active}); {ours.reason}"
                )
                break  # what follows has another past
            assert look["At"] == question["resync"] * sync
    return syncs, differing


def test_every_situation_is_answered_alike(kubernetes: Oracle, tmp_path: Path) -> None:
    differing, outcomes = differing_situations(kubernetes, 3_000, 7, tmp_path)
    assert differing == []
    assert set(outcomes) == set(OUTCOMES)


def test_every_sync_of_a_life_is_decided_alike(kubernetes: Oracle, tmp_path: Path) -> None:
    syncs, differing = differing_lives(kubernetes, 12, 7, tmp_path)
    assert differing == []
    assert syncs == 12 * 60


@pytest.mark.proof
def test_100_000_situations(tmp_path: Path) -> None:
    with oracle() as kubernetes:
        differing, outcomes = differing_situations(kubernetes, 100_000, 1, tmp_path)
    print(f"{100_000 - len(differing)} of 100,000 decided alike; {dict(outcomes)}", file=sys.__stderr__)
    assert differing == []
    assert min(outcomes[outcome] for outcome in OUTCOMES) >= LEAST


@pytest.mark.proof
def test_400_lives(tmp_path: Path) -> None:
    with oracle() as kubernetes:
        syncs, differing = differing_lives(kubernetes, 400, 1, tmp_path)
    print(f"{syncs} syncs in 400 lives, {len(differing)} lives differ", file=sys.__stderr__)
    assert differing == []
