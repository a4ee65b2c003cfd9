"""Verdicts on the paper's claims: constructed cases, a small computation, and the record."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from mlscale.runs.schedule import ClosedLoop, ClosedStage
from mlscale_paper import claims, places, twin_records
from mlscale_paper.claims import CLOUD, LOCAL, Comparison, Side, all_of, hypercube, judge, matters, paper_claims

ECS, EKS = CLOUD["ecs-fargate"], CLOUD["eks-fargate"]
PART = Comparison("F3", "ECS and EKS", ECS, EKS, "mean")
DRAWS = 256
SHARES = hypercube([ECS, EKS], DRAWS)


def twins(ratio: float, spread: float = 0.02) -> dict[str, np.ndarray]:
    """Figures of ECS and EKS whose ratio is ``ratio``, over the deciding horizon and inverted over the other."""
    noise = np.exp(np.random.default_rng(0).normal(0, spread, (DRAWS, 3)))
    late = np.stack([noise * ratio, noise / ratio], axis=2)
    return {ECS.name: np.ones((DRAWS, 3, 2)), EKS.name: late}


def test_a_hypercube_covers_each_number_evenly_and_the_twins_errors_too() -> None:
    assert list(SHARES.columns)[-2:] == ["the twin's error, ECS on Fargate", "the twin's error, EKS on Fargate"]
    for name in SHARES:
        assert sorted((SHARES[name] * DRAWS).astype(int)) == list(range(DRAWS)), name


def test_an_effect_below_the_twins_error_is_undecided() -> None:
    (small,) = judge([PART], twins(1.2), SHARES)
    assert small["exact_verdict"] == "implied", "the numbers alone say so"
    assert small["verdict"] == "undecided"
    assert small["low"] < 1 < small["high"]
    (large,) = judge([PART], twins(4.0), SHARES)
    assert (large["verdict"], large["early_verdict"]) == ("implied", "contradicted")
    assert large["low"] <= large["ratio"] <= large["high"]
    low, high = claims.twin_error(ECS, "mean")
    assert 4.0 * low / high < large["low"] < 4.0 * (low / high) ** 0.5, "the error is in the interval"


def test_clouds_have_the_widest_error_and_local_frameworks_their_own() -> None:
    for figure in claims.FIGURES:
        low, high = claims.twin_error(ECS, figure)
        for local in LOCAL:
            own_low, own_high = claims.twin_error(local, figure)
            assert low <= own_low < 1 < own_high <= high, figure
    assert claims.twin_error(ECS, "recovery")[1] >= claims.twin_error(ECS, "spread")[1]


def test_the_number_that_decides_is_found() -> None:
    place = SHARES["image_pull_s"].to_numpy()
    ratios = np.log(0.5 + place) + np.random.default_rng(1).normal(0, 0.01, DRAWS)
    first = matters(SHARES, ratios).iloc[0]
    assert first["number"] == "image_pull_s"
    assert first["index"] > 0.9
    assert (first["right_if_low"], first["right_if_high"]) == (0.0, 1.0)
    noise = matters(SHARES, np.random.default_rng(2).normal(0, 1, DRAWS))
    assert noise["index"].median() < 0.02
    assert noise["index"].max() < 0.15


def test_contradicted_is_what_most_draws_contradict() -> None:
    for on_no_side in (0.0, np.nan):
        assert claims.verdict_of(np.full(100, on_no_side)) == "undecided"
    assert claims.verdict_of(np.array([-1.0] * 95 + [0.0] * 5)) == "contradicted"
    assert claims.verdict_of(np.array([-1.0] * 94 + [0.0] * 6)) == "undecided"
    assert claims.verdict_of(np.array([1.0] * 95 + [-1.0] * 5)) == "implied"


def test_a_conjunction_needs_all_of_its_parts() -> None:
    assert all_of(["implied", "implied"]) == "implied"
    assert all_of(["implied", "undecided"]) == "undecided"
    assert all_of(["undecided", "contradicted", "implied"]) == "contradicted"
    rows = [{"claim": "F3", "verdict": "contradicted"}, {"claim": "F4", "verdict": "implied"}]
    assert claims.verdicts(rows) == {"F3": "contradicted", "F4": "contradicted"}, "the paper's strategy needs F3"


def test_claims_compare_every_cloud_and_like_with_like() -> None:
    parts = paper_claims(3)
    assert len({(part.claim, part.what, part.figure) for part in parts}) == len(parts)
    assert {part.worse.variant for part in parts if part.claim == "F1"} == set(CLOUD)
    for part in parts:
        if part.claim == "F3":
            assert (part.better.environment, part.worse.environment) == ("ecs", "eks")
            assert ("fargate" in part.better.variant) == ("fargate" in part.worse.variant)
        if part.claim == "F2":
            assert part.better.variant == part.worse.variant


def test_machines_that_run_already_serve_sooner() -> None:
    step = ClosedLoop(
        duration_s=400.0,
        stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=45, clients=12)),
        think_mean_s=0.87,
    )
    part = next(part for part in paper_claims(3) if part.claim == "F2" and part.better.variant == "ecs-ec2")
    shares = hypercube([part.better, part.worse], 3)
    sizes = {"max_replicas": 3, "cpu_cores": 0.25}
    figures = {
        side.name: claims.simulate_side(side, "matched", sizes, step, 0.45, shares)
        for side in (part.better, part.worse)
    }
    assert figures[part.better.name].shape == (3, 3, 2)
    (row,) = judge([part], figures, shares)
    assert row["exact_ratio"] > 1.05
    assert row["exact_verdict"] == "implied"


def test_the_record_holds_the_verdicts_that_follow_from_its_rows() -> None:
    record = json.loads((places.reference() / twin_records.CLAIMS).read_text())
    for judged in record["arms"].values():
        for prefix in claims.PREFIXES:
            assert claims.verdicts(judged["rows"], prefix) == judged[f"{prefix}verdicts"]
        assert set(judged["verdicts"]) == {"F1", "F2", "F3", "F4"}
        table = pd.DataFrame(judged["rows"])
        assert (table["low"] <= table["ratio"]).all()
        assert (table["ratio"] <= table["high"]).all()
    assert record["horizons_s"] == [900.0, 120.0]


def test_a_side_is_simulated_by_its_own_draw_alone() -> None:
    stages = (ClosedStage(start_s=0, clients=2), ClosedStage(start_s=20, clients=4))
    step = ClosedLoop(duration_s=60.0, stages=stages, think_mean_s=0.87)
    side: Side = CLOUD["ecs-fargate"]
    shares = hypercube([side], 4)
    arguments = ("matched", {"max_replicas": 3, "cpu_cores": 0.25}, step, 0.45)
    whole = claims.simulate_side(side, *arguments, shares)
    last = claims.simulate_side(side, *arguments, shares.iloc[3:])
    np.testing.assert_array_equal(whole[3:], last)
