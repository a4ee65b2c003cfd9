"""The published record agrees with itself: verdicts with the tables that they are about, documents with both."""

from __future__ import annotations

import pytest

from mlscale.analysis.validity import judge
from mlscale.reporting.render import to_markdown
from mlscale.runs import load_runs
from mlscale_paper import places
from mlscale_paper.openings import openings
from mlscale_paper.publish import beside_comparison
from mlscale_paper.results import filled

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


def test_the_documents_say_beside_the_comparison_what_runs_and_records_say() -> None:
    for (file, name), parts in beside_comparison().items():
        document = places.checkout() / file
        assert filled(document, name, to_markdown(parts)) == document.read_text()


def test_the_notebooks_open_with_what_is_published() -> None:
    for notebook, text in openings().items():
        assert notebook.read_text() == text
