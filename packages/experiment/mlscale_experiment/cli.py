"""``mlscale experiment``: measure a model in blocks, see how far it is, and write a settings file to start from.

Each command imports what it needs inside its function, so that ``mlscale --help`` is quick.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from mlscale.commands.options import AsJson
from mlscale.errors import MlscaleError

if TYPE_CHECKING:
    from mlscale_experiment import protocol as protocols
    from mlscale_experiment.experiment import Experiment, Selection

Folder = Annotated[
    Path | None, typer.Argument(help="folder with an experiment.yaml; left out: the published experiment")
]
Environments = Annotated[str | None, typer.Option(help="names, separated by spaces or commas")]
Blocks = Annotated[int | None, typer.Option(min=1, help="of the cell core; default 8")]
Cells = Annotated[
    str | None,
    typer.Option(
        help="core, shipped, open, sensitivity, zero; the published experiment also: partition, container, rehearsal, "
        "holdout; comma-separated"
    ),
]
Runs = Annotated[Path | None, typer.Option(help="where runs go; default FOLDER/runs, else runs")]
Seed = Annotated[int | None, typer.Option(min=0)]
Quick = Annotated[bool, typer.Option("--quick", help="one short run of each environment: no claims")]

experiment_app = typer.Typer(
    no_args_is_help=True, help="A model, or the published one, on each framework: pilot, blocks, statistics, report."
)


class Default(Protocol):
    """What is measured where no folder is named; offered in the group ``mlscale.experiments``."""

    def experiment(self, selection: Selection) -> Experiment: ...
    def run(self, selection: Selection, protocol: Path | None) -> None: ...
    def pilot(self, selection: Selection) -> tuple[Path, protocols.Protocol]: ...


@experiment_app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="folder of a model: a module with make(), and a folder of bodies")],
) -> None:
    """Write an experiment.yaml beside a model.

    Example: mlscale experiment init my_model
    """
    from mlscale_experiment.settings import init

    print(f"{init(folder)}: written; next: mlscale experiment run {folder} --quick")


@experiment_app.command()
def run(
    folder: Folder = None,
    environments: Environments = None,
    blocks: Blocks = None,
    cells: Cells = None,
    runs: Runs = None,
    seed: Seed = None,
    quick: Quick = False,
    protocol: Annotated[
        Path | None, typer.Option(help="a protocol.json, with its bodies beside it; by default one for this host")
    ] = None,
) -> None:
    """Fit the load to model and host, measure all missing blocks, draw the figures, write report.html; can be
    interrupted and resumed at any time.

    Example: mlscale experiment run my_model --quick
    """
    selection = _selection(environments, cells, blocks, runs, seed, quick=quick)
    if folder is None:
        _default().run(selection, protocol)
        return
    from mlscale_experiment import folder as folders
    from mlscale_experiment.settings import read

    at = runs and runs.resolve()
    folders.run(read(folder).selected(selection), quick=quick, runs=at, protocol=protocol and protocol.resolve())


@experiment_app.command()
def status(
    folder: Folder = None,
    environments: Environments = None,
    blocks: Blocks = None,
    cells: Cells = None,
    runs: Runs = None,
    seed: Seed = None,
    quick: Quick = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of each run, and the time left.

    Example: mlscale experiment status my_model
    """
    from mlscale.progress import duration
    from mlscale_experiment.execute import estimate_s
    from mlscale_experiment.folder import experiment
    from mlscale_experiment.settings import read

    selection = _selection(environments, cells, blocks, runs, seed, quick=quick)
    if folder is None:
        planned = _default().experiment(selection)
    else:
        planned = experiment(read(folder).selected(selection), quick=quick, runs=runs)
    states = planned.states()
    if as_json:
        runs_by_folder = {str(state.planned.folder): state.word for state in states}
        print(json.dumps({"runs": runs_by_folder, "left_s": estimate_s(states, planned.protocol)}))
        return
    for state in states:
        print(f"{state.word:9} {state.planned.folder}")
    done = sum(state.done for state in states)
    left = duration(estimate_s(states, planned.protocol)) if done < len(states) else "nothing"
    print(f"{done} of {len(states)} runs are measured, {left} is left ({planned.root})")


def gate(
    folder: Annotated[Path, typer.Argument(help="folder with an experiment.yaml, measured")],
    against: Annotated[Path | None, typer.Option(help="the same experiment, measured before: its folder")] = None,
    worse: Annotated[str | None, typer.Option(help="how much longer the mean response may be, such as 10%")] = None,
    p95: Annotated[float | None, typer.Option(min=0.001, help="upper limit of the 95th percentile, s")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a measured experiment: exit code 0 if it is no worse by interval, 1 if worse, 2 if the runs can't decide.

    Example: mlscale gate my_model --against baseline --worse 10%
    """
    from mlscale.runs import load_run, load_runs
    from mlscale_experiment import gate as gates
    from mlscale_experiment.attempts import run_dirs
    from mlscale_experiment.folder import experiment
    from mlscale_experiment.settings import read

    if (against is None) != (worse is None):
        raise MlscaleError("they belong together", "--against and --worse", "give both: --against baseline --worse 10%")
    planned = experiment(read(folder))
    states = [state for state in planned.states() if state.planned.cell == "core"]
    open_runs = sum(not state.done for state in states)
    if open_runs or not states:
        what = f"{open_runs} of {len(states)} runs of core are missing, and nothing is judged before all are there"
        raise MlscaleError(what, str(planned.root), f"mlscale experiment run {folder}")
    runs = [load_run(path) for path in run_dirs(states)]
    before = load_runs(gates.baseline_runs(against)) if against is not None else []
    allowed = gates.share(worse) if worse is not None else None
    judged = gates.gate(runs, before, planned.protocol.level_s, worse=allowed, p95_s=p95)
    print(json.dumps({"answer": judged.answer, "said": judged.said}) if as_json else f"{judged.answer}: {judged.said}")
    raise typer.Exit(gates.CODES[judged.answer])


@experiment_app.command()
def pilot(
    folder: Folder = None,
    environments: Environments = None,
    runs: Runs = None,
    seed: Seed = None,
    quick: Quick = False,
) -> None:
    """Only fit the load to model and host, and say why; refused once blocks were measured.

    Example: mlscale experiment pilot my_model
    """
    selection = _selection(environments, None, None, runs, seed, quick=quick)
    if folder is None:
        file, made = _default().pilot(selection)
        print(f"{file}: {made.replicas} replicas, {made.step_clients} clients, L = {made.level_s} s")
        return
    from mlscale_experiment import folder as folders
    from mlscale_experiment.model_pilot import run_pilot
    from mlscale_experiment.protocol import FILE
    from mlscale_experiment.settings import read

    settings = read(folder).selected(selection).with_environments()
    file = folders.root_of(settings, quick=quick, runs=runs) / FILE
    folders.prepare(settings)
    run_pilot(settings, file)
    print(f"{file}: written")


def _default() -> Default:
    from mlscale.importing import offered

    entries = offered("mlscale.experiments")
    if not entries:
        remedy = "name the folder of a model with an experiment.yaml: mlscale experiment run my_model"
        raise MlscaleError("none is named, and none is installed", "experiment", remedy)
    default: Default = entries[0].load()()
    return default


def _selection(
    environments: str | None, cells: str | None, blocks: int | None, runs: Path | None, seed: int | None, *, quick: bool
) -> Selection:
    from mlscale_experiment.experiment import Selection

    return Selection(_names(environments), _names(cells), blocks, runs, seed, quick)


def _names(text: str | None) -> list[str] | None:
    """``"torchserve, rayserve"`` or ``"torchserve rayserve"`` to names."""
    return text.replace(",", " ").split() if text is not None else None
