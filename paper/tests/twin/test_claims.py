"""Verdicts on the paper's claims: constructed cases, a small computation, and the record."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlscale.runs.schedule import ClosedLoop, ClosedStage
from mlscale_paper import claims, places, twin_records
from mlscale_paper.claims import (
    CLOUD,
    Comparison,
    Side,
    all_of,
    deciding,
    error_of,
    hypercube,
    judge,
    judge_arms,
    matters,
    paper_claims,
    ratio_rows,
)
from mlscale_paper.contrasts import FIGURES, Error
from mlscale_paper.protocol import published_protocol
from mlscale_paper.twin_records import CONTRASTS

ECS, EKS = CLOUD["ecs-fargate"], CLOUD["eks-fargate"]
PART = Comparison("F3", "ECS and EKS", ECS, EKS, "mean")
DRAWS = 256
SHARES = hypercube(2, DRAWS)
ERROR = Error(bias=0.0, scale=0.2, df=6.0, borrowed=True, what="others")


def twins(ratio: float, spread: float = 0.02, recovery_s: float = 50.0) -> dict[str, np.ndarray]:
    """Figures of ECS and EKS whose ratio is ``ratio``, over the deciding horizon and inverted over the other."""
    noise = np.exp(np.random.default_rng(0).normal(0, spread, (DRAWS, 3)))
    late = np.stack([noise * ratio, noise / ratio], axis=2)
    late[:, FIGURES.index("recovery"), :] = recovery_s
    return {ECS.name: np.ones((DRAWS, 3, 2)), EKS.name: late}


def judged(ratio: float, error: Error = ERROR, recovery_s: float = 50.0) -> dict[str, Any]:
    (row,) = judge(ratio_rows([PART], twins(ratio, recovery_s=recovery_s), SHARES), [error])
    return row


def test_a_hypercube_covers_each_number_evenly() -> None:
    for name in SHARES:
        assert sorted((SHARES[name] * DRAWS).astype(int)) == list(range(DRAWS)), name


def test_an_effect_below_the_twins_error_is_undecided() -> None:
    small = judged(1.2)
    assert small["exact_verdict"] == "implied", "the numbers alone say so"
    assert small["verdict"] == "undecided"
    assert small["low"] < 1 < small["high"]
    large = judged(2.0)
    assert (large["verdict"], large["early_verdict"]) == ("implied", "contradicted")
    assert large["low"] < 2.0 < large["high"]


def test_a_borrowed_error_is_varied_and_a_measured_one_is_not() -> None:
    borrowed, own = judged(1.5), judged(1.5, dataclasses.replace(ERROR, borrowed=False))
    assert borrowed["half_verdict"] == borrowed["verdict"] == "implied"
    assert borrowed["double_verdict"] == "undecided"
    assert own["double_verdict"] == own["half_verdict"] == own["verdict"] == "implied"


def test_nothing_is_concluded_where_a_side_does_not_recover() -> None:
    row = judged(0.1, recovery_s=120.0)
    assert (row["recovered"], row["early_recovered"]) == (1.0, 0.0)
    assert (row["verdict"], row["early_verdict"]) == ("contradicted", "undecided")


def test_a_bias_is_taken_out() -> None:
    assert judged(2.0, dataclasses.replace(ERROR, bias=float(np.log(2.0))))["ratio"] == pytest.approx(1.0, abs=0.02)


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
    assert claims.verdict_of(0.0, 0.0) == "undecided"
    assert claims.verdict_of(0.0, 0.95) == "contradicted"
    assert claims.verdict_of(0.0, 0.94) == "undecided"
    assert claims.verdict_of(0.95, 0.05) == "implied"


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
    shares = hypercube(2, 3)
    sizes = {"max_replicas": 3, "cpu_cores": 0.25}
    figures = {
        side.name: claims.simulate_side(side, "matched", sizes, step, 0.45, shares)
        for side in (part.better, part.worse)
    }
    assert figures[part.better.name].shape == (3, 3, 2)
    (row,) = judge(ratio_rows([part], figures, shares), [ERROR])
    assert row["exact_ratio"] > 1.05
    assert row["exact_verdict"] == "implied"


def test_the_verdicts_on_record_follow_from_its_draws_and_the_recorded_errors() -> None:
    record, live = (json.loads((places.reference() / name).read_text()) for name in (twin_records.CLAIMS, CONTRASTS))
    parts = paper_claims(published_protocol().sizes["max_replicas"])
    again = judge_arms({arm: each["rows"] for arm, each in record["arms"].items()}, parts, live["live"])
    assert twin_records.moved(record["arms"], json.loads(json.dumps(again))) == []
    for arm in record["arms"].values():
        assert set(arm["verdicts"]) == {"F1", "F2", "F3", "F4"}
        assert {len(row["draws"]) for row in arm["rows"]} == {record["draws"]}
        for claim, word in arm["verdicts"].items():
            assert deciding(arm["rows"], claim)["verdict"] == word
    assert record["horizons_s"] == [900.0, 120.0]
    own = {part.claim for part in parts if not error_of(part, pd.DataFrame(live["live"])).borrowed}
    assert own == {"F2", "F4"}, "what live runs have"


def test_a_side_is_simulated_by_its_own_draw_alone() -> None:
    stages = (ClosedStage(start_s=0, clients=2), ClosedStage(start_s=20, clients=4))
    step = ClosedLoop(duration_s=60.0, stages=stages, think_mean_s=0.87)
    side: Side = CLOUD["ecs-fargate"]
    shares = hypercube(1, 4)
    arguments = ("matched", {"max_replicas": 3, "cpu_cores": 0.25}, step, 0.45)
    whole = claims.simulate_side(side, *arguments, shares)
    last = claims.simulate_side(side, *arguments, shares.iloc[3:])
    np.testing.assert_array_equal(whole[3:], last)
