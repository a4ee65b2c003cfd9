"""lab_3's live cells: a real cold start, judged against a prediction."""

from __future__ import annotations

import pytest
from lab_notebooks import answers, executed, said

from mlscale import environments
from mlscale.runs import load_run
from mlscale_lab.lessons import cold_starts
from mlscale_paper import places
from mlscale_paper.applications import code_reader

pytestmark = pytest.mark.live
LAB = "lab_3_cold_starts"


def test_the_cold_start_of_lab_3_is_measured_and_judged() -> None:
    environment = environments.get("torchserve")
    fatal = [p for p in environment.preflight(code_reader(), {"app": environment.arm("matched")}, "live") if p.fatal]
    if fatal:
        pytest.skip(f"torchserve can't run live here: {fatal[0].what}")
    own = places.checkout() / "runs" / "by-hand"
    before = set(own.glob("torchserve-*"))
    notebook = executed(LAB, answers(LAB))
    (folder,) = set(own.glob("torchserve-*")) - before
    run = load_run(folder)
    assert run.info.mode == "live"
    start_s = cold_starts.start_s_of(run)
    assert 0 < start_s < cold_starts.LIVE.duration_s
    assert any(f"Measured here: {start_s:.1f} s" in text for text in said(notebook))
    assert cold_starts.judged_live(start_s, run).right is True
    assert "Starting a process is quick" in cold_starts.judged_live(start_s / 10, run).text
    assert "Is this machine faster" in cold_starts.judged_live(start_s * 10, run).text
    assert cold_starts.judged_live(None, run).right is None
