"""Twins are frozen per host before the runs that judge them: profiles and code, by their hashes."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlscale.runs import MlscaleError, Run, load_run, load_runs
from mlscale.runs.info import host_name
from mlscale_paper import freeze as freezing
from mlscale_paper import places, twin_tables
from mlscale_paper.freeze import Frozen, FrozenProfile, check_frozen, freeze, frozen_profile_of, read_frozen
from mlscale_twin.host_speed import at_own_speed
from mlscale_twin.profile import read_profile
from mlscale_twin.studies.validation import shipped

CORE = Path(__file__).parents[3] / "data/reference/core"


@pytest.fixture(scope="module")
def published() -> list[Run]:
    found = [load_run(folder) for folder in sorted(CORE.glob("*/*-torchserve*/attempt-*"))]
    return [run for run in found if run.info.valid]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs: a published one as if of another host, which is this one; twin.json goes elsewhere."""
    folder = tmp_path / "runs/some/step/block-01/1-torchserve/attempt-0"
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


def test_a_frozen_twin_has_the_speed_of_its_run(elsewhere: Path, published: list[Run]) -> None:
    freeze(elsewhere)
    (here,) = load_runs(elsewhere)
    profile_of = frozen_profile_of(read_frozen(), [here], published)
    assert profile_of(here) == at_own_speed([*published, here], shipped)(here)
    assert profile_of(here).work["app"].mean_s.value != read_profile("torchserve").work["app"].mean_s.value
    with pytest.raises(MlscaleError, match="was not frozen for"):
        frozen_profile_of(read_frozen(), [here, published[0]], [])


def test_a_notebook_says_when_a_twin_was_not_frozen(
    elsewhere: Path, published: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    freeze(elsewhere)
    (here,) = load_runs(elsewhere)
    assert twin_tables.profile_of([here], published)(here) == frozen_profile_of(read_frozen(), [here], published)(here)
    assert capsys.readouterr().out == ""
    assert twin_tables.profile_of([published[0]], [])(published[0]).environment == "torchserve"
    assert "Markdown" in capsys.readouterr().out, "a sentence in a notebook"


def test_the_hold_out_needs_frozen_twins(elsewhere: Path) -> None:
    with pytest.raises(MlscaleError, match=r"was not frozen for .*mlscale experiment freeze"):
        check_frozen(["torchserve", "k3s"])
    freeze(elsewhere)
    check_frozen(["torchserve", "k3s", "process_pool"])


def test_nothing_is_frozen_after_the_fact(elsewhere: Path) -> None:
    shutil.copytree(elsewhere / "some", elsewhere / "holdout")
    with pytest.raises(MlscaleError, match="hold-out runs of torchserve are there already"):
        freeze(elsewhere)


def test_another_environment_may_be_frozen_anew(elsewhere: Path) -> None:
    host, _ = freeze(elsewhere)
    before = read_frozen()
    profiles = dict(before.hosts[host]) | {
        "rayserve": FrozenProfile(frozen_at=datetime(2026, 1, 1, tzinfo=UTC), sha256="0", code_sha256="0")
    }
    places.twin_file().write_text(Frozen(hosts={host: profiles}).model_dump_json())
    shutil.copytree(elsewhere / "some", elsewhere / "holdout")
    assert freeze(elsewhere) == (host, ["rayserve"])
    now = read_frozen().hosts[host]
    assert now["rayserve"].sha256 == before.hosts[host]["rayserve"].sha256
    assert now["torchserve"] == before.hosts[host]["torchserve"]


def test_a_profile_that_was_changed_since_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    host, _ = freeze(elsewhere)
    (run,) = load_runs(elsewhere)
    file = tmp_path / "twin.json"
    data = json.loads(file.read_text())
    for name, what in (("code_sha256", "twin's code"), ("sha256", "profile torchserve")):
        data["hosts"][host]["torchserve"][name] = "0" * 64
        file.write_text(json.dumps(data))
        with pytest.raises(MlscaleError, match=f"the {what} is not the one that was frozen"):
            read_frozen().profile_of(run)
    data["hosts"][host]["torchserve"] |= {"sha256": read_profile("torchserve").sha256, "code_sha256": "0" * 64}
    file.write_text(json.dumps(data))
    read_frozen().with_same_results().write()
    assert read_frozen().profile_of(run) == read_profile("torchserve"), "other code, said to give the same results"
    assert freeze(elsewhere) == (host, [])
    file.write_text('{"version": 1}')
    with pytest.raises(MlscaleError, match="broken"):
        read_frozen()
    file.unlink()
    assert not read_frozen().hosts


def test_the_published_hold_out_is_of_the_frozen_twin() -> None:
    """Whoever changes a profile or the twin's code has to measure new hold-out runs, and freeze it before them."""
    frozen = read_frozen()
    of_setup: dict[tuple[str, str], Run] = {}
    for run in load_runs(places.reference() / "holdout"):
        host, environment = host_name(run.info.host), run.info.environment
        assert run.info.wall_start > frozen.hosts[host][environment].frozen_at
        of_setup[host, environment] = run
    for (_, environment), run in of_setup.items():
        assert frozen.profile_of(run).environment == environment
