"""What the labs' prose says in numbers follows from the twin, the formulas, the published runs."""

from __future__ import annotations

from math import ceil

import pytest

from mlscale.analysis.queues import open_response_s
from mlscale_lab.lessons import cold_starts, comparison, machines, queues, thresholds
from mlscale_lab.sandbox.load import SHAPES
from mlscale_lab.sandbox.prediction import profile_of


def mean_s(load: float) -> float:
    return open_response_s(1, load / queues.SERVICE_S, queues.SERVICE_S)


def test_lab_1() -> None:
    assert mean_s(0.6) - mean_s(0.5) == pytest.approx(0.025)
    assert mean_s(0.95) - mean_s(0.9) == pytest.approx(0.5)
    assert mean_s(0.8) == pytest.approx(0.25)
    assert round(queues.CLIENTS / (queues.THINK_S + queues.SERVICE_S)) == 44
    assert 0.5 / (1 - 0.5) == 1, "one request inside at a load of one half"


def test_lab_2() -> None:
    assert thresholds.DURATION_S * 3 / 12 == 75
    assert SHAPES["waves"][:4] == (2.0, 2.0, 10.0, 10.0)
    start_s = sum(step.takes.mean_s for step in profile_of("torchserve").starts.steps)
    assert start_s == pytest.approx(20, abs=2)
    a, c = (thresholds.tried(**thresholds.CANDIDATES[name]) for name in ("a", "c"))
    assert a.replica_min < c.replica_min
    assert a.mean_s > 3 * c.mean_s
    assert (thresholds.MOST_CHANGES, thresholds.MOST_REPLICA_MIN, thresholds.MOST_P95_S) == (8, 17, 1)


def test_lab_3() -> None:
    process = profile_of("torchserve").starts.steps[0]
    assert process.takes.mean_s == pytest.approx(0.03, abs=0.005)
    assert (SHAPES["step"][0], cold_starts.BUSY_RPS) == (2, 11)
    assert cold_starts.facts()["delay_s"] == thresholds.CANDIDATES["b"]["upscale_delay_s"]
    assert (cold_starts.MOST_P95_S, cold_starts.MOST_REPLICA_MIN) == (0.7, 8.5)


def test_lab_4() -> None:
    small = 0.4 - machines.facts()["reserved_cores"]
    assert ceil(machines.PODS / int(small / machines.facts()["pod_cores"] + 1e-9)) == machines.PODS, "one pod each"
    assert (machines.MOST_P95_S, machines.MOST_REPLICA_MIN) == (3, 33)


def test_lab_5() -> None:
    assert len(comparison.log_ratios()) == 8
    block = comparison.one_block()
    assert block["block"].nunique() == 1
    means = block.groupby("environment")["mean_response_s"].agg(["size", "mean"])
    assert means.loc[["rayserve", "k3s"], "size"].tolist() == [1, 1], "which is meant is clear"
    assert means.loc["rayserve", "mean"] > means.loc["k3s", "mean"]
    assert comparison.published()["requests"].sum() > 2000
    assert next(iter(comparison.with_failures().predictions.values())).failed > 0.01
