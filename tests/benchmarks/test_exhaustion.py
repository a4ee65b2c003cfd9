"""What is published of `mlscale advise` beside exhaustion: every question is there, every answer is right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlscale_paper import places
from mlscale_paper.results import filled

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from advise_exhaustion import ROWS, in_words, is_right, questions, table

PUBLISHED = pd.read_csv(places.checkout() / ROWS)


def test_each_of_forty_questions_has_an_answer_in_each_place() -> None:
    asked = [(trace, in_words(objective)) for trace, objective in questions()]
    assert len(set(asked)) == 40
    assert list(PUBLISHED.groupby(["trace", "objective"], sort=False).groups) == asked
    assert set(PUBLISHED.groupby(["trace", "objective"])["place"].nunique()) == {3}


def test_every_published_answer_is_right() -> None:
    wrong = [row for row in PUBLISHED.to_dict("records") if not is_right(row)]
    assert not wrong


def test_the_document_shows_what_is_published() -> None:
    document = places.checkout() / "docs/strategy.md"
    assert filled(document, "exhaustion", table(PUBLISHED)) == document.read_text()


BEST: dict[str, Any] = {"best_verdict": "met", "best_usd": 10.0, "best_margin": -0.1}


@pytest.mark.parametrize(
    ("advised", "right"),
    [
        ({"advised_verdict": "met", "advised_usd": 10.4}, True),
        ({"advised_verdict": "met", "advised_usd": 10.6}, False),
        ({"advised_verdict": "too close to call", "advised_usd": 9.0}, False),
        ({"advised_verdict": "cannot be met", "advised_usd": 9.0}, False),
        ({"best_verdict": "cannot be met", "best_margin": 0.2, "advised_verdict": "cannot be met"}, True),
        ({"best_verdict": "cannot be met", "best_margin": 0.1, "advised_verdict": "cannot be met"}, False),
        ({"best_verdict": "too close to call", "advised_verdict": "met", "advised_usd": 20.0}, True),
    ],
)
def test_an_answer_is_right(advised: dict[str, Any], right: bool) -> None:
    assert is_right({"advised_margin": 0.2, **BEST, **advised}) is right
