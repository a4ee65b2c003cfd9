"""The last part of an experiment: each environment's notebook once more over all its runs, then the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlscale.experiment import places
from mlscale.experiment.attempts import State, run_dirs
from mlscale.experiment.notebook import execute
from mlscale.experiment.parameters import declared
from mlscale.experiment.progress import Bar
from mlscale.experiment.variants import REHEARSED, TWIN_CELLS

if TYPE_CHECKING:
    from mlscale.experiment.execute import Experiment

COMPARE = "07_compare.ipynb"
TWIN = ("05_ecs.ipynb", "09_twin.ipynb")
"""What is simulated; drawn wherever environments are compared."""
_TIMEOUT_S = 1200.0
QUICK_DRAWS = 3
_EACH_S, _COMPARE_S, _TWIN_S = 20.0, 60.0, 40.0


def drawing_s(experiment: Experiment) -> float:
    """About how long `draw_all` takes, s."""
    together = _COMPARE_S + len(TWIN) * _TWIN_S if _compares(experiment) else 0.0
    return _EACH_S * len(experiment.environments) + together


def _compares(experiment: Experiment) -> bool:
    return len(set(experiment.environments) - set(REHEARSED)) > 1


def draw_all(experiment: Experiment, states: Sequence[State], bar: Bar, executed: Path | None = None) -> None:
    """Draw every figure of an experiment into its folder of figures.

    Raises:
        MlscaleError: no complete run, or a notebook that failed.
    """
    place = executed or experiment.root / "executed"
    cell = "core" if "core" in experiment.cells or experiment.quick else experiment.cells[0]
    states = [state for state in states if state.planned.cell not in TWIN_CELLS]
    if not states:
        return
    for environment in experiment.environments:
        bar.step(f"drawing {environment}", _EACH_S)
        notebook = experiment.notebook(environment)
        more = {"more_run_dirs": _variants(states, environment)} if "more_run_dirs" in declared(notebook) else {}
        own = "rehearsal" if environment in REHEARSED else cell
        _draw(experiment, place, notebook, run_dirs(states, environment, own), more)
    if _compares(experiment):
        bar.step("drawing the comparison", _COMPARE_S)
        only = {"p_values": not experiment.quick, "cell": cell}  # and where METHOD allows them: see compare()
        _draw(experiment, place, places.notebooks() / COMPARE, run_dirs(states), only)
        for name in TWIN:
            bar.step(f"simulating: {name}", _TWIN_S)
            _draw(experiment, place, places.notebooks() / name, (), {"draws": QUICK_DRAWS} if experiment.quick else {})


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
