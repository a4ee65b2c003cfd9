"""simulate(): the same Run as measure(), labelled simulated wherever it goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from in_process import mlscale
from mlscale import environments, simulate
from mlscale.analysis.inference import compare
from mlscale.analysis.summary import run_summary, summarise
from mlscale.figures import trajectory
from mlscale.measurement.default_load import default_load
from mlscale.runs import MlscaleError, OpenLoop, load_run
from mlscale.runs.schedule import ClosedLoop, ClosedStage, Staircase, Step
from mlscale_twin import SimulateOptions, cli
from mlscale_twin.profile_files import read_profile

STEP = ClosedLoop(
    duration_s=180.0, stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=60, clients=18)), think_mean_s=0.76
)


def test_a_simulated_run_is_complete(tmp_path: Path) -> None:
    run = simulate("k3s", schedule=STEP, out=tmp_path / "run", options=SimulateOptions(seed=1))
    again = load_run(tmp_path / "run")
    assert again.info == run.info
    assert run.info.mode == "simulated"
    assert run.info.complete
    assert run.info.validity is not None
    assert run.info.validity.valid
    assert run.info.step_s == 60.0
    assert run.info.scaling["app"]["target_in_flight"] == 1.0
    assert len(run.info.facts["profile"]["sha256"]) == 64
    summary = run_summary(run, 0.55)
    assert 5 < summary["t_slo_s"] < 60
    assert summary["detection_s"] > 0
    assert summary["cpu_per_answer_s"] == pytest.approx(read_profile("k3s").work["app"].mean_s.value, rel=0.05)
    assert set(run.requests["load_stage"]) == {0, 1}
    assert run.requests["replica_id"].nunique() >= 4
    assert {"load_step", "scale_decision", "replica_ready"} <= set(run.events["kind"])


def test_a_simulated_open_loop_is_valid() -> None:
    schedule = OpenLoop(
        duration_s=60.0, rate=Staircase(steps=(Step(start_s=0, rate_rps=2), Step(start_s=30, rate_rps=4)))
    )
    validity = simulate("k3s", schedule=schedule).info.validity
    assert validity is not None
    assert (validity.valid, validity.reasons) == (True, ())


def test_simulated_runs_are_labelled_and_refused_where_only_live_runs_count(tmp_path: Path) -> None:
    runs = [
        simulate(name, schedule=STEP, out=tmp_path / f"{name}-{seed}", options=SimulateOptions(seed=seed))
        for name in ("k3s", "torchserve")
        for seed in range(2)
    ]
    panels = trajectory(runs, 0.55).axes[:2]
    assert all("SIMULATED" in {text.get_text() for text in each.texts} for each in panels)
    with pytest.raises(MlscaleError, match="simulated"):
        compare(summarise(runs, 0.55))


def test_an_open_loop_and_a_partitioned_application(tmp_path: Path) -> None:
    rates = Staircase(steps=(Step(start_s=0, rate_rps=2.0), Step(start_s=30, rate_rps=20.0)))
    run = simulate("torchserve", schedule=OpenLoop(duration_s=90, rate=rates), out=tmp_path / "open")
    assert run.info.step_s == 30.0
    assert len(run.requests) == pytest.approx(60 + 1200, rel=0.15)


def test_the_same_seed_gives_the_same_tables(tmp_path: Path) -> None:
    first, repeated = (
        simulate("rayserve", schedule=STEP, out=tmp_path / name, options=SimulateOptions(seed=5)) for name in "ab"
    )
    for table in ("requests", "events", "replicas", "resources"):
        assert getattr(first, table).equals(getattr(repeated, table)), table


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"environment": "nowhere"}, "unknown environment"),
        ({"scaling": ["max_replica=3"]}, "unknown setting"),
        ({"changes": ["work.app.mean_s.value"]}, "not KEY=VALUE"),
        ({"changes": ["work.app.mean_s.value=1", "work.app.mean_s.value=2"]}, "given twice"),
        ({"changes": ["work.app.mean=3"]}, "no number at"),
        ({"connections": "kept"}, "kept connections"),
        ({"profile": Path("/nowhere.json")}, "No such file"),
        ({"environment": "ecs", "profile": "ecs-ec2"}, "it has machines, the settings do not"),
        ({"machine_failures": 1.0}, "no machines are simulated"),
        ({"environment": "eks", "machine_failures": float("nan")}, "nan is not possible"),
        ({"environment": "eks", "machine_failures": float("inf")}, "inf is not possible"),
    ],
)
def test_invalid_arguments_are_errors_and_leave_nothing(
    tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    call: dict[str, object] = {"environment": "k3s", "out": tmp_path / "run", "arm": "matched", "schedule": None}
    call |= {"scaling": [], "photos": None, "connections": "fresh", "seed": 0, "profile": None, "changes": []}
    call |= {"machine_failures": 0.0, **arguments}
    with pytest.raises(MlscaleError, match=words):
        cli.simulate(**call)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_calibrated_profile_can_be_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = Path(__file__).parents[3] / "data/reference/core/block-03/1-k3s"
    cli.calibrate([str(reference)], tmp_path / "mine.json")
    told = capsys.readouterr().out
    assert "mine.json: fitted to 1 live runs of k3s" in told
    assert "where the shipped profile was compared" in told
    profile = json.loads((tmp_path / "mine.json").read_text())
    assert profile["environment"] == "k3s"
    shipped = read_profile("k3s").compared
    assert shipped is not None
    for figure, (low, high) in profile["compared"]["ratios"].items():
        assert low <= shipped.ratios[figure][0] < shipped.ratios[figure][1] <= high, "one run shows no smaller error"
    with pytest.raises(MlscaleError, match="exists already"):
        cli.calibrate([str(reference)], tmp_path / "mine.json")
    with pytest.raises(MlscaleError, match="--bodies: these runs are measured already"):
        cli.calibrate([str(reference)], tmp_path / "other.json", bodies=tmp_path)
    with pytest.raises(MlscaleError, match="required with --app"):
        cli.calibrate(["torchserve"], tmp_path / "other.json", app="some.module:factory")
    run = simulate("k3s", out=tmp_path / "run", profile=tmp_path / "mine.json")
    assert run.info.facts["profile"]["what"] == profile["what"]
    with pytest.raises(MlscaleError, match="it is for k3s"):
        simulate("torchserve", out=tmp_path / "other", profile=tmp_path / "mine.json")


def test_without_a_schedule_the_load_lasts_until_replicas_can_have_started(tmp_path: Path) -> None:
    cli.simulate("ecs", tmp_path / "run")
    ecs, run = environments.get("ecs"), load_run(tmp_path / "run")
    assert run.info.schedule == default_load(ecs, {"app": ecs.arm("matched")})
    assert (run.events["kind"] == "replica_ready").any()


def test_results_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.simulate("ecs", tmp_path / "run", as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["mode"], said["requests"]) == ("simulated", len(load_run(tmp_path / "run").requests))
    cli.sweep(["ecs"], tmp_path / "sweep.jsonl", draws=1, as_json=True)
    [row] = json.loads(capsys.readouterr().out)
    assert row["environment"] == "ecs"
    assert row["mean_response_s"] > 0


def test_the_command_line(tmp_path: Path) -> None:
    done = mlscale("simulate", "ecs", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "SIMULATED" in done.stdout
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies/one.txt").write_text("1")
    done = mlscale("measure", "ecs", "--out", str(tmp_path / "live"), "--bodies", str(tmp_path / "bodies"))
    assert done.returncode == 2
    assert "docs/aws.md" in done.stderr
