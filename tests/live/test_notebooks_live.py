"""Notebooks 02 to 04 as papermill runs them: a short measured run on the real framework, and its figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from codereader.photos import choose_load_photos
from mlscale import environments
from mlscale.notebook.manifest import read_manifest
from mlscale.runs import load_run
from mlscale_paper import places
from mlscale_paper.applications import code_reader
from mlscale_paper.notebook_execution import execute

SCHEDULE = {
    "loop": "closed",
    "duration_s": 24.0,
    "stages": [{"start_s": 0.0, "clients": 1}, {"start_s": 6.0, "clients": 8}],
    "think_mean_s": 0.2,
}


VERSIONS = {"torchserve": "torchserve", "rayserve": "ray", "k3s": "kubernetes"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    choose_load_photos(folder, 0, 3, target_cpu_s=(0.005, 0.2))
    return folder


@pytest.mark.live
@pytest.mark.parametrize("notebook", ["02_torchserve", "03_rayserve", "04_k3s"])
def test_one_run_measured_and_drawn(
    photos: Path, tmp_path: Path, notebook: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = notebook[3:]
    schedule = SCHEDULE
    if name == "k3s":
        monkeypatch.setenv("KUBECONFIG", str(request.getfixturevalue("cluster")))
        schedule = SCHEDULE | {"duration_s": 45.0}  # the HPA's sync period is 15 s
    environment = environments.get(name)
    app = code_reader()
    problems = environment.preflight(app, {"app": environment.arm("matched")}, "live")
    if fatal := [problem for problem in problems if problem.fatal]:
        pytest.skip(f"{name} can't run live here: {fatal[0].what}")
    parameters = {
        "out": str(tmp_path / "run"),
        "photos": str(photos),
        "schedule": schedule,
        "idle_s": 2.0,
        "level_s": 1.0,
        "figures": str(tmp_path / "figures"),
        "labels": {"cell": "core", "block": 1, "position": 1},
    }
    execute(places.notebooks() / f"{notebook}.ipynb", tmp_path / "executed.ipynb", parameters, timeout_s=420)
    run = load_run(tmp_path / "run")
    assert run.info.validity is not None
    assert run.info.versions[VERSIONS[name]]
    assert set(run.requests["status"]) == {"ok"}, "the real models read every photo"
    assert run.requests["replica_id"].ne("").all()
    assert run.requests[["queue_s", "inference_s"]].notna().all(axis=None)
    assert run.replicas["desired"].max() > 1, "it was scaled up"
    roles = {"replica", "control_plane", "load_generator", "host"} | ({"data_plane"} if name != "k3s" else set())
    assert roles <= set(run.resources["role"])
    duration_s = run.info.schedule.duration_s
    assert run.resources.groupby("role")["t_s"].size().loc["host"] >= 2 * duration_s * 0.8, "about twice a second"
    assert len(read_manifest(tmp_path / "figures")) == (6 if name == "k3s" else 5)


@pytest.mark.live
def test_whole_and_split_measured_and_drawn(photos: Path, tmp_path: Path) -> None:
    environment, app = environments.get("torchserve"), code_reader(partitioned=True)
    scalings = {component.name: environment.arm("static-max") for component in app.components}
    if fatal := [problem for problem in environment.preflight(app, scalings, "live") if problem.fatal]:
        pytest.skip(f"torchserve can't run live here: {fatal[0].what}")
    parameters = {
        "environments": ["torchserve"],
        "out": str(tmp_path / "runs"),
        "photos": str(photos),
        "schedule": SCHEDULE | {"duration_s": 12.0},
        "idle_s": 1.0,
        "figures": str(tmp_path / "figures"),
    }
    execute(places.notebooks() / "08_partition.ipynb", tmp_path / "executed.ipynb", parameters, timeout_s=580)
    whole, split = (load_run(folder) for folder in sorted((tmp_path / "runs").iterdir()))
    assert (whole.info.components, split.info.components) == (("app",), ("localiser", "readers"))
    assert whole.hops.empty
    for run in (whole, split):
        assert set(run.requests["status"]) == {"ok"}, "the real models read every photo, whole or in parts"
        assert run.requests["inference_s"].notna().all()
        assert sum(scaling["max_replicas"] for scaling in run.info.scaling.values()) == 4, "the same total"
    visits = split.hops.groupby("request_id")["component"].agg(list)
    assert set(visits.index) == set(split.requests["request_id"])
    assert all(names[0] == "localiser" and set(names[1:]) == {"readers"} for names in visits)
    assert split.hops[["start_s", "queue_s", "inference_s"]].notna().all(axis=None)
    assert set(read_manifest(tmp_path / "figures")) == {"partition_measured", "partition_parts"}
