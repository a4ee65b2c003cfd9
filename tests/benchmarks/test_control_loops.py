"""What is published of the control loops is what METHOD shows, and what `matched` is chosen by."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from mlscale_paper import places
from mlscale_paper.results import filled

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from control_loops import ROWS, table

PUBLISHED = pd.read_csv(places.data() / ROWS)


def test_the_document_shows_what_is_published() -> None:
    document = places.checkout() / "docs/METHOD.md"
    assert filled(document, "control-loops", table(PUBLISHED)) == document.read_text()


def test_the_published_runs_support_what_method_says_of_matched() -> None:
    assert PUBLISHED["valid"].all()
    low = PUBLISHED.groupby("setting").min(numeric_only=True)
    high = PUBLISHED.groupby("setting").max(numeric_only=True)
    assert high.detection_s["sync period 1 s"] < low.detection_s["sync period 15 s"] - 3
    others = PUBLISHED[PUBLISHED["environment"] != "k3s"]
    assert high.detection_s["sync period 1 s"] < others["detection_s"].min(), "a single look is too soon"
    mean_s = PUBLISHED.groupby("setting").mean_response_s.mean()
    assert mean_s["router pauses 25 ms"] < mean_s["router pauses 25 ms to 0.5 s"]
    fast, slow = "looks every 0.1 s", "looks every 0.5 s"
    assert low.mean_response_s[slow] < high.mean_response_s[fast]
    assert low.control_load_cores[fast] > 2 * high.control_load_cores[slow]
