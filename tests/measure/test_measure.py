"""measure() against a test environment: real processes, real requests, everything that can end it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from burner import APP, Burner, write_photos
from mlscale import environments
from mlscale.defaults import defaults
from mlscale.environments import ObservationLost
from mlscale.host.ledger import Ledger, ledger_folder
from mlscale.host.processes import process_start
from mlscale.host.proctable import descendants, read_table
from mlscale.host.reap import cleanup
from mlscale.measurement.labels import Labels
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, Run, load_run
from mlscale_paper.defaults import PaperDefaults

SCHEDULE = ClosedLoop(
    duration_s=3.0,
    stages=(ClosedStage(start_s=0, clients=1), ClosedStage(start_s=1.5, clients=3)),
    think_mean_s=0.02,
    think="constant",
)
FAST = MeasureOptions(idle_s=0.5, quiet_at_most_s=0.1)


@pytest.fixture(autouse=True)
def own_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


def nothing_left() -> bool:
    """No ledger, and no process of a sandbox (they carry its marker in their environment)."""
    folder = ledger_folder()
    return not (folder.is_dir() and any(folder.iterdir()))


def in_a_loop(*arguments: object, **named: object) -> Run:
    """As in Jupyter: called where an event loop already runs."""

    async def cell() -> Run:
        return measure(*arguments, **named)  # type: ignore[arg-type]

    return asyncio.run(cell())


@pytest.fixture(scope="module")
def measured(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[tuple[str, float]]]:
    folder = tmp_path_factory.mktemp("measured")
    seen: list[tuple[str, float]] = []
    labels = Labels(cell="core", block=2, position=1, aa_label="A", attempt=1)
    told = MeasureOptions(
        **{**dict(FAST), "labels": labels, "seed": 5, "progress": lambda what, share: seen.append((what, share))}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        run = in_a_loop(
            Burner(),
            APP,
            SCHEDULE,
            bodies=photos,
            out=folder / "run",
            options=told,
        )
        assert nothing_left()
    return run, seen


def test_one_run_end_to_end(measured: tuple[Run, object]) -> None:
    run, _ = measured
    assert run.info.complete
    assert run.info.validity is not None
    assert run.info.stimulus is not None
    assert run.info.stimulus.sent == len(run.requests) > 20
    assert set(run.requests["status"]) == {"ok"}, "answers are those that stand on the photos"
    assert run.requests["body_id"].nunique() == 4
    assert (run.info.environment, run.info.cell, run.info.block, run.info.aa_label) == ("test-burner", "core", 2, "A")
    assert run.info.scaling["app"]["max_replicas"] == 4, "every default is spelled out"
    assert run.info.versions == {"burner": "1"}


def test_time_zero_is_where_the_schedule_starts(measured: tuple[Run, object]) -> None:
    run, _ = measured
    late_s = run.info.waits["load_late_s"]
    assert run.info.step_s == pytest.approx(late_s + 1.5)
    steps = run.events[run.events["kind"] == "load_step"]
    assert steps["t_s"].tolist() == pytest.approx([late_s, late_s + 1.5])
    assert run.requests["intended_s"].min() >= late_s
    assert run.requests["intended_s"].max() <= late_s + 3.0
    assert run.replicas["t_s"].min() < 0, "what is before the load has negative times"
    assert run.replicas["t_s"].max() > 2.5, "and observation lasts till its end"


def test_the_cost_at_idle_and_every_wait_are_recorded(measured: tuple[Run, object]) -> None:
    run, _ = measured
    assert {"quiet_s", "quiet", "deploy_s", "idle_s", "drain_s", "teardown_s"} <= set(run.info.waits)
    assert run.info.waits["idle_s"] >= 0.5
    assert run.info.idle["data_plane_rss_bytes"] > 1e6
    assert "load_generator_cores" not in run.info.idle


def test_progress_is_told(measured: tuple[Run, list[tuple[str, float]]]) -> None:
    run, seen = measured
    phases = list(dict.fromkeys(what for what, _ in seen))
    busy = [phase for phase in phases if phase.startswith("other programs still use ")]
    assert len(busy) == 1 - run.info.waits["quiet"], "a host that stayed busy is said, a quiet one isn't"
    assert phases[0] == "burner: only a remark (nothing to do)"
    assert phases[1].startswith("load: 1 client from 0 s, then 3 clients from 1.5 s, 3 s in all; ")
    assert phases[2:] == [
        "waiting for a quiet host",
        *busy,
        "deploying",
        "watching at idle",
        "under load",
        "tearing down",
        "sealing",
    ]
    shares = [share for what, share in seen if what == "under load"]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0, abs=0.35)


def test_a_fatal_problem_is_one_line_before_anything_is_made(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match=r"burner: no fuel \(bring some\)"):
        measure(
            Burner(), APP, SCHEDULE, bodies=photos, out=tmp_path / "run", scaling={"fail": "preflight"}, options=FAST
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    {"connections": "some", "idle_s": float("nan"), "timeout_s": 0, "seed": -1, "workers": 0, "nothing": 1}.items(),
)
def test_options_that_make_no_sense_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        MeasureOptions(**{name: value})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scaling": {"max_replicsa": 2}}, "unknown setting 'max_replicsa'"),
        ({"scaling": {"burn_s": "much"}}, "setting 'burn_s'"),
        ({"options": MeasureOptions(mode="simulated")}, "mode 'simulated'"),
        ({"bodies": "nowhere"}, "nowhere"),
        ({"environment": "torchsevre"}, "unknown environment 'torchsevre'"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    photos: Path, tmp_path: Path, changes: dict[str, object], named: str
) -> None:
    asked = {"environment": Burner(), "app": APP, "schedule": SCHEDULE, "bodies": photos, "out": tmp_path / "run"}
    with pytest.raises(MlscaleError, match=named) as caught:
        measure(**{**asked, "options": FAST, **changes})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_under_the_default_load_replicas_have_the_sizes_that_it_is_made_for(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the command and in the notebooks."""
    sizes = {"max_replicas": 3, "cpu_cores": 0.2}
    monkeypatch.setattr(PaperDefaults, "sized", lambda self, name, scaling, schedule: {**sizes, **scaling})
    monkeypatch.setattr("mlscale.measurement.measure._preflight", lambda *request: None)
    monkeypatch.setattr("mlscale.measurement.measure._execute", lambda request: request.scalings["app"])

    def sized(**more: object) -> tuple[int, float]:
        app = defaults().application()
        scaling = measure("torchserve", app, bodies=photos, out=tmp_path / "run", **more)  # type: ignore[arg-type]
        return scaling.max_replicas, scaling.cpu_cores  # type: ignore[attr-defined]

    assert sized() == (3, 0.2)
    assert sized(scaling={"max_replicas": 2}) == (2, 0.2)
    usual = environments.get("torchserve").arm("matched")
    for more in ({"schedule": SCHEDULE}, {"scaling": usual}):
        assert sized(**more) == (usual.max_replicas, usual.cpu_cores)


def test_a_run_at_the_same_time_is_warned_of_and_noted(photos: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options = FAST.model_copy(update={"progress": lambda step, share: said.append(step)})
    with Ledger.create("the-other") as other:
        entry = other.intend("process_group", pid=0)
        run = measure(Burner(), APP, SCHEDULE, bodies=photos, out=tmp_path / "run", options=options)
        other.done(entry)
    assert "another run is in progress on this host, and each will disturb the other: the-other" in said
    assert run.info.validity is not None
    assert "at the same time on this host ran the-other" in run.info.validity.reasons
    assert run.info.facts["other_runs"] == ["the-other"]


@pytest.mark.parametrize(("fail", "error"), [("deploy", MlscaleError), ("observe", ObservationLost)])
def test_what_breaks_leaves_an_incomplete_run_and_nothing_else(
    photos: Path, tmp_path: Path, fail: str, error: type[MlscaleError]
) -> None:
    with pytest.raises(error, match="this is a test"):
        measure(Burner(), APP, SCHEDULE, bodies=photos, out=tmp_path / "run", scaling={"fail": fail}, options=FAST)
    run = load_run(tmp_path / "run", allow_incomplete=True)
    assert not run.info.complete
    assert "this is a test" in str(run.info.incomplete_reason)
    assert nothing_left()


def test_a_full_disk_is_one_line_and_the_run_is_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlscale.runs import RunWriter

    def full(self: RunWriter, observation: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunWriter, "observe", full)
    with pytest.raises(MlscaleError, match="No space left on device"):
        measure(Burner(), APP, SCHEDULE, bodies=photos, out=tmp_path / "run", options=FAST)
    assert not load_run(tmp_path / "run", allow_incomplete=True).info.complete
    assert nothing_left()


MEASURE_PROCESS = """
import json, signal, sys
from pathlib import Path
from typing import Any
sys.path.insert(0, sys.argv[1])
from burner import APP, Burner
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.runs import SCHEDULE

def ended(signum, frame):
    raise SystemExit(128 + signum)

signal.signal(signal.SIGTERM, ended)
schedule = SCHEDULE.validate_python(
    {"loop": "closed", "duration_s": 300, "stages": [{"start_s": 0, "clients": 1}], "think_mean_s": 0.05}
)

def tell(what, share):
    print(what if share == 0 else "sending", flush=True)

measure(Burner(), APP, schedule, bodies=sys.argv[2], out=sys.argv[3],
        options=MeasureOptions(idle_s=0.2, quiet_at_most_s=0.1, progress=tell))
"""


def running(pids: set[int]) -> set[int]:
    return {pid for pid in pids if process_start(pid) is not None}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_measure_leaves_an_incomplete_run_and_no_process(photos: Path, tmp_path: Path, signum: int) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", MEASURE_PROCESS, str(Path(__file__).parents[1]), str(photos), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")},
    )
    assert process.stdout is not None
    with process:
        try:
            for line in process.stdout:
                if line.strip() == "sending":
                    break
            family = set(descendants(read_table(), [process.pid])) - {process.pid}
            process.send_signal(signum)
            process.wait(240)
        finally:
            process.kill()
    assert len(family) >= 2, "a framework and a load generator ran"
    deadline_s = time.monotonic() + 30
    while running(family) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert running(family) == set()
    run = load_run(out, allow_incomplete=True)
    assert not run.info.complete
    if signum != signal.SIGKILL:
        assert run.info.incomplete_reason in ("interrupted by the user", "ended by a signal")
        assert nothing_left()
    assert json.loads((out / "run.json").read_text())["step_s"] is None
    assert len(run.requests) >= 0
    cleanup()
    assert nothing_left(), "what a kill -9 left is gone after the next call"
