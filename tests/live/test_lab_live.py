"""lab_3's live cells: a real cold start, judged against a prediction."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlscale import environments
from mlscale.runs import load_run
from mlscale_lab.lessons import cold_starts
from mlscale_paper import places
from mlscale_paper.applications import code_reader
from mlscale_paper.notebook_execution import execute

pytestmark = pytest.mark.live


def test_the_cold_start_of_lab_3_is_measured_and_judged(tmp_path: Path) -> None:
    environment = environments.get("torchserve")
    fatal = [p for p in environment.preflight(code_reader(), {"app": environment.arm("matched")}, "live") if p.fatal]
    if fatal:
        pytest.skip(f"torchserve can't run live here: {fatal[0].what}")
    before = set((places.checkout() / "runs" / "by-hand").glob("torchserve-*"))
    execute(places.notebooks() / "lab_3_cold_starts.ipynb", tmp_path / "executed.ipynb", {}, timeout_s=420)
    (folder,) = set((places.checkout() / "runs" / "by-hand").glob("torchserve-*")) - before
    run = load_run(folder)
    assert run.info.mode == "live"
    start_s = cold_starts.start_s_of(run)
    assert 0 < start_s < cold_starts.LIVE.duration_s
    assert cold_starts.judged_live(start_s, run).right is True
    assert "Starting a process is quick" in cold_starts.judged_live(start_s / 10, run).text
    assert cold_starts.judged_live(None, run).right is None
    assert "SIMULATED" in (tmp_path / "executed.ipynb").read_text()
