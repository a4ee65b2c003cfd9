"""What the paper keeps on record about the twin: verdicts, and by which runs; in its profiles, too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlscale.commands.cli import app
from mlscale.errors import MlscaleError
from mlscale.notebook.parameters import TwinParameters
from mlscale_paper import cli, places, twin_tables
from mlscale_paper.twin_records import CLAIMS, VALIDATION, moved, note_in_profiles, read_record, write_record
from mlscale_paper.twin_tables import published_fit, published_hold_out, speed_table
from mlscale_twin.profile import FOLDER, Compared, Profile, profile_names
from mlscale_twin.profile_files import read_profile


def test_profiles_name_the_runs_of_their_fit_and_the_validation_is_of_others() -> None:
    fits = {name: set(read_profile(name).fitted_to) for name in profile_names()}
    known = {run.info.run_id: run.info.environment for run in published_fit()}
    for name, fitted in fits.items():
        assert fitted
        assert {known[run_id] for run_id in fitted} == {name}
        assert read_profile(name).work["app"].mean_s.source.startswith(f"{len(fitted)} live runs")
    validated = json.loads((places.reference() / VALIDATION).read_text())["runs"]
    assert validated == sorted(run.info.run_id for run in published_hold_out())
    assert not set(validated) & set.union(*fits.values())


def test_the_numbers_of_validated_profiles_were_committed_before_the_hold_out(record: dict[str, Any]) -> None:
    """By the commit that docs/twin-history.md names."""
    named = re.search(r"fixed by commit (\w+)", (places.checkout() / "docs/twin-history.md").read_text())
    assert named
    for environment in record["compared"]:
        profile = read_profile(environment)
        then = _git("show", f"{named[1]}:packages/twin/mlscale_twin/profiles/{environment}.json")
        assert Profile.model_validate_json(then).sha256 == profile.sha256
    fixed = datetime.fromisoformat(_git("show", "--no-patch", "--format=%cI", named[1]).strip())
    assert fixed < min(run.info.wall_start for run in published_hold_out())


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", places.checkout(), *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the checkout has no history: {done.stderr}")
    return done.stdout


@pytest.fixture
def record() -> dict[str, Any]:
    return dict(json.loads((places.reference() / VALIDATION).read_text()))


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    """A copy of the shipped profiles, without verdicts."""
    shutil.copytree(FOLDER, tmp_path / "profiles")
    for file in (tmp_path / "profiles").iterdir():
        content = json.loads(file.read_text())
        del content["validated"], content["compared"]
        file.write_text(json.dumps(content))
    return tmp_path / "profiles"


def test_a_record_says_what_moved(record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "reference", lambda: tmp_path)
    assert read_record(VALIDATION) is None
    assert write_record(VALIDATION, record)
    assert read_record(VALIDATION) == record
    assert write_record(VALIDATION, record) == []
    row = record["verdicts"][0]
    row |= {"verdict": "different", "low": row["low"] * (1 + 1e-12), "estimate": 9.0}
    place = f"/verdicts/{row['environment']}, {row['figure']}"
    was = json.loads((tmp_path / VALIDATION).read_text())["verdicts"][0]
    assert sorted(write_record(VALIDATION, record)) == [
        f"{place}/estimate: {was['estimate']} -> 9.0",
        f"{place}/verdict: {was['verdict']} -> different",
    ]
    record["runs"].pop()
    assert len(moved(was, {**was, "n": 1})) == 1
    assert "runs" in write_record(VALIDATION, record)[0]


@pytest.mark.parametrize("share", [6, pytest.param(1, marks=pytest.mark.proof)])
def test_shipped_profiles_say_how_far_the_twin_is_from_live_runs(
    record: dict[str, Any], profiles: Path, share: int
) -> None:
    """Validated ones, from the hold-out; eks, from the runs of its fit: from some at most as far as from all."""
    fitted = published_fit()[::share]
    note_in_profiles(record, published_hold_out(), fitted, profiles)
    for name in set(profile_names()) - {"eks"}:
        assert read_profile(profiles / f"{name}.json") == read_profile(name)
        assert read_profile(name).compared == Compared.model_validate(record["compared"][name])
        assert read_profile(name).validated.startswith("held against 12 live runs until 20")
    noted, shipped = read_profile(profiles / "eks.json"), read_profile("eks")
    assert noted.validated == shipped.validated == "not validated"
    assert noted.compared is not None
    assert shipped.compared is not None
    assert (noted.compared.what, shipped.compared.runs) == (shipped.compared.what, len(shipped.fitted_to))
    assert noted.compared.runs == sum(run.info.environment == "eks" for run in fitted) > 1
    for figure, (low, high) in noted.compared.ratios.items():
        least, most = shipped.compared.ratios[figure]
        assert 0.99 * least < low < high < 1.01 * most, figure
        assert share > 1 or (low, high) == pytest.approx((least, most), rel=0.01), figure


def test_a_profile_says_its_error_in_words() -> None:
    known = Compared(what="hold-out runs", runs=8, ratios={"mean_response_s": (0.9, 1.2)})
    noted = read_profile("torchserve").model_copy(update={"compared": known})
    assert noted.error_of("mean_response_s") == "twin / live 0.90 to 1.20 (8 hold-out runs)"
    assert noted.error_of("t_slo_s") == "not compared in this figure"
    assert read_profile("ecs").error_of("mean_response_s") == "never compared with live runs"
    assert noted.sha256 == read_profile("torchserve").sha256, "no simulation depends on it"


def test_an_answer_costs_as_much_under_light_load_as_under_much() -> None:
    """Within the margin of service time, as METHOD section 8 says; Ray Serve's polls are modelled, and excepted."""
    table = speed_table(published_fit()).set_index("environment")
    for environment in ("torchserve", "k3s", "eks"):
        low, high = re.findall(r"[\d.]+", table.loc[environment, "loaded / light"])[1:]
        assert 0.9 < float(low) < float(high) < 1.1, environment


def test_runs_of_the_fit_are_said_to_be_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(twin_tables, "remark", said.append)
    assert len(twin_tables.runs_to_compare(TwinParameters())) == 36
    assert said == []
    folder = places.reference() / "core/block-02"
    twin_tables.runs_to_compare(TwinParameters(run_dirs=(folder, places.reference() / "holdout/step-x1")))
    assert "which do not test it" in said[0]


@pytest.mark.parametrize("command", [["freeze"], ["compare-profiles", "my-profiles"], ["validate", "--same-results"]])
def test_what_was_removed_names_what_to_do_instead(command: list[str]) -> None:
    result = CliRunner().invoke(app, ["experiment", *command])
    assert isinstance(result.exception, MlscaleError)
    assert "mlscale experiment validate" in f"{result.exception.where} {result.exception.remedy}"


@pytest.mark.proof
@pytest.mark.parametrize("name", [VALIDATION, CLAIMS])
def test_a_record_is_reproduced(name: str, profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation by the published hold-out; the paper's claims, and with them the twin's errors in comparisons."""
    recorded = json.loads((places.reference() / name).read_text())
    written: dict[str, Any] = {}
    monkeypatch.setattr(
        "mlscale_paper.twin_records.write_record", lambda name, record: written.update({name: record}) or []
    )
    if name == VALIDATION:
        cli.validate(recorded["draws"], profiles)
    else:
        cli.claims(recorded["draws"])
    assert moved(recorded, json.loads(json.dumps(written[name]))) == []
    for other in set(written) - {name}:
        assert moved(json.loads((places.reference() / other).read_text()), json.loads(json.dumps(written[other]))) == []
