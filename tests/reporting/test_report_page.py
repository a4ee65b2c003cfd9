"""The report: one page, made of the runs alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mlscale.analysis.summary import summarise
from mlscale.reporting.comparison import write_report
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError
from synthetic_runs import Shape, info, make_run, requests_frame, write_run

TEMPLATE = Path("mlscale/reporting/templates/page.html")


def test_figures_tables_and_sentences_of_two_own_runs(tmp_path: Path) -> None:
    mine = {"app": "mine:make", "block": None, "shape": Shape(horizon_s=20.0)}
    runs = [make_run(tmp_path / name, environment=name, **mine) for name in ("torchserve", "rayserve")]  # type: ignore[arg-type]
    write_report(runs, 0.5, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    pictures = re.findall(r'<img src="data:image/svg\+xml;base64,[^"]+" alt="([^"]+)"', page)
    assert len(pictures) >= 4
    assert all(len(alt) > 20 for alt in pictures), pictures
    assert "Application: mine:make" in page
    means = summarise(runs, 0.5)["mean_response_s"]
    assert f"torchserve / rayserve = {means[0] / means[1]:.2f} in these runs" in page
    assert f"{1000 * means[0]:.4g}" in page, "the table of means"
    assert all(run.info.run_id in page for run in runs)
    assert str(tmp_path) not in page
    assert not re.search("cell none|>None<|>nan<", page), "of runs outside experiments, no blocks and labels are shown"
    assert all(row.count("<th>") <= 8 for row in re.findall(r"<thead>.*?</thead>", page, re.DOTALL))


def test_a_page_of_mixed_runs_says_which_figures_they_lack(tmp_path: Path) -> None:
    step, table = make_run(tmp_path / "step", shape=Shape(horizon_s=20.0)), requests_frame(np.arange(0, 60, 0.1), 0.1)
    level = ClosedLoop(duration_s=60, stages=(ClosedStage(start_s=0, clients=2),))
    changes = {"schedule": level, "step_s": None, "block": None, "cell": None}
    flat = write_run(tmp_path / "flat", table, info(**changes, run_id="flat"))
    load_test = {"environment": "none", "level": "none", "arm": "none", "scaling": {}}
    load = write_run(tmp_path / "load", table, info(**changes, **load_test, run_id="load"))
    write_report([step, flat, load], 0.5, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("no run has samples of the CPU used to serve") == 2
    assert "What it cost in CPU" in page


def test_the_template_holds_no_number_of_a_result() -> None:
    body = (Path(__file__).parents[2] / TEMPLATE).read_text().partition("<body>")[2]
    assert not re.search(r"\d", re.sub(r"</?h\d>", "", body))


def test_no_runs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match="no runs are named"):
        write_report([], 0.5, tmp_path / "report.html")
