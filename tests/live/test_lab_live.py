"""lab_3's live run: a real cold start, judged against a prediction."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lab_notebooks import answers, executed, said

from impatient import make_impatient
from mlscale import environments
from mlscale.runs import ClosedLoop, ClosedStage, load_run
from mlscale_lab.lessons import cold_starts
from mlscale_paper import places
from mlscale_paper.applications import code_reader

LAB = "lab_3_cold_starts"


@pytest.fixture(autouse=True)
def _torchserve() -> None:
    environment = environments.get("torchserve")
    fatal = [p for p in environment.preflight(code_reader(), {"app": environment.arm("matched")}, "live") if p.fatal]
    if fatal:
        pytest.skip(f"torchserve can't run live here: {fatal[0].what}")


@pytest.mark.live
def test_a_cold_start_is_measured_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_impatient(monkeypatch)
    stages = (
        ClosedStage(start_s=0, clients=1),
        ClosedStage(start_s=2, clients=8),
    )  # one replica is too few on any host
    monkeypatch.setattr(cold_starts, "LIVE", ClosedLoop(duration_s=30.0, stages=stages, think_mean_s=0.05))
    run = cold_starts.live_run(tmp_path / "run")
    assert run.info.mode == "live"
    start_s = cold_starts.start_s_of(run)
    assert 0 < start_s < run.info.schedule.duration_s
    assert cold_starts.judged_live(start_s, run).right is True
    assert "Starting a process is quick" in cold_starts.judged_live(start_s / 10, run).text
    assert "Is this machine faster" in cold_starts.judged_live(start_s * 10, run).text
    assert cold_starts.judged_live(None, run).right is None


@pytest.mark.live
@pytest.mark.proof
def test_the_notebook_says_what_it_measured() -> None:
    own = places.checkout() / "runs" / "by-hand"
    before = set(own.glob("torchserve-*"))
    notebook = executed(LAB, answers(LAB))
    (folder,) = set(own.glob("torchserve-*")) - before
    start_s = cold_starts.start_s_of(load_run(folder))
    shutil.rmtree(folder)
    assert 0 < start_s < cold_starts.LIVE.duration_s
    assert any(f"Measured here: {start_s:.1f} s" in text for text in said(notebook))
