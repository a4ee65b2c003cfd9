"""A folder's experiment from its runs to figures and report.html, with synthetic runs in place of live ones."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from piloted import TWO, protocol_for

from mlscale.analysis.summary import summarise
from mlscale.commands.new_app import new_app
from mlscale.measurement.trial import Cost
from mlscale.progress import Bar
from mlscale.runs import MlscaleError
from mlscale_experiment import folder as module
from mlscale_experiment.experiment import Experiment, Selection
from mlscale_experiment.folder import experiment
from mlscale_experiment.gate import CODES, gate, share
from mlscale_experiment.protocol import FILE, write_protocol
from mlscale_experiment.report import verdict
from mlscale_experiment.settings import Settings, read
from synthetic_runs import Shape, make_run

FAST, SLOW = Shape(service_s=0.10, start_s=4.0), Shape(service_s=0.16, start_s=14.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = new_app("my_model", tmp_path)
    protocol = protocol_for(Cost(0.0065, 0.0065, 0.5, 2e8, 0.006, 0.007, 0.0065))
    for root in (folder / "runs", folder / "runs" / "quick"):
        write_protocol(root / FILE, protocol, root)
    return read(folder).selected(Selection(environments=TWO, blocks=6))


def filled(planned: Experiment, shapes: dict[str, Shape], salt: int = 0) -> Experiment:
    """With a synthetic run in every place of the plan."""
    for number, run in enumerate(planned.plan):
        shape = replace(shapes[run.environment], baseline_s=45.0, horizon_s=60.0)
        labels = {"cell": run.label, "block": run.block, "position": run.position, "aa_label": run.aa_label}
        folder = planned.root / run.folder / "attempt-0"
        make_run(folder, seed=1000 * salt + number, shape=shape, environment=run.environment, **labels)
        said = json.loads((folder / "run.json").read_text())
        scaling = {name: {**given, **run.scaling} for name, given in said["scaling"].items()}
        same = {"seed": run.seed, "run_id": f"{run.environment}-{number}", "scaling": scaling}  # the seed above differs
        (folder / "run.json").write_text(json.dumps(said | same))
    return planned


def finished(settings: Settings, planned: Experiment) -> tuple[str, str]:
    """The report of the whole experiment, after its figures were drawn, and where it lies."""
    page = module.report_file(settings, quick=planned.quick)
    with Bar(1.0) as bar:
        module.draw_and_report(planned, planned.states(), bar, settings=settings, page=page)
    return page.read_text(), str(page)


def test_blocks_become_figures_and_a_page_that_begins_with_the_verdict(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = filled(experiment(settings), {"torchserve": FAST, "rayserve": SLOW})
    page, where = finished(settings, planned)
    drawn = {file.name for file in (settings.folder / "figures").glob("*.png")}
    assert {"torchserve_trajectory.png", "rayserve_sigma.png", "compare_estimation.png"} <= drawn
    executed = {file.name for file in (planned.root / "executed").glob("*.ipynb")}
    assert executed == {"torchserve.ipynb", "rayserve.ipynb", "comparison.ipynb"}
    said = capsys.readouterr().err
    verdict = "the mean response is"
    assert verdict in said
    assert where in said.splitlines()[-1]
    body = page[page.index("<h1") :]
    assert 0 < body.index(verdict) < 1500, "the verdict is on the first screen"
    assert "my_model" in page
    assert "code reader" not in page.lower()
    assert "photo" not in page.lower()
    assert "mlscale experiment run my_model" in page


def test_a_quick_look_claims_nothing_and_says_how_many_blocks_would(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = filled(experiment(settings, quick=True), {"torchserve": FAST, "rayserve": SLOW})
    assert len(planned.plan) == 2
    finished(settings, planned)
    said = capsys.readouterr().err
    assert "nothing is claimed" in said
    assert "6 blocks" in said
    assert (settings.folder / "report-quick.html").exists()


def test_an_undecided_pair_says_how_many_blocks_would_decide(settings: Settings) -> None:
    alike = {"torchserve": FAST, "rayserve": replace(FAST, service_s=0.101)}
    planned = filled(experiment(settings), alike)
    found = verdict(planned, module.measured(planned.states()))
    assert not found.decided
    assert "Undecided" in found.said[-1]


def test_before_the_pilot_there_is_nothing_to_show(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match="nothing was measured yet"):
        experiment(settings, runs=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("service_s", "answer", "code"), [(0.10, "pass", 0), (0.16, "worse", 1), (0.108, "undecided", 2)]
)
def test_the_gate_knows_three_answers(
    settings: Settings, tmp_path: Path, service_s: float, answer: str, code: int
) -> None:
    one = settings.selected(Selection(environments=["torchserve"], blocks=6))
    now = filled(experiment(one), {"torchserve": replace(FAST, service_s=service_s)}, salt=1)
    for root in (tmp_path / "before",):
        write_protocol(root / FILE, now.protocol, root)
    before = filled(experiment(one, runs=tmp_path / "before"), {"torchserve": FAST}, salt=2)
    runs, old = module.measured(now.states()), module.measured(before.states())
    judged = gate(runs, old, now.protocol.level_s, worse=0.08, p95_s=None)
    assert judged.answer == answer, judged.said
    assert CODES[judged.answer] == code
    assert ("blocks would decide" in judged.said or "too close" in judged.said) is (answer == "undecided")


def test_the_gate_holds_a_percentile_to_a_limit(settings: Settings) -> None:
    one = settings.selected(Selection(environments=["torchserve"], blocks=6))
    planned = filled(experiment(one), {"torchserve": FAST})
    runs, level_s = module.measured(planned.states()), planned.protocol.level_s
    p95_s = float(summarise(runs, level_s)["p95_response_s"].mean())
    assert gate(runs, [], level_s, worse=None, p95_s=1.5 * p95_s).answer == "pass"
    assert gate(runs, [], level_s, worse=None, p95_s=0.6 * p95_s).answer == "worse"
    assert gate(runs, [], level_s, worse=None, p95_s=1.001 * p95_s).answer == "undecided"


@pytest.mark.parametrize("text", ["ten", "-5%", "nan", "2000%"])
def test_a_share_that_is_none_is_one_line(text: str) -> None:
    with pytest.raises(MlscaleError, match="not a share"):
        share(text)
    assert share("10%") == share("0.1") == 0.1


def test_the_gate_judges_nothing_before_all_blocks_are_there(settings: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlscale.commands.cli", "gate", str(settings.folder), "--p95", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "nothing is judged before all are there" in done.stderr
