"""The published record agrees with itself: verdicts with the tables that they are about, documents with both."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mlscale.analysis.validity import judge
from mlscale.runs import load_runs
from mlscale_paper import places
from mlscale_paper.publish import beside_comparison
from mlscale_paper.results import claims_text, filled, twin_text
from mlscale_paper.twin_records import CLAIMS, VALIDATION

REFERENCE = places.reference()
pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="no runs are published in data/reference yet")


def test_every_published_run_is_judged_as_its_run_json_says() -> None:
    """By every flag; the reasons' digits are those of the times and rates before they were rounded."""
    differing = {}
    for run in load_runs(REFERENCE):
        now, stored = judge(run), run.info.validity
        if stored is None or now.model_dump(exclude={"reasons"}) != stored.model_dump(exclude={"reasons"}):
            differing[str(run.path.relative_to(REFERENCE))] = (stored, now)
    assert not differing


def test_the_documents_say_what_was_measured() -> None:
    for (file, name), text in beside_comparison().items():
        document = places.checkout() / file
        assert filled(document, name, text) == document.read_text()


@pytest.mark.parametrize(
    ("name", "record", "text_of"), [("twin", VALIDATION, twin_text), ("claims", CLAIMS, claims_text)]
)
def test_the_results_say_what_the_records_say(name: str, record: str, text_of: Callable[[Any], str]) -> None:
    file = REFERENCE / record
    content = json.loads(file.read_text()) if file.exists() else None
    document = places.checkout() / "docs/results.md"
    assert filled(document, name, text_of(content)) == document.read_text()
