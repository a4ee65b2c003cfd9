"""What the container runs: the same server, its start taken apart, and no package that the image does not have."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server_process import Server

from distributions import distributions_of, needed_by
from mlscale.environments.kubernetes import deployed
from mlscale.serving.container import main
from mlscale.serving.timeline import MARK, Timeline

ROOT = Path(__file__).parents[2]
LISTED = [
    line.strip()
    for line in (ROOT / "containers/app/requirements.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


class Container(Server):
    """As in the image, instead of `mlscale serve`."""

    module = ("-m", "mlscale.serving.container", "--host", "127.0.0.1")


def test_a_start_is_taken_apart_in_the_log() -> None:
    before_s = time.monotonic()
    with Container(MLSCALE_REPLICA="app-7d9-x2") as server:
        found = deployed.timeline(server.wait_for_line(MARK))
        assert server.decode(b"body").headers["x-mlscale-replica"] == "app-7d9-x2"
        assert server.end() == 0
    assert found is not None
    parts = ("python_s", "import_s", "weights_s", "first_s")
    assert all(found[name] >= 0 for name in parts)
    whole_s = found["ready_monotonic_s"] - found["began_monotonic_s"]
    assert 0 < sum(found[name] for name in parts) <= whole_s + 0.02
    assert before_s - 0.02 <= found["began_monotonic_s"] <= found["ready_monotonic_s"] <= time.monotonic()


def test_an_entry_that_is_not_there_is_one_line_and_code_2() -> None:
    argv = [sys.executable, "-m", "mlscale.serving.container", "--port", "0", "--entry", "nowhere:make"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("mlscale: --entry: no module 'nowhere'")


@pytest.mark.parametrize(
    ("option", "value"), [("--drain", "nan"), ("--body-timeout", "inf"), ("--waiting", "-1"), ("--port", "99999")]
)
def test_numbers_that_make_no_sense(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([option, value, "--entry", "nowhere:make"]) == 2
    assert capsys.readouterr().err.startswith(f"mlscale: {option}: {value} is not possible")


def test_imports_in_a_phase_are_counted_apart() -> None:
    timeline = Timeline()
    with timeline.phase("weights_s"):
        import tomllib  # noqa: F401
    assert timeline.phases.keys() == {"weights_s", "import_s"}
    assert json.loads(timeline.line().removeprefix(MARK))["import_s"] >= 0


def test_the_image_has_every_package_that_server_models_and_load_jobs_import() -> None:
    code = (
        "import sys, mlscale.serving.container, mlscale.loadgen.remote_job, mlscale.loadgen.worker;"
        "import codereader.decoder as d; d.make_decoder();"
        "print(*{name.partition('.')[0] for name, m in list(sys.modules.items())"
        " if 'site-packages' in (getattr(m, '__file__', None) or '')})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True).stdout
    optional = {"tqdm", "setuptools", "brotli"}  # taken where they are, by torch and what it takes
    assert distributions_of(said.split()) - needed_by(*LISTED, "torch") <= optional, "else add it to requirements.txt"


def test_every_version_is_that_of_the_lock_and_the_image_runs_as_nobody() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert all(re.search(rf"^{re.escape(name)}==", lock, re.MULTILINE) for name in [*LISTED, "torch"])
    dockerfile = (ROOT / "containers/app/Dockerfile").read_text()
    assert "\nUSER 65532:65532\n" in dockerfile
    assert 'ENTRYPOINT ["python", "-m", "mlscale.serving.container"]' in dockerfile
