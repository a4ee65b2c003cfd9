"""A notebook of an environment, as papermill runs it: one short measured run, checked."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import pytest
from exposure import files_with

from mlscale import environments
from mlscale.notebook.manifest import read_manifest
from mlscale.runs import load_run
from mlscale_experiment.notebook_execution import execute
from mlscale_paper import places
from mlscale_paper.applications import code_reader

SCHEDULE: Final[dict[str, Any]] = {
    "loop": "closed",
    "duration_s": 24.0,
    "stages": [{"start_s": 0.0, "clients": 1}, {"start_s": 6.0, "clients": 8}],
    "think_mean_s": 0.2,
}
CANARY: Final = "canary-of-the-tests"
_VERSIONS: Final = {"torchserve": "torchserve", "rayserve": "ray", "k3s": "kubernetes"}


def check_notebook(notebook: str, photos: Path, folder: Path, *, duration_s: float = 24.0) -> None:
    """Execute a notebook such as "02_torchserve" in ``folder``, and check run and figures."""
    name = notebook[3:]
    environment = environments.get(name)
    app = code_reader()
    problems = environment.preflight(app, {"app": environment.arm("matched")}, "live")
    if fatal := [problem for problem in problems if problem.fatal]:
        pytest.skip(f"{name} can't run live here: {fatal[0].what}")
    parameters = {
        "out": str(folder / "run"),
        "bodies": str(photos),
        "schedule": SCHEDULE | {"duration_s": duration_s},
        "idle_s": 2.0,
        "quiet_at_most_s": 0.0,  # beside the other tests it never is
        "level_s": 1.0,
        "figures": str(folder / "figures"),
        "labels": {"cell": "core", "block": 1, "position": 1},
    }
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            patch.setenv(variable, CANARY)
        execute(places.notebooks() / f"{notebook}.ipynb", folder / "executed.ipynb", parameters, timeout_s=420)
    kubeconfig = Path(os.environ.get("KUBECONFIG", os.devnull)).read_text()
    keys = re.findall(r"client-key-data\W+([A-Za-z0-9+/=]{40,})", kubeconfig)
    assert bool(keys) == (name == "k3s")
    assert files_with([CANARY, *keys], folder) == []
    run = load_run(folder / "run")
    assert run.info.validity is not None
    assert run.info.versions[_VERSIONS[name]]
    assert set(run.requests["status"]) == {"ok"}, "the real models read every photo"
    assert run.requests["replica_id"].ne("").all()
    assert run.requests[["queue_s", "inference_s"]].notna().all(axis=None)
    assert run.replicas["desired"].max() > 1, "it was scaled up"
    roles = {"replica", "control_plane", "load_generator", "host"} | ({"data_plane"} if name != "k3s" else set())
    assert roles <= set(run.resources["role"])
    samples = run.resources.groupby("role")["t_s"].size()
    assert samples.loc["host"] >= duration_s, "twice a second, or once on a host that is busy with other tests"
    assert len(read_manifest(folder / "figures")) == (6 if name == "k3s" else 5)
