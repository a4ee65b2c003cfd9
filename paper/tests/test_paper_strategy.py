"""The paper's strategy beside an advice: both choices, whether they agree, and the evidence of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlscale.cost import read_prices
from mlscale_paper.paper_strategy import beside_paper
from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.advice import Advice, Advised
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.objective import Figures, Objective
from mlscale_twin.strategy.search import Candidate, Question
from mlscale_twin.strategy.strategies import Place, Strategy


def candidate(environment: str, place: Place, usd: float) -> Candidate:
    scaling = {"cpu_cores": 0.3, "min_replicas": 1, "max_replicas": 3}
    figures = Figures(0.01, 0.2, 0.1, 0.0, usd, 1.0, 3)
    return Candidate(Strategy(environment, "reactive", scaling), place, figures, "whole trace")


def advised(best: Candidate) -> Advised:
    return Advised(best, (-0.1, -0.1), None, {}, 1.0)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "F3: no record"),
        ({"arms": {"matched": {"verdicts": {"F1": "implied", "F3": "undecided"}}}}, "F3: undecided (simulated)"),
    ],
)
def test_both_stand_side_by_side(record: dict[str, Any] | None, words: str) -> None:
    local, ecs, eks = (
        candidate("torchserve", "local-shared", 4.0),
        candidate("ecs", "cloud", 60.0),
        candidate("eks", "cloud", 50.0),
    )
    profiles = {"torchserve": read_profile("torchserve")}
    question = Question(Demand(np.ones(60)), Objective(p95_s=1.0), profiles, read_prices())
    advice = Advice(question, {"local-shared": advised(local), "cloud": advised(eks)}, [local, ecs, eks])
    table = beside_paper(advice, record, [], 0.5)
    shared, cloud = (table[name] for name in table.columns)
    assert shared["agree on the environment"] == "yes"
    assert shared["the paper's choice here"] == "the same"
    assert cloud["agree on the environment"] == "no"
    assert cloud["the paper's choice here"] == "60.00 USD a month, instead of 50.00"
    assert cloud["for the paper's: claim"] == words
    assert "simulated" in cloud["for the advice"]
