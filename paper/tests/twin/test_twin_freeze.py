"""Profiles are frozen per host before the runs that judge them, and rescaled by calibration runs there."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlscale.analysis.summary import host_name
from mlscale.runs import MlscaleError, Run, Validity, load_run, load_runs
from mlscale_paper import freeze as freezing
from mlscale_paper import places, twin_tables
from mlscale_paper.freeze import (
    CalibratingRun,
    Frozen,
    FrozenProfile,
    freeze,
    frozen_profile_of,
    read_frozen,
    session_around,
    sessions,
    speeds_of,
)
from mlscale_twin.profile import read_profile
from mlscale_twin.studies.validation import shipped
from mlscale_twin.transfer import Speed, at_speed, speed_of

CORE = Path(__file__).parents[3] / "data/reference/core"
PROFILE = read_profile("torchserve")


@pytest.fixture(scope="module")
def published() -> list[Run]:
    found = [load_run(folder) for folder in sorted(CORE.glob("*/*-torchserve*/attempt-*"))]
    return [run for run in found if run.info.valid]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs: a published one in the place of a calibrating one, as if of another host, which is this one;
    twin.json goes elsewhere."""
    folder = tmp_path / "runs/calibration/step/block-01/1-torchserve/attempt-0"
    shutil.copytree(sorted(CORE.glob("block-02/*-torchserve*/attempt-*"))[-1], folder)
    info = json.loads((folder / "run.json").read_text())
    info["host"]["cpu_model"] = "Another CPU"
    (folder / "run.json").write_text(json.dumps(info))
    monkeypatch.setattr(places, "twin_file", lambda: tmp_path / "twin.json")
    monkeypatch.setattr(freezing, "host_facts", lambda: info["host"])
    return tmp_path / "runs"


def test_freezing_writes_which_profiles_hold_on_a_host(elsewhere: Path) -> None:
    host, new = freeze(elsewhere)
    assert host.startswith("Another CPU")
    found = read_frozen()
    assert set(new) == set(found.hosts[host]) == {"torchserve", "rayserve", "k3s", "eks"}
    assert freeze(elsewhere) == (host, []), "nothing has changed"
    assert read_frozen() == found
    (here,) = load_runs(elsewhere)
    assert read_frozen().profile_of(here) == read_profile("torchserve")
    with pytest.raises(MlscaleError, match="was not frozen for"):
        read_frozen().profile_of(load_runs(CORE)[0])


def test_the_twin_is_as_fast_as_calibrating_runs_say(elsewhere: Path, published: list[Run]) -> None:
    freeze(elsewhere)
    (here,) = load_runs(elsewhere)
    found = speeds_of([here], published)
    assert found[0].run is here
    assert found[0].speed == speed_of([here], published, PROFILE)
    assert frozen_profile_of(read_frozen(), found)(here) == at_speed(PROFILE, found[0].speed)
    twice = [*found, CalibratingRun(here, Speed(work=4 * found[0].speed.work, starts=found[0].speed.starts))]
    work_s = frozen_profile_of(read_frozen(), twice)(here).work["app"].mean_s.value
    assert work_s == pytest.approx(2 * at_speed(PROFILE, found[0].speed).work["app"].mean_s.value, rel=1e-3)
    with pytest.raises(MlscaleError, match="no valid calibrating run of Another CPU"):
        frozen_profile_of(read_frozen(), [])(here)


def test_what_was_measured_hours_away_calibrates_nothing(elsewhere: Path, published: list[Run]) -> None:
    freeze(elsewhere)
    (here,) = load_runs(elsewhere)

    def begun(minutes: int) -> Run:
        moved = {"wall_start": here.info.wall_start + timedelta(minutes=minutes)}
        return Run(here.path, here.info.model_copy(update=moved))

    found = speeds_of([begun(minutes) for minutes in (0, 60, 140, 235, 240)], published)
    assert [len(session) for session in sessions(found)] == [3, 2]
    of_run = {minutes: session_around(begun(minutes), sessions(found)) for minutes in (-91, -90, 10, 139, 200, 300)}
    assert [len(near) for near in of_run.values()] == [0, 3, 3, 3, 3, 2]
    with pytest.raises(MlscaleError, match=r"no valid calibrating run of Another CPU.* around"):
        frozen_profile_of(read_frozen(), found)(begun(-91))


def test_a_notebook_says_when_nothing_calibrates_its_runs(
    elsewhere: Path, published: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    freeze(elsewhere)
    (here,) = load_runs(elsewhere)
    found = speeds_of([here], published)
    assert twin_tables.profile_of([here], found)(here) == at_speed(PROFILE, found[0].speed)
    assert capsys.readouterr().out == ""
    for runs, calibrating in (([here], []), ([here, published[0]], found)):
        assert twin_tables.profile_of(runs, calibrating) is shipped
        assert "Markdown" in capsys.readouterr().out, "a sentence in a notebook"


def test_invalid_runs_calibrate_nothing(elsewhere: Path, published: list[Run]) -> None:
    (here,) = load_runs(elsewhere)
    bad = Run(here.path, here.info.model_copy(update={"validity": Validity(valid=False)}))
    assert speeds_of([bad], published) == []


def test_nothing_is_frozen_after_the_fact(elsewhere: Path) -> None:
    shutil.copytree(elsewhere / "calibration", elsewhere / "holdout")
    with pytest.raises(MlscaleError, match="hold-out runs of torchserve are there already"):
        freeze(elsewhere)


def test_another_environment_may_be_frozen_anew(elsewhere: Path) -> None:
    host, _ = freeze(elsewhere)
    before = read_frozen()
    profiles = dict(before.hosts[host]) | {
        "rayserve": FrozenProfile(frozen_at=datetime(2026, 1, 1, tzinfo=UTC), sha256="0")
    }
    places.twin_file().write_text(Frozen(hosts={host: profiles}).model_dump_json())
    shutil.copytree(elsewhere / "calibration", elsewhere / "holdout")
    assert freeze(elsewhere) == (host, ["rayserve"])
    now = read_frozen().hosts[host]
    assert now["rayserve"].sha256 == before.hosts[host]["rayserve"].sha256
    assert now["torchserve"] == before.hosts[host]["torchserve"]


def test_a_profile_that_was_changed_since_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    host, _ = freeze(elsewhere)
    (run,) = load_runs(elsewhere)
    file = tmp_path / "twin.json"
    data = json.loads(file.read_text())
    data["hosts"][host]["torchserve"]["sha256"] = "0" * 64
    file.write_text(json.dumps(data))
    with pytest.raises(MlscaleError, match="not the one that was frozen"):
        read_frozen().profile_of(run)
    file.write_text('{"version": 1}')
    with pytest.raises(MlscaleError, match="broken"):
        read_frozen()
    file.unlink()
    assert not read_frozen().hosts


def test_the_profiles_are_those_that_were_frozen() -> None:
    """Whoever changes a number of a profile has to measure new hold-out runs, and freeze it before them."""
    frozen = read_frozen()
    held_out = [load_run(file.parent) for file in CORE.parent.glob("holdout/**/run.json")]
    for run in held_out:
        assert run.info.wall_start > frozen.hosts[host_name(run.info.host)][run.info.environment].frozen_at
        assert frozen.profile_of(run).environment == run.info.environment
    for found in frozen.hosts.values():
        assert {name: one.sha256 for name, one in found.items()} == {name: read_profile(name).sha256 for name in found}
