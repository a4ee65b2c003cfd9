"""Models of a user's own, measured from an empty folder by the commands of docs/own-model.md: the worked examples, one
that calls another, and one with a package that mlscale does not have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import in_process
from foreign_package import require_foreign_package
from impatient import MLSCALE
from mlscale.runs import Run, load_run

pytestmark = pytest.mark.live

EXAMPLES = Path(__file__).parents[2] / "examples"
SCHEDULE = {
    "loop": "closed",
    "duration_s": 4,
    "think_mean_s": 0.5,
    "stages": [{"start_s": 0, "clients": 1}, {"start_s": 2, "clients": 2}],
}
PARTS = """
def make_front():
    def answer(body):
        words = yield "counter", body
        return {"words": words["count"], "known": words["package"]}
    return answer

def make_counter():
    import wholly_unknown

    return lambda body: {"count": len(body.split()), "package": wholly_unknown.ANSWER}
"""


def mlscale(folder: Path, *words: str) -> str:
    """The command as a user types it; the user's folder is not among the places that Python imports from."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    done = subprocess.run(
        [*MLSCALE, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, "\n".join((done.stdout + done.stderr).splitlines()[-10:])
    return done.stdout


def measured(folder: Path, environment: str, *options: str) -> Run:
    (folder / "load.json").write_text(json.dumps(SCHEDULE))
    short = ["--schedule", "load.json", "--set", "idle_s=0", "--scaling", "max_replicas=1"]
    mlscale(folder, "measure", environment, "--bodies", "bodies", "--out", f"runs/{environment}", *short, *options)
    run = load_run(folder / "runs" / environment)
    assert len(run.requests) > 3
    assert set(run.requests["status"]) == {"ok"}, run.requests["status"].value_counts()
    return run


@pytest.fixture(scope="module")
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, prepared as its README says."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(EXAMPLES / request.param, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("weights.*"))
    argv = [sys.executable, "-m", f"{request.param}.prepare", "bodies"]
    subprocess.run(argv, cwd=folder, check=True, timeout=300)
    (folder / "name").write_text(request.param)
    return folder


@pytest.mark.parametrize(
    ("example", "environments"),
    [
        ("language_id", ["rayserve"]),  # TorchServe has the model below
        *(
            pytest.param(name, ["torchserve", "rayserve"], marks=pytest.mark.proof)
            for name in ("language_id", "letters")
        ),
    ],
    indirect=["example"],
)
def test_an_example_is_measured_compared_and_reported(
    example: Path, environments: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = f"{(example / 'name').read_text()}.model:make"
    for environment in environments:
        run = measured(example, environment, "--app", entry)
        assert run.info.entries == {"app": entry}
    monkeypatch.chdir(example)
    said = in_process.mlscale("compare", "runs", "--level", "1").stdout
    assert all(f"{environment} (1 run" in said for environment in environments)
    assert in_process.mlscale("report", "runs", "--level", "1", "--out", "report.html").returncode == 0
    assert f"Application: {entry}" in (example / "report.html").read_text()


# The cluster has the one, and the two frameworks the other; `make proof` has the rest.
@pytest.mark.parametrize("example", [pytest.param("language_id", marks=pytest.mark.proof), "letters"], indirect=True)
def test_an_example_on_the_cluster(example: Path, cluster: Path) -> None:
    measured(example, "k3s", "--app", f"{(example / 'name').read_text()}.model:make")


def test_components_and_a_package_that_mlscale_does_not_have(tmp_path: Path) -> None:
    require_foreign_package(tmp_path)
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies/text").write_text("three plain words")
    label = {"file": "text", "answer": {"words": 3, "known": 42}}
    (tmp_path / "bodies/labels.jsonl").write_text(json.dumps(label))
    parts = ["--app", "parts:make_front", "--calls", "counter=parts:make_counter"]
    run = measured(
        tmp_path, "torchserve", *parts, "--requirements", "requirements.txt", "--set", "content_type=text/plain"
    )
    assert run.info.entries == {"front": "parts:make_front", "counter": "parts:make_counter"}
    assert set(run.hops["component"]) == {"front", "counter"}
