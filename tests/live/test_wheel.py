"""The wheel without the checkout: installed into a new virtual environment, used in an empty folder with a user's model
and a user's own environment (examples/process_pool), of which mlscale knows nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.live

CHECKOUT = Path(__file__).parents[2]
# Names of this project's packages in the tests' environment, metadata included.
OURS = ("mlscale", "codereader", "onenode")
# A model of text, JSON and images: words, a sum, a picture's width.
MODEL = """
import json
from io import BytesIO

def make():
    from PIL import Image

    def answer(body):
        if body.startswith(b"\\x89PNG"):
            return {"width": Image.open(BytesIO(body)).width}
        if body.startswith(b"{"):
            return {"sum": sum(json.loads(body)["values"])}
        return {"words": len(body.decode().split())}
    return answer
"""
SCRIPT = """
import sys, warnings
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import mlscale
from mlscale import App, ClosedLoop, ClosedStage, Component, MeasureOptions, figures, load, load_runs, measure, simulate

assert Path(mlscale.__file__).is_relative_to(sys.prefix), mlscale.__file__
app = App("words", "1", (Component("app", "my_model:make"),), front="app")
step = ClosedStage(start_s=0, clients=1), ClosedStage(start_s=2, clients=3)
schedule = ClosedLoop(duration_s=8, think_mean_s=0.2, stages=step)
options = MeasureOptions(idle_s=0, quiet_at_most_s=0)

def measured(name):
    return measure(name, app, schedule, bodies="bodies", out=f"runs/{name}", scaling=SMALL, options=options)

SMALL = {"max_replicas": 1}
with ThreadPoolExecutor() as pool:  # each mostly waits for its framework
    runs = [*pool.map(measured, ("torchserve", "rayserve", "process-pool"))]
for run in runs:
    assert run.info.complete, run.info.incomplete_reason
    assert set(run.requests["status"]) == {"ok"}, run.requests["status"].value_counts()
    assert set(run.requests["body_id"]) == {"text.txt", "numbers.json", "picture.png"}
    assert run.info.entries == {"app": "my_model:make"}
for name in ("torchserve", "rayserve", "k3s", "eks", "ecs"):
    runs.append(simulate(name, app, schedule, out=f"runs/simulated-{name}"))
assert len(load_runs("runs")) == len(runs)

server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
Thread(target=server.serve_forever, daemon=True).start()
sent = load(f"http://127.0.0.1:{server.server_address[1]}/", ClosedLoop(duration_s=1, stages=step[:1]), out="load")
assert set(sent.requests["status"]) == {"ok"}

warnings.simplefilter("error", UserWarning)
k3s, eks = (run for run in runs if run.info.environment in ("k3s", "eks"))
for plot in ("trajectory", "response", "sigma", "resources"):
    assert getattr(figures, plot)(runs, 0.5).get_label(), plot
for plot in ("cold_starts", "sharing", "inference_by_period"):
    assert getattr(figures, plot)([k3s]).get_label(), plot
for plot in ("boot_parts", "boot_response"):
    assert getattr(figures, plot)([eks], 0.5).get_label(), plot
assert all(figures.timeline(run, 0.5).get_label() for run in (k3s, eks))
assert figures.variants({"one": [k3s], "other": [eks]}, ["k3s", "eks"], 0.5).get_label()
live = runs[:3]  # simulated runs are not tested against one another
assert figures.estimation(live, 0.5).get_label()
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheels, and everything else linked from the tests' environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "dist")]
    for package in (".", "packages/aws", "packages/twin", "examples/process_pool"):
        subprocess.run(build, cwd=CHECKOUT / package, check=True, capture_output=True)
    wheels = [str(file) for file in (folder / "dist").glob("*.whl")]
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    uv = Path(sys.executable).with_name("uv")
    install = [str(uv), "pip", "install", "--quiet", "--no-deps", "--python", str(python), *wheels]
    subprocess.run(install, check=True, capture_output=True)
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    twin = CHECKOUT / "packages/twin/mlscale_twin"
    shutil.copytree(twin / "__pycache__", site / "mlscale_twin/__pycache__", dirs_exist_ok=True)  # compiled
    for source in twin.glob("*.py"):  # by whose time Numba knows that it was compiled
        shutil.copystat(source, site / "mlscale_twin" / source.name)
    others = folder / "others"
    others.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(OURS):
            (others / entry.name).symlink_to(entry)
    (site / "others.pth").write_text(f"{others}\n")
    return python


def run(python: Path, folder: Path, *words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(python), *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    last = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
    assert done.returncode == 0, f"{words}: exit code {done.returncode}\n{last}"
    return done.stdout


def test_a_user_s_model_is_measured_and_every_environment_is_simulated(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies/text.txt").write_text("three plain words")
    (tmp_path / "bodies/numbers.json").write_text('{"values": [1, 2, 4]}')
    Image.new("L", (31, 7)).save(tmp_path / "bodies/picture.png")
    answers = {"text.txt": {"words": 3}, "numbers.json": {"sum": 7}, "picture.png": {"width": 31}}
    labels = [json.dumps({"file": file, "answer": answer}) for file, answer in answers.items()]
    (tmp_path / "bodies/labels.jsonl").write_text("\n".join(labels))
    (tmp_path / "script.py").write_text(SCRIPT)
    run(installed, tmp_path, "script.py")
    mlscale = installed.with_name("mlscale")
    run(mlscale, tmp_path, "compare", "runs", "--level", "0.5")
    run(mlscale, tmp_path, "cleanup")


def test_the_stack_s_template_is_packaged(installed: Path, tmp_path: Path) -> None:
    program = "from mlscale_aws.account import CLOUD; print((CLOUD / 'ecs.yaml').read_text())"
    template = run(installed, tmp_path, "-c", program)
    assert template == (CHECKOUT / "packages/aws/mlscale_aws/cloud/ecs.yaml").read_text() + "\n"
