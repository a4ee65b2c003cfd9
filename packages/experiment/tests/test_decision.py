"""From runs to a decision, with runs of the twin in place of live ones: what they were made by is known."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from piloted import TWO, protocol_for

from mlscale.commands.new_app import new_app
from mlscale.measurement.labels import Labels
from mlscale.measurement.trial import Cost
from mlscale.progress import Bar
from mlscale.runs import MlscaleError
from mlscale_experiment import folder as module
from mlscale_experiment.calibration import contrasts_of
from mlscale_experiment.experiment import Experiment, Selection
from mlscale_experiment.folder import experiment
from mlscale_experiment.protocol import FILE, write_protocol
from mlscale_experiment.settings import NAME, Settings, read
from mlscale_twin.profile import Profile
from mlscale_twin.simulate import SimulateOptions, simulate
from mlscale_twin.strategy.measured import read_measured

WORK_S = {"torchserve": 0.040, "rayserve": 0.055}


def measured_folder(place: Path, **more: object) -> Settings:
    """A model's folder with the protocol of a pilot."""
    folder = new_app("my_model", place)
    hours = np.arange(0, 7200, 10)
    rates = pd.DataFrame({"time_s": hours, "rate_rps": 6 + 4 * np.sin(hours / 900)})
    rates.to_csv(folder / "traffic.csv", index=False)
    with (folder / NAME).open("a") as file:
        file.writelines(f"{key}: {value}\n" for key, value in more.items())
    protocol = protocol_for(Cost(0.03, 0.03, 0.5, 2e8, 0.03, 0.03, 0.03))
    write_protocol(folder / "runs" / FILE, protocol, folder / "runs")
    return read(folder).selected(Selection(environments=TWO, blocks=4))


def filled(planned: Experiment) -> Experiment:
    """With a run of the twin in every place of the plan, which says of itself that it is live."""
    for number, run in enumerate(planned.plan):
        folder = planned.root / run.folder / "attempt-0"
        labels = Labels(cell=run.label, block=run.block, position=run.position, aa_label=run.aa_label)
        options = SimulateOptions(
            seed=run.seed,
            draw=number,
            labels=labels,
            changes=[("work.app.mean_s.value", WORK_S[run.environment])],
        )
        simulate(run.environment, schedule=run.schedule, out=folder, scaling=run.scaling, arm=run.arm, options=options)
        said = json.loads((folder / "run.json").read_text())
        changed = {"mode": "live", "run_id": f"{run.environment}-{number}", "app": "my_model"}
        (folder / "run.json").write_text(json.dumps(said | changed))
    return planned


def finished(settings: Settings) -> str:
    planned = filled(experiment(settings))
    page = module.report_file(settings, quick=False)
    with Bar(1.0) as bar:
        module.draw_and_report(planned, planned.states(), bar, settings=settings, page=page)
    return page.read_text()


def test_blocks_and_a_trace_end_in_settings_to_paste(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = measured_folder(tmp_path, trace="traffic.csv", p95_s=1.0)
    page = finished(settings)
    said = capsys.readouterr().err
    assert "For traffic.csv, simulated:" in said
    assert "USD a month, objective met" in said
    assert "Cloud: no advice, since only runs on Kubernetes" in said
    for name in TWO:
        profile = Profile.model_validate_json((settings.folder / "profiles" / f"{name}.json").read_bytes())
        assert profile.application == "my_model"
        assert next(iter(profile.work.values())).mean_s.value == pytest.approx(WORK_S[name], rel=0.1), "the truth"
        assert profile.compared is not None
        assert "not fitted to" in profile.compared.what
        low, high = profile.compared.ratios["mean_response_s"]
        assert 0.6 < low <= 1.1
        assert 0.9 < high < 1.6
    assert "What to deploy for traffic.csv" in page
    assert "SIMULATED" in page
    assert "<pre>" in page
    pasted = [file for file in (settings.folder / "advice").rglob("*") if file.suffix in {".json", ".yaml"}]
    assert len(pasted) >= 2

    again = tmp_path / "again"
    command = [sys.executable, "-m", "mlscale.commands.cli", "advise", str(settings.trace), "--out", str(again)]
    done = subprocess.run([*command, "--experiment", str(settings.folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert advised(again) == advised(settings.folder / "advice"), "the same afterwards"


def advised(folder: Path) -> Mapping[str, object]:
    found: Mapping[str, object] = json.loads((folder / "advice.json").read_text())
    return found


def test_a_trace_that_cannot_be_read_costs_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = measured_folder(tmp_path, trace="traffic.csv")
    (settings.folder / "traffic.csv").write_text("nothing\n")
    assert "No advice for traffic.csv" in finished(settings)
    assert "report:" in capsys.readouterr().err
    measured, profiles = read_measured(settings.folder)
    assert measured.mean_s == experiment(settings).protocol.level_s, "L, where no percentile is asked for"
    assert [file.stem for file in profiles] == TWO


def test_before_its_blocks_an_experiment_gives_no_advice(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match="no profiles were fitted to it yet"):
        read_measured(tmp_path)


def test_contrasts_by_hand() -> None:
    """Two blocks: the simulation is right about one environment and a fifth too slow, then a tenth, about the other."""
    live = pd.DataFrame(
        {
            "environment": ["a", "b", "a", "b"],
            "block": [1, 1, 2, 2],
            "run_id": ["a1", "b1", "a2", "b2"],
            "mean_response_s": [2.0, 1.0, 3.0, 1.5],
        }
    )
    twin = live.assign(mean_response_s=[2.4, 1.0, 3.3, 1.5])
    row = contrasts_of(live, twin).iloc[0]
    assert (row.a, row.b) == ("a", "b")
    assert row.measured == pytest.approx(2.0)
    assert row.simulated == pytest.approx(2.0 * np.sqrt(1.2 * 1.1))
    assert (row.low, row.high) == pytest.approx((1.1, 1.2))
