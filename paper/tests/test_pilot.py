"""The pilot reads off a run what was put into it; an experiment keeps the protocol that it began with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlscale.host.facts import host_facts
from mlscale.measurement.sizing import Demand, Host
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, Observation, ResourceSample, Role, Run
from mlscale_experiment.pilot import LOAD_S, SETTLE_S, Measured, demand_of
from mlscale_experiment.protocol import Bodies, Protocol, read_protocol, write_protocol
from mlscale_paper import pilot, places
from mlscale_paper.pilot import ensure_protocol
from mlscale_paper.protocol import default_protocol
from mlscale_paper.sizing import fit
from synthetic_runs import info, requests_frame, write_run

END_S = SETTLE_S + LOAD_S
USED: dict[Role, float] = {"replica": 0.8, "data_plane": 0.2, "control_plane": 0.1, "load_generator": 0.05, "host": 1.2}


def samples() -> Iterator[Observation]:
    for t in np.arange(0.0, END_S + 1, 0.5):
        for role, cores in USED.items():
            yield ResourceSample(float(t), "app", role, role, cores, 5e8)


def busy_run(folder: Path, **requests: Any) -> Run:
    """20 answers a second, each 40 ms of waiting and service and 5 ms on the way."""
    frame = requests_frame(np.arange(0.02, END_S - 0.05, 0.05), 0.045, **requests)
    frame["queue_s"], frame["inference_s"] = 0.010, 0.030
    stages = (ClosedStage(start_s=0, clients=3),)
    schedule = ClosedLoop(duration_s=END_S, stages=stages, think_mean_s=0.03)
    changes = {"schedule": schedule, "step_s": None, "waits": {"deploy_s": 9.0}}
    return write_run(folder, frame, info(**changes), samples())


def test_what_an_answer_demands_is_read_off_a_busy_replica(tmp_path: Path) -> None:
    found = demand_of(busy_run(tmp_path / "run"), 0.03)
    assert found.demand.own_s == pytest.approx(0.8 / 20 - 0.03, rel=0.05)
    assert found.demand.data_plane_s == pytest.approx(0.2 / 20, rel=0.02)
    assert found.demand.control_cores == pytest.approx(0.1)
    assert found.demand.way_s == pytest.approx(0.005)
    assert found.demand.memory_bytes == 5e8
    assert found.demand.start_s == 9.0
    assert found.load_s == pytest.approx(0.05 / 20, rel=0.02)
    assert found.other_cores == pytest.approx(0.05)


def test_answers_that_are_wrong_tell_nothing(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match=r"100\.0% were wrong"):
        demand_of(busy_run(tmp_path / "run", status="wrong_answer"), 0.03)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setattr(places, "protocol_file", lambda: folder / "protocol.json")
    return folder


def put(folder: Path, **changes: Any) -> Protocol:
    """A protocol and its photos, as a pilot leaves them."""
    (folder / "photos/load").mkdir(parents=True)
    (folder / "photos/load/photo-000.jpg").write_bytes(b"photo")
    made = default_protocol(Bodies(folder="photos/load", count=1)).model_copy(update={"origin": "pilot", **changes})
    write_protocol(folder / "protocol.json", made, folder)
    return made


def refuse(*args: Any, **options: Any) -> None:
    raise AssertionError("no pilot is needed")


def test_a_protocol_of_this_host_is_taken_over_with_its_photos(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pilot, "run_pilot", refuse)
    held = put(checkout, host=host_facts())
    ensure_protocol(tmp_path / "runs", ["torchserve"], refuse, given=None, seed=0)
    assert read_protocol(tmp_path / "runs/protocol.json") == held
    assert (tmp_path / "runs/photos/load/photo-000.jpg").read_bytes() == b"photo"


def test_on_another_host_the_pilot_runs_by_itself_also_for_what_is_rehearsed(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(pilot, "run_pilot", lambda *args, **options: asked.append(args[:3]))
    put(checkout, host={"cpu_model": "another"})
    runs = tmp_path / "runs"
    ensure_protocol(runs, ["torchserve", "eks", "k3s"], refuse, given=None, seed=0)
    assert asked == [(["torchserve", "k3s"], runs, runs / "protocol.json")]


def test_a_protocol_that_is_named_goes_before_both(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pilot, "run_pilot", refuse)
    put(checkout, host=host_facts())
    own = put(tmp_path / "own", level_s=0.77)
    ensure_protocol(tmp_path / "runs", ["torchserve"], refuse, given=tmp_path / "own/protocol.json", seed=0)
    assert read_protocol(tmp_path / "runs/protocol.json") == own
    with pytest.raises(MlscaleError, match="there is no protocol"):
        ensure_protocol(tmp_path / "more", ["torchserve"], refuse, given=tmp_path / "nothing.json", seed=0)


def test_within_an_experiment_nothing_moves(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pilot, "run_pilot", refuse)
    put(checkout, host=host_facts())
    runs = tmp_path / "runs"
    begun = put(runs, level_s=0.5)
    ensure_protocol(runs, ["torchserve"], refuse, given=None, seed=0)
    assert read_protocol(runs / "protocol.json") == begun
    put(tmp_path / "own", level_s=0.77)
    with pytest.raises(MlscaleError, match="begun under another protocol"):
        ensure_protocol(runs, ["torchserve"], refuse, given=tmp_path / "own/protocol.json", seed=0)


def test_photos_that_are_there_already_are_used_or_refused_and_never_deleted(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pilot, "run_pilot", refuse)
    put(tmp_path / "own")
    own, runs = tmp_path / "own/protocol.json", tmp_path / "runs"
    there = runs / "photos/load/photo-000.jpg"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"mine")
    for given, named in ((own, "other files to send"), (None, "files to send are there without a protocol")):
        with pytest.raises(MlscaleError, match=named):
            ensure_protocol(runs, ["torchserve"], refuse, given=given, seed=0)
        assert there.read_bytes() == b"mine"
        assert not (runs / "protocol.json").exists()
    there.write_bytes(b"photo")
    ensure_protocol(runs, ["torchserve"], refuse, given=own, seed=0)
    assert read_protocol(runs / "protocol.json") == read_protocol(own)


def test_what_a_killed_call_copied_of_the_photos_is_not_among_them(tmp_path: Path, checkout: Path) -> None:
    put(checkout, host=host_facts())
    rest = tmp_path / "runs/photos/load.partial/photo-001.jpg"
    rest.parent.mkdir(parents=True)
    rest.write_bytes(b"of other photos")
    ensure_protocol(tmp_path / "runs", ["torchserve"], refuse, given=None, seed=0)
    assert [str(file.relative_to(tmp_path / "runs/photos")) for file in rest.parents[1].rglob("*.jpg")] == [
        "load/photo-000.jpg"
    ]


def test_photos_of_blocks_whose_protocol_is_gone_stay(tmp_path: Path, checkout: Path) -> None:
    put(checkout, host=host_facts())
    put(tmp_path / "runs")
    (tmp_path / "runs/protocol.json").unlink()
    (tmp_path / "runs/photos/load/photo-000.jpg").write_bytes(b"measured with")
    (tmp_path / "runs/core/block-01").mkdir(parents=True)
    (tmp_path / "runs/core/block-01/run.json").write_text("{}")
    with pytest.raises(MlscaleError, match="not moved afterwards"):
        ensure_protocol(tmp_path / "runs", ["torchserve"], refuse, given=None, seed=0)
    assert (tmp_path / "runs/photos/load/photo-000.jpg").read_bytes() == b"measured with"


class FakedPhotos:
    """Photos that all take the same time."""

    def cpu_s(self, body: bytes) -> list[float]:
        return [0.03]

    def choose(self, folder: Path, seed: int, count: int, about_s: float) -> None:
        folder.mkdir(parents=True)
        (folder / "photo-000.jpg").write_bytes(b"chosen")
        (folder / "labels.jsonl").write_text('{"file": "photo-000.jpg", "cpu_s": 0.03}\n')


def test_a_pilot_that_fails_leaves_the_photos_of_the_protocol_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demand = Demand(0.005, 0.005, 0.05, 0.005, 5e8, 9.0)
    monkeypatch.setattr(pilot, "_measure_each", lambda *args: ({"k3s": Measured(demand, 0.002, 0.05)}, 0.03))
    host = Host(cores=16.0, memory_bytes=64e9, load_s=0.002, other_cores=0.05)
    sizes = [fit({"k3s": demand}, host)] * 2
    monkeypatch.setattr(pilot, "fit", lambda *args: sizes.pop())
    photo, file = tmp_path / "photos/load/photo-000.jpg", tmp_path / "protocol.json"
    pilot.run_pilot(["k3s"], tmp_path / "runs", file, FakedPhotos)
    held = read_protocol(file)
    assert held is not None
    assert photo.read_bytes() == b"chosen"
    photo.write_bytes(b"before")
    sizes.append(fit({"k3s": demand}, host))
    with pytest.raises(IndexError):
        pilot.run_pilot(["k3s"], tmp_path / "runs", file, FakedPhotos)
    assert photo.read_bytes() == b"before"
    assert read_protocol(file) == held


def test_published_protocols_keep_their_names() -> None:
    published = read_protocol(places.reference_protocol_file())
    held = json.loads((places.reference() / "experiment.json").read_text())["protocol"]
    assert published is not None
    assert published.sha256() == held
    assert published.model_copy(update={"replicas": published.replicas + 1}).sha256() != held
