"""An experiment runs, stops, resumes and repeats: with a notebook that measures the test environment."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest

from burner import write_photos
from mlscale.host.facts import host_facts
from mlscale.notebook.parameters import declared
from mlscale.progress import Bar
from mlscale.runs import MlscaleError, RunInfo, RunWriter, Validity, load_run
from mlscale_experiment import execute as module
from mlscale_experiment.attempts import attempt_folder, claim, run_dirs, set_aside, state_of
from mlscale_experiment.execute import Finish, estimate_s
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.notebook_execution import NotebookFailed
from mlscale_experiment.plan import PlannedRun
from mlscale_experiment.protocol import Bodies, other_host
from mlscale_paper import experiment as published
from mlscale_paper.design import plan
from mlscale_paper.drawing import draw_all, drawing_s
from mlscale_paper.protocol import default_protocol

CELL = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "tests")!r})
from pathlib import Path
from burner import APP, Burner
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.notebook.parameters import MeasureParameters, check_parameters

p = check_parameters(MeasureParameters, globals())
if not p.run_dirs:
    options = MeasureOptions(labels=p.labels, seed=p.seed, idle_s=0.1, quiet_at_most_s=0.1)
    measure(Burner(), APP, p.schedule, bodies=p.bodies, out=p.out, options=options)
"""
PARAMETERS = """
out = schedule = bodies = level_s = figures = None
run_dirs = []
arm, connections, seed, idle_s, labels, scaling = "matched", "fresh", 0, 30.0, {}, {}
"""


def write_notebook(path: Path, *cells: str) -> Path:
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    made.cells[0].metadata["tags"] = ["parameters"]
    made.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(made, path)
    return path


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    protocol = default_protocol(Bodies(folder="photos", count=4)).model_copy(
        update={"baseline_s": 0.5, "baseline_jitter_s": 0.2, "horizon_s": 0.5, "think_mean_s": 0.02}
    )
    identity = {"protocol": protocol.sha256(), "seed": 0, "environments": ["test-burner"]}
    return Experiment(
        environments=("test-burner",),
        compared=("test-burner",),
        cells=("core",),
        blocks=1,
        plan=tuple(plan(["test-burner"], ["core"], 1, protocol)),
        identity=identity,
        root=tmp_path / "runs",
        figures=tmp_path / "figures",
        protocol=protocol,
        bodies=write_photos(tmp_path / "photos"),
        notebooks={"test-burner": write_notebook(tmp_path / "02_burner.ipynb", PARAMETERS, CELL)},
    )


class Faked:
    """Stands in for papermill: writes a run as a notebook would, and can be told how runs turn out."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.drawn: list[list[str]] = []
        self.invalid: Counter[str] = Counter()
        self.stop_at: int | None = None
        self.fail: dict[int, str] = {}
        self.undrawn: set[int] = set()

    def __call__(
        self, notebook: Path, executed: Path, parameters: dict[str, Any], timeout_s: float, cwd: Path | None = None
    ) -> None:
        if "run_dirs" in parameters:
            self.drawn.append(parameters["run_dirs"])
            return
        number = len(self.calls)
        self.calls.append(parameters)
        planned = "/".join(Path(parameters["out"]).parts[-3:-1])
        writer = RunWriter(Path(parameters["out"]), info(parameters))
        if number == self.stop_at:
            raise KeyboardInterrupt
        if number in self.fail:
            writer.abandon(self.fail[number])
            raise NotebookFailed(notebook, executed, "ObservationLost", self.fail[number])
        self.invalid[planned] -= 1
        valid = self.invalid[planned] < 0
        writer.seal(validity=Validity(valid=valid, reasons=() if valid else ("the host was busy",)))
        if number in self.undrawn:
            raise NotebookFailed(notebook, executed, "MlscaleError", "no figure for such a load")


def info(parameters: dict[str, Any]) -> RunInfo:
    return RunInfo(
        run_id="faked",
        environment="test-burner",
        level="none",
        mode="live",
        app="burner",
        app_version="1",
        schedule=parameters["schedule"],
        arm=parameters["arm"],
        seed=parameters["seed"],
        wall_start=datetime.now(UTC),
        **parameters["labels"],
    )


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    fake = Faked()
    monkeypatch.setattr(module, "execute", fake)
    monkeypatch.setattr("mlscale_experiment.drawing.execute", fake)
    return fake


def run(experiment: Experiment) -> None:
    module.run(experiment, Finish(drawing_s, draw_all))


def with_blocks(experiment: Experiment, blocks: int, **options: Any) -> Experiment:
    planned = plan(experiment.environments, experiment.cells, blocks, experiment.protocol, **options)
    return replace(experiment, blocks=blocks, plan=tuple(planned), **options)


def test_every_planned_run_is_measured_once_and_all_are_drawn(experiment: Experiment, faked: Faked) -> None:
    wanted = with_blocks(experiment, 3)
    run(wanted)
    assert len(faked.calls) == 6, "three blocks of one environment, twice each for A/A"
    assert all(state.done and state.word == "measured" for state in wanted.states())
    assert faked.drawn == [[str(path) for path in run_dirs(wanted.states())]]
    labels = [call["labels"] for call in faked.calls]
    assert [(each["block"], each["position"]) for each in labels] == [(b, p) for b in (1, 2, 3) for p in (1, 2)]
    assert {each["experiment"] for each in labels} == {wanted.protocol.sha256()[:16]}


def test_an_environment_without_a_chapter_has_the_notebook_of_any(tmp_path: Path) -> None:
    file = tmp_path / "protocol.json"
    file.write_text(default_protocol(Bodies(folder="photos", count=4)).model_dump_json())
    write_photos(tmp_path / "photos")
    chosen = published.experiment(["rayserve", "keda"], ["zero"], 3, tmp_path / "runs", protocol_file=file)
    assert chosen.notebooks["rayserve"].name == "03_rayserve.ipynb"
    assert chosen.parameters("rayserve") == {}
    assert chosen.parameters("keda") == {"environment": "keda"}
    assert "environment" in declared(chosen.notebooks["keda"])


def test_a_drawing_that_is_stopped_leaves_the_figures_as_they_were(
    experiment: Experiment, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(experiment)
    shown, stops = experiment.figures / "response.png", [True]
    shown.write_text("old")

    def draws(
        notebook: Path, executed: Path, parameters: dict[str, Any], timeout_s: float, cwd: Path | None = None
    ) -> None:
        (Path(parameters["figures"]) / shown.name).write_text("new")
        if stops.pop():
            raise KeyboardInterrupt

    monkeypatch.setattr("mlscale_experiment.drawing.execute", draws)
    with pytest.raises(KeyboardInterrupt):
        run(experiment)
    assert shown.read_text() == "old"
    stops.append(False)
    run(experiment)
    assert shown.read_text() == "new"
    assert [file.name for file in experiment.figures.iterdir()] == [shown.name]
    assert not list(experiment.root.glob(".drawn*"))


def test_what_there_are_no_runs_for_is_not_drawn_and_said(
    experiment: Experiment, faked: Faked, capsys: pytest.CaptureFixture[str]
) -> None:
    run(experiment)
    notebooks = dict.fromkeys(("test-burner", "other"), experiment.notebooks["test-burner"])
    wanted = replace(experiment, environments=("test-burner", "other"), cells=("container",), notebooks=notebooks)
    drawn = len(faked.drawn)
    with Bar(1.0) as bar:
        draw_all(wanted, experiment.states(), bar)
    assert len(faked.drawn) == drawn
    said = capsys.readouterr().err
    assert "other: there are no runs of container" in said
    assert "not compared by runs of container" in said


def test_a_second_call_measures_nothing_again_and_more_blocks_only_what_is_new(
    experiment: Experiment, faked: Faked
) -> None:
    run(with_blocks(experiment, 2))
    run(with_blocks(experiment, 2))
    assert len(faked.calls) == 4
    assert len(faked.drawn) == 2
    run(with_blocks(experiment, 3))
    assert len(faked.calls) == 6


def test_a_stop_costs_the_run_in_progress_and_nothing_else(
    experiment: Experiment, faked: Faked, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = with_blocks(experiment, 2)
    faked.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        run(wanted)
    assert [state.word for state in wanted.states()] == ["measured", "measured", "begun", "missing"]
    before = {path: (path / "run.json").read_text() for path in run_dirs(wanted.states())}
    faked.stop_at = None
    run(wanted)
    assert [state.word for state in wanted.states()] == ["measured"] * 4
    assert {path: (path / "run.json").read_text() for path in before} == before
    kept = list((wanted.root / "incomplete").iterdir())
    assert len(kept) == 1
    assert not load_run(kept[0], allow_incomplete=True).info.complete
    assert "an incomplete run is kept in" in capsys.readouterr().err


@pytest.mark.parametrize(("invalid", "attempts", "word"), [(1, 2, "measured"), (2, 3, "measured"), (9, 3, "invalid")])
def test_an_invalid_run_is_repeated_at_once_at_most_twice(
    experiment: Experiment, faked: Faked, invalid: int, attempts: int, word: str
) -> None:
    place = "/".join(Path(experiment.plan[0].folder).parts[-2:])
    faked.invalid[place] = invalid
    run(experiment)
    outs = [Path(call["out"]).relative_to(experiment.root).as_posix() for call in faked.calls]
    first, second = experiment.plan
    assert outs == [f"{first.folder}/attempt-{number}" for number in range(attempts)] + [f"{second.folder}/attempt-0"]
    assert [call["labels"]["attempt"] for call in faked.calls] == [*range(attempts), 0]
    assert [call["labels"]["predecessor"] for call in faked.calls] == [None, *["test-burner"] * attempts]
    assert experiment.states()[0].word == word
    assert len(run_dirs(experiment.states())) == attempts + 1, "all are kept and handed on"


def test_a_quick_look_repeats_an_invalid_run_once_and_its_last_line_says_what_is_missing(
    experiment: Experiment, faked: Faked, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = with_blocks(experiment, 1, quick=True)
    faked.invalid["/".join(Path(quick.plan[0].folder).parts[-2:])] = 9
    run(quick)
    assert [call["labels"]["attempt"] for call in faked.calls] == [0, 1]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "no valid run of test-burner (core, core): the host was busy"


def test_a_run_that_breaks_is_measured_again_and_one_that_always_breaks_stops_it(
    experiment: Experiment, faked: Faked
) -> None:
    faked.fail = {0: "the source went away"}
    run(experiment)
    assert [state.word for state in experiment.states()] == ["measured", "measured"]
    assert [call["labels"]["predecessor"] for call in faked.calls] == [None, "test-burner", "test-burner"]
    shutil.rmtree(experiment.root)
    faked.fail = dict.fromkeys(range(20), "the source went away")
    with pytest.raises(MlscaleError, match="the source went away"):
        run(experiment)


def test_a_run_that_could_not_be_drawn_is_kept(
    experiment: Experiment, faked: Faked, capsys: pytest.CaptureFixture[str]
) -> None:
    faked.undrawn = {0}
    run(experiment)
    assert [state.word for state in experiment.states()] == ["measured", "measured"]
    assert len(faked.calls) == 2, "nothing is measured again"
    assert "measured, but not drawn: " in capsys.readouterr().err


def test_a_problem_before_anything_was_begun_stops_it_at_once(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def refuse(
        notebook: Path, executed: Path, parameters: dict[str, Any], timeout_s: float, cwd: Path | None = None
    ) -> None:
        calls.append(parameters)
        raise NotebookFailed(notebook, executed, "MlscaleError", "torchserve: no Java (install it)")

    monkeypatch.setattr(module, "execute", refuse)
    with pytest.raises(MlscaleError, match="no Java"):
        run(experiment)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 5}, "another seed"),
        ({"environments": ["test-burner", "other"]}, "another environments"),
        ({"protocol": "another"}, "another protocol"),
    ],
)
def test_runs_of_another_experiment_are_refused(
    experiment: Experiment, faked: Faked, change: dict[str, Any], named: str
) -> None:
    run(experiment)
    with pytest.raises(MlscaleError, match=named):
        run(replace(experiment, identity={**experiment.identity, **change}))


def test_a_place_that_cannot_be_written_is_one_line(experiment: Experiment, faked: Faked, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for change in ({"root": tmp_path / "file" / "runs"}, {"figures": tmp_path / "file" / "figures"}):
        with pytest.raises(MlscaleError, match="name another --runs"):
            run(replace(experiment, **change))
    assert faked.calls == []


def test_a_full_disk_is_one_line_before_anything_is_measured(
    experiment: Experiment, faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(Path.cwd())
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=5 * 2**20))
    with pytest.raises(MlscaleError, match="only 5 MB of disk space left"):
        run(experiment)
    assert faked.calls == []


def test_the_estimate_counts_only_what_is_left(experiment: Experiment, faked: Faked) -> None:
    wanted = with_blocks(experiment, 4)
    whole_s = estimate_s(wanted.states(), wanted.protocol)
    run(with_blocks(experiment, 2))
    assert estimate_s(wanted.states(), wanted.protocol) == pytest.approx(whole_s / 2, rel=0.01)


def test_a_pilot_of_another_host_is_said(experiment: Experiment) -> None:
    measured = experiment.protocol.model_copy(update={"origin": "pilot", "host": host_facts()})
    assert other_host(measured) is None
    assert other_host(experiment.protocol) is None, "defaults are of no host"
    elsewhere = measured.model_copy(update={"host": {**host_facts(), "cpu_model": "Another CPU"}})
    assert str(other_host(elsewhere)).startswith("Another CPU, ")


def test_a_foreign_run_in_a_place_of_the_plan_is_refused(experiment: Experiment) -> None:
    planned = experiment.plan[0]
    parameters = {"schedule": planned.schedule, "arm": "shipped", "seed": planned.seed, "labels": {}}
    RunWriter(attempt_folder(planned, experiment.root, 0), info(parameters)).seal()
    with pytest.raises(MlscaleError, match="not the planned one"):
        experiment.states()


def test_what_an_experiment_was_not_bound_to_yet_is_added(tmp_path: Path) -> None:
    claim(tmp_path, {"seed": 0})
    for _ in range(2):
        claim(tmp_path, {"seed": 0, "environments": ["k3s"]})
    claim(tmp_path, {"seed": 0})
    with pytest.raises(MlscaleError, match="another environments"):
        claim(tmp_path, {"seed": 0, "environments": ["eks"]})
    (tmp_path / "experiment.json").write_text("[1]")
    with pytest.raises(MlscaleError, match="broken"):
        claim(tmp_path, {"seed": 0})


def test_a_copy_of_an_attempt_is_none(experiment: Experiment, faked: Faked) -> None:
    run(experiment)
    folder = attempt_folder(experiment.plan[0], experiment.root, 0)
    shutil.copytree(folder, folder.with_name("attempt-0.bak"))
    assert len(experiment.states()[0].runs) == 1


def test_set_aside_never_overwrites(experiment: Experiment) -> None:
    planned: PlannedRun = experiment.plan[0]
    places = []
    for _ in range(3):
        folder = attempt_folder(planned, experiment.root, 0)
        folder.mkdir(parents=True)
        assert state_of(planned, experiment.root).incomplete == (folder,)
        places.append(set_aside(folder, experiment.root))
    assert len(set(places)) == 3
    assert all(place.is_dir() for place in places)


def test_through_papermill_with_real_runs(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlscale_experiment.experiment.MOST_ATTEMPTS", 1)  # a busy host makes runs invalid
    run(experiment)
    runs = [load_run(path) for path in run_dirs(experiment.states())]
    assert len(runs) == 2
    assert sorted(str(each.info.aa_label) for each in runs) == ["A", "B"]
    for each in runs:
        assert each.info.stimulus is not None
        assert len(each.requests) > 5
        assert set(each.requests["status"]) == {"ok"}
    executed = sorted(file.name for file in (experiment.root / "executed").iterdir())
    assert executed[0] == "02_burner.ipynb", "drawn over all runs at the end"
    assert len(executed) == 3
    assert json.loads((experiment.root / "experiment.json").read_text())["seed"] == 0
