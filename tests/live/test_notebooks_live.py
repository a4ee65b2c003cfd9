"""Notebooks 02, 03 and 08 as papermill runs them: a short measured run on the real framework, and its figures.

`make test` has notebook 04 (test_k3s_notebook.py); these differ from it by the framework."""

from __future__ import annotations

from pathlib import Path

import pytest
from notebook_run import SCHEDULE, check_notebook

from mlscale import environments
from mlscale.notebook.manifest import read_manifest
from mlscale.runs import load_run
from mlscale_experiment.notebook_execution import execute
from mlscale_paper import places
from mlscale_paper.applications import code_reader


@pytest.mark.live
@pytest.mark.proof
@pytest.mark.parametrize("notebook", ["02_torchserve", "03_rayserve"])
def test_one_run_measured_and_drawn(photos: Path, tmp_path: Path, notebook: str) -> None:
    check_notebook(notebook, photos, tmp_path)


@pytest.mark.live
@pytest.mark.proof
def test_whole_and_split_measured_and_drawn(photos: Path, tmp_path: Path) -> None:
    environment, app = environments.get("torchserve"), code_reader(partitioned=True)
    scalings = {component.name: environment.arm("static-max") for component in app.components}
    if fatal := [problem for problem in environment.preflight(app, scalings, "live") if problem.fatal]:
        pytest.skip(f"torchserve can't run live here: {fatal[0].what}")
    parameters = {
        "environments": ["torchserve"],
        "out": str(tmp_path / "runs"),
        "bodies": str(photos),
        "schedule": SCHEDULE | {"duration_s": 12.0},
        "idle_s": 1.0,
        "quiet_at_most_s": 0.0,
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
