"""The experiment of a folder with an experiment.yaml: pilot, blocks, figures, report.html."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from mlscale.environments import App
from mlscale.loadgen.bodies import BodySet
from mlscale.measurement.requirements import use_requirements
from mlscale.progress import Bar
from mlscale.runs import MlscaleError, Run, load_run
from mlscale_experiment import plan
from mlscale_experiment.attempts import IDENTITY, State, run_dirs
from mlscale_experiment.choice import check_hours
from mlscale_experiment.decision import decide
from mlscale_experiment.decision import takes_s as decision_takes_s
from mlscale_experiment.drawing import draw, new_scratch, put_in_place
from mlscale_experiment.execute import Finish, estimate_s
from mlscale_experiment.execute import run as run_experiment
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.model_pilot import run_pilot
from mlscale_experiment.notebook import application_parameter
from mlscale_experiment.pilot import ensure_protocol
from mlscale_experiment.protocol import FILE, bodies_folder, read_protocol
from mlscale_experiment.report import main_runs, write_report
from mlscale_experiment.settings import Settings, make_importable

NOTEBOOKS: Final = Path(__file__).parent / "notebooks"
# The notebook that measures and draws an environment.
ANY_ENVIRONMENT: Final = NOTEBOOKS / "environment.ipynb"
# Estimates for the time left, s.
_DRAWING_S, _COMPARING_S, _REPORTING_S = 20.0, 25.0, 15.0


def root_of(settings: Settings, *, quick: bool, runs: Path | None = None) -> Path:
    """The folder of an experiment's runs; a quick look has its own."""
    root = runs if runs is not None else settings.folder / "runs"
    return (root / "quick" if quick else root).resolve()


def report_file(settings: Settings, *, quick: bool) -> Path:
    """The page about all runs."""
    return settings.folder / ("report-quick.html" if quick else "report.html")


def experiment(settings: Settings, *, quick: bool = False, runs: Path | None = None) -> Experiment:
    """What ``settings`` ask for, under the protocol beside the runs.

    Raises:
        MlscaleError: a bad selection, or no protocol yet.
    """
    chosen = settings.with_environments()
    names = [cell.name for cell in plan.CELLS]
    plan.check(chosen.environments, chosen.cells, chosen.blocks, names)
    root = root_of(chosen, quick=quick, runs=runs)
    protocol = read_protocol(root / FILE)
    if protocol is None:
        raise MlscaleError("nothing was measured yet", str(root), f"mlscale experiment run {chosen.folder}")
    cells = [cell for cell in plan.CELLS if cell.name in chosen.cells]
    if quick:
        planned = plan.quick_plan(chosen.environments, protocol, seed=chosen.seed, idle_s=plan.SETTLED_S)
    else:
        planned = plan.plan(chosen.environments, cells, chosen.blocks, protocol, seed=chosen.seed)
    app = chosen.app()
    application = application_parameter(app, chosen.application.calls)

    def parameters(environment: str) -> dict[str, object]:
        return {"environment": environment, "application": application, "timeout_s": protocol.timeout_s}

    return Experiment(
        environments=chosen.environments,
        compared=chosen.environments,
        cells=("core",) if quick else chosen.cells,
        blocks=plan.QUICK_BLOCKS if quick else chosen.blocks,
        plan=tuple(planned),
        root=root,
        figures=chosen.folder / "figures" / ("quick" if quick else ""),
        protocol=protocol,
        bodies=bodies_folder(protocol, root / FILE),
        identity={
            "protocol": protocol.sha256(),
            "application": _application(app),
            "seed": chosen.seed,
            "environments": list(chosen.environments),
        },
        notebooks=dict.fromkeys(chosen.environments, ANY_ENVIRONMENT),
        seed=chosen.seed,
        quick=quick,
        parameters=parameters,
        working_folder=chosen.import_root,
    )


def run(settings: Settings, *, quick: bool = False, runs: Path | None = None, protocol: Path | None = None) -> Path:
    """Pilot (unless there is a protocol), missing blocks, figures, report; returns the report's file.

    Raises:
        MlscaleError: something that the user has to fix; what was measured stays, and the next call resumes.
    """
    chosen = settings.with_environments()
    root = root_of(chosen, quick=quick, runs=runs)
    prepare(chosen)
    other = root_of(chosen, quick=not quick, runs=runs)
    earlier = None if (root / FILE).exists() else _other_pilot(chosen, other)
    ensure_protocol(root, partial(run_pilot, chosen), given=protocol, fallback=earlier)
    planned = experiment(chosen, quick=quick, runs=runs)
    if not quick:
        left_s = estimate_s(planned.states(), planned.protocol)
        check_hours(left_s, chosen.at_most_h, chosen.blocks, left_s / chosen.blocks)
    page = report_file(chosen, quick=quick)
    run_experiment(
        planned, Finish(partial(takes_s, settings=chosen), partial(draw_and_report, settings=chosen, page=page))
    )
    return page


def _application(app: App) -> str:
    """What tells applications apart in the identity of runs."""
    return f"{app.name} {app.version}"


def _other_pilot(settings: Settings, root: Path) -> Path | None:
    """The protocol below ``root``, if it is of the same model, files, environments and L: a first look and the blocks
    share their pilot."""
    protocol, identity = read_protocol(root / FILE), root / IDENTITY
    if protocol is None or not identity.exists():
        return None
    try:
        known = json.loads(identity.read_text())
    except ValueError:  # broken: the pilot is run anew
        return None
    same = (
        known.get("application") == _application(settings.app())
        and known.get("environments") == [*settings.environments]
        and protocol.bodies.sha256 == BodySet.read(settings.bodies).facts["sha256"]
        and settings.level_s in (None, protocol.level_s)
    )
    return root / FILE if same else None


def prepare(settings: Settings) -> None:
    """Make the model and the packages that it needs importable, here and in the processes that this one starts."""
    make_importable(settings)
    if settings.application.requirements is not None:
        use_requirements(settings.application.requirements)


def takes_s(experiment: Experiment, settings: Settings) -> float:
    """Estimated duration of drawing, deciding and reporting, s."""
    drawing_s = _DRAWING_S * len(experiment.environments) + _COMPARING_S
    return drawing_s + decision_takes_s(experiment, settings) + _REPORTING_S


def measured(states: Sequence[State]) -> list[Run]:
    """All complete attempts, valid or not."""
    return [load_run(folder) for folder in run_dirs(states)]


def draw_and_report(
    experiment: Experiment, states: Sequence[State], bar: Bar, *, settings: Settings, page: Path
) -> None:
    """Draw every figure through notebooks, write the report to ``page``, and say the verdict."""
    output = experiment.root / "executed"
    scratch = new_scratch(experiment.figures, output.with_name(".drawn.partial"))
    drawn = replace(experiment, figures=scratch)
    cell = experiment.cells[0]
    for environment in experiment.environments:
        bar.step(f"drawing {environment}", _DRAWING_S)
        folders = run_dirs(states, environment, cell)
        if folders:
            extra = {"environment": environment}
            draw(drawn, output, experiment.notebooks[environment], folders, extra, f"{environment}.ipynb")
        else:
            bar.say(f"{environment}: there are no runs of {cell}, so nothing is drawn")
    if len(experiment.compared) > 1 and run_dirs(states):
        bar.step("drawing the comparison", _COMPARING_S)
        options = {"p_values": not experiment.quick, "cell": cell}
        draw(drawn, output, NOTEBOOKS / "comparison.ipynb", run_dirs(states), options)
    put_in_place(scratch, experiment.figures)
    runs = measured(states)
    decision = decide(experiment, settings, main_runs(experiment, runs), bar)
    bar.step("writing the report", _REPORTING_S)
    said = write_report(experiment, settings, runs, page, decision).said
    for line in (*said, *(decision.said if decision else ())):
        bar.say(line)
    bar.say(f"report: {page}")
