"""The last part of an experiment: each environment's notebook once more over all its runs, then the comparison.

Figures are drawn beside the experiment's runs and put in place together: a drawing that is stopped leaves the old ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlscale.notebook.manifest import MANIFEST
from mlscale.notebook.parameters import declared
from mlscale.progress import Bar
from mlscale.runs import MlscaleError
from mlscale_paper import places
from mlscale_paper.attempts import State, run_dirs
from mlscale_paper.notebook_execution import execute
from mlscale_paper.variants import COMPARED_CELLS, REHEARSED, TWIN_CELLS

if TYPE_CHECKING:
    from mlscale_paper.execute import Experiment

COMPARE = "07_compare.ipynb"
PARTITION = "08_partition.ipynb"
# What is simulated; drawn wherever environments are compared.
TWIN = ("05_ecs.ipynb", "09_twin.ipynb")
_TIMEOUT_S = 1200.0
QUICK_DRAWS = 3
_EACH_S, _COMPARE_S, _TWIN_S = 20.0, 60.0, 40.0


def drawing_s(experiment: Experiment) -> float:
    """About how long `draw_all` takes, s."""
    together = _COMPARE_S + len(TWIN) * _TWIN_S if _compares(experiment) else 0.0
    return _EACH_S * len(experiment.environments) + together


def _compares(experiment: Experiment) -> bool:
    return len(set(experiment.environments) - set(REHEARSED)) > 1 and _cell(experiment) in COMPARED_CELLS


def _cell(experiment: Experiment) -> str:
    """The one whose runs the environments' notebooks show, and the comparison compares."""
    return "core" if "core" in experiment.cells or experiment.quick else experiment.cells[0]


def draw_all(experiment: Experiment, states: Sequence[State], bar: Bar, executed: Path | None = None) -> None:
    """Draw every figure of an experiment, then put them into its folder of figures. What its cells have no runs for is
    left out, and said.

    Args:
        executed: where the executed notebooks go, and figures beside it until all are there; None: beside the runs.
    Raises:
        MlscaleError: a notebook that failed, or the figures' folder can't be written.
    """
    place = executed or experiment.root / "executed"
    states = [state for state in states if state.planned.cell not in TWIN_CELLS]
    if not states:
        return
    drawn = _begun(experiment.figures, place.with_name("drawn"))
    _draw_each(replace(experiment, figures=drawn), states, bar, place)
    _put_in_place(drawn, experiment.figures)


def _draw_each(experiment: Experiment, states: Sequence[State], bar: Bar, place: Path) -> None:
    cell = _cell(experiment)
    for environment in experiment.environments:
        bar.step(f"drawing {environment}", _EACH_S)
        notebook = experiment.notebook(environment)
        more = {"more_run_dirs": _variants(states, environment)} if "more_run_dirs" in declared(notebook) else {}
        own = "rehearsal" if environment in REHEARSED else cell
        folders = run_dirs(states, environment, own)
        if folders and own != "partition":
            _draw(experiment, place, notebook, folders, more)
        elif not folders:
            bar.say(f"{environment}: there are no runs of {own}, so nothing is drawn of it")
    split = run_dirs(states, cell="partition")
    if split:
        bar.step("drawing the partitioned application", _EACH_S)
        _draw(experiment, place, places.notebooks() / PARTITION, split, {})
    if _compares(experiment):
        bar.step("drawing the comparison", _COMPARE_S)
        only = {"p_values": not experiment.quick, "cell": cell}  # and where METHOD allows them: see compare()
        _draw(experiment, place, places.notebooks() / COMPARE, run_dirs(states), only)
        for name in TWIN:
            bar.step(f"simulating: {name}", _TWIN_S)
            _draw(experiment, place, places.notebooks() / name, (), {"draws": QUICK_DRAWS} if experiment.quick else {})
    elif cell not in COMPARED_CELLS:
        bar.say(f"environments are not compared by runs of {cell}, only by those of {', '.join(COMPARED_CELLS)}")


def _begun(figures: Path, drawn: Path) -> Path:
    """An empty folder to draw into, but for the manifest that is to be gone on with."""
    try:
        shutil.rmtree(drawn, ignore_errors=True)
        drawn.mkdir(parents=True)
        if (figures / MANIFEST).exists():
            shutil.copy(figures / MANIFEST, drawn)
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(drawn), "make room there, or make it writable") from error
    return drawn


def _put_in_place(drawn: Path, figures: Path) -> None:
    """Each file as a whole, the manifest last; ``drawn`` is gone then."""
    try:
        figures.mkdir(parents=True, exist_ok=True)
        for file in sorted(drawn.iterdir(), key=lambda each: each.name == MANIFEST):
            partial = figures / f"{file.name}.partial"
            shutil.copy(file, partial)
            partial.replace(figures / file.name)
        shutil.rmtree(drawn)
    except OSError as error:
        what = error.strerror or str(error)
        raise MlscaleError(what, str(figures), f"make room there; the figures lie in {drawn}") from error


def _variants(states: Sequence[State], environment: str) -> list[str]:
    """Runs that change one thing from core, where such were measured; of a rehearsal, those without machines."""
    if environment in REHEARSED:
        return [str(folder) for folder in run_dirs(states, "k3s", "rehearsal")]
    named = (run_dirs(states, environment, cell) for cell in ("sensitivity", "container"))
    return [str(folder) for folders in named for folder in folders]


def _draw(experiment: Experiment, place: Path, notebook: Path, folders: Sequence[Path], more: dict[str, Any]) -> None:
    execute(
        notebook,
        place / notebook.name,
        {
            "run_dirs": [str(folder) for folder in folders],
            "figures": str(experiment.figures.resolve()),
            "level_s": experiment.protocol.level_s,
            "seed": experiment.seed,
            **more,
        },
        timeout_s=_TIMEOUT_S,
    )
