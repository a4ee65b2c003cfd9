"""The last stage of the published experiment: each environment's notebook over all its runs, then the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlscale.notebook.parameters import declared
from mlscale.progress import Bar
from mlscale_experiment.attempts import State, run_dirs
from mlscale_experiment.drawing import draw, new_scratch, put_in_place
from mlscale_experiment.experiment import Experiment
from mlscale_paper import places
from mlscale_paper.variants import COMPARED_CELLS, REHEARSED, TWIN_CELLS

COMPARE = ("07_compare.ipynb", "07b_referee.ipynb")
PARTITION = "08_partition.ipynb"
# Of no runs; drawn wherever environments are compared.
OTHERS = ("01_application.ipynb", "05_ecs.ipynb", "09_twin.ipynb", "10_strategy.ipynb")
# For a quick look: fewer simulated runs, settings tried, or photos.
QUICK = {"draws": 3, "settings": 100, "photos_per_level": 4}
_EACH_S, _COMPARE_S, _OTHER_S = 20.0, 60.0, 40.0


def drawing_s(experiment: Experiment) -> float:
    """Estimated duration of `draw_all`, s."""
    comparison_s = len(COMPARE) * _COMPARE_S + len(OTHERS) * _OTHER_S if _compares(experiment) else 0.0
    return _EACH_S * len(experiment.environments) + comparison_s


def _compares(experiment: Experiment) -> bool:
    return len(set(experiment.environments) - set(REHEARSED)) > 1 and _cell(experiment) in COMPARED_CELLS


def _cell(experiment: Experiment) -> str:
    """The cell whose runs the environments' notebooks and the comparison show."""
    return "core" if "core" in experiment.cells or experiment.quick else experiment.cells[0]


def draw_all(experiment: Experiment, states: Sequence[State], bar: Bar, executed: Path | None = None) -> None:
    """Draw every figure of an experiment, then install them in its folder of figures. Figures without runs are left out
    with a message.

    Args:
        executed: where the executed notebooks go; figures are drawn beside it first. None: beside the runs.
    Raises:
        MlscaleError: a notebook that failed, or the figures' folder can't be written.
    """
    output = executed or experiment.root / "executed"
    states = [state for state in states if state.planned.cell not in TWIN_CELLS]
    if not states:
        return
    scratch = new_scratch(experiment.figures, output.with_name(".drawn.partial"))
    _draw_each(replace(experiment, figures=scratch), states, bar, output)
    put_in_place(scratch, experiment.figures)


def _draw_each(experiment: Experiment, states: Sequence[State], bar: Bar, output: Path) -> None:
    cell = _cell(experiment)
    for environment in experiment.environments:
        bar.step(f"drawing {environment}", _EACH_S)
        notebook = experiment.notebooks[environment]
        extra = dict(experiment.parameters(environment))
        if "more_run_dirs" in declared(notebook):
            extra["more_run_dirs"] = _variants(states, environment)
        shown_cell = "rehearsal" if environment in REHEARSED else cell
        folders = run_dirs(states, environment, shown_cell)
        if folders and shown_cell != "partition":
            name = f"{environment}.ipynb" if "environment" in extra else ""
            draw(experiment, output, notebook, folders, extra, name)
        elif not folders:
            bar.say(f"{environment}: there are no runs of {shown_cell}, so nothing is drawn")
    partition_runs = run_dirs(states, cell="partition")
    if partition_runs:
        bar.step("drawing the partitioned application", _EACH_S)
        draw(experiment, output, places.notebooks() / PARTITION, partition_runs, {})
    if _compares(experiment):
        options: dict[str, Any] = {
            "p_values": not experiment.quick,
            "cell": cell,
        }  # and where METHOD allows them: see compare()
        for name in COMPARE:
            bar.step(f"drawing {name}", _COMPARE_S)
            draw(experiment, output, places.notebooks() / name, run_dirs(states), options)
        for name in OTHERS:
            bar.step(f"drawing {name}", _OTHER_S)
            known = declared(places.notebooks() / name)
            options = {key: value for key, value in QUICK.items() if key in known} if experiment.quick else {}
            draw(experiment, output, places.notebooks() / name, (), options)
    elif cell not in COMPARED_CELLS:
        bar.say(f"environments are not compared by runs of {cell}, only by those of {', '.join(COMPARED_CELLS)}")


def _variants(states: Sequence[State], environment: str) -> list[str]:
    """Measured runs that change one factor of core; for a rehearsal, those without machines."""
    if environment in REHEARSED:
        return [str(folder) for folder in run_dirs(states, "k3s", "rehearsal")]
    folder_lists = (run_dirs(states, environment, cell) for cell in ("sensitivity", "container"))
    return [str(folder) for folders in folder_lists for folder in folders]
