"""lab_3's live run, by the notebook; test_calibrate.py judges a cold start."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lab_notebooks import answers, executed, said

from mlscale import environments
from mlscale.runs import load_run
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
@pytest.mark.proof
def test_the_notebook_says_what_it_measured(tmp_path: Path) -> None:
    own = places.checkout() / "runs" / "by-hand"
    before = set(own.glob("torchserve-*"))
    notebook = executed(LAB, answers(LAB), tmp_path)
    (folder,) = set(own.glob("torchserve-*")) - before
    start_s = cold_starts.start_s_of(load_run(folder))
    shutil.rmtree(folder)
    assert 0 < start_s < cold_starts.LIVE.duration_s
    assert any(f"Measured here: {start_s:.1f} s" in text for text in said(notebook))
