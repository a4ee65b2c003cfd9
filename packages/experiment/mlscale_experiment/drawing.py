"""Draws through notebooks into a scratch folder, then installs the figures together: an interruption leaves the old
ones."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mlscale.notebook.manifest import MANIFEST
from mlscale.notebook.parameters import declared
from mlscale.runs import MlscaleError
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.notebook_execution import execute

_TIMEOUT_S: Final = 1200.0


def new_scratch(figures: Path, scratch: Path) -> Path:
    """An empty folder to draw into, with a copy of the manifest to be continued."""
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        if (figures / MANIFEST).exists():
            shutil.copy(figures / MANIFEST, scratch)
    except OSError as error:
        raise MlscaleError(
            error.strerror or str(error), str(scratch), "make room there, or make it writable"
        ) from error
    return scratch


def put_in_place(scratch: Path, figures: Path) -> None:
    """Replace each file atomically, the manifest last, then remove ``scratch``."""
    try:
        figures.mkdir(parents=True, exist_ok=True)
        for file in sorted(scratch.iterdir(), key=lambda path: path.name == MANIFEST):
            partial = figures / f"{file.name}.partial"
            shutil.copy(file, partial)
            partial.replace(figures / file.name)
        shutil.rmtree(scratch)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MlscaleError(reason, str(figures), f"free disk space there; the figures are in {scratch}") from error


def draw(
    experiment: Experiment,
    output: Path,
    notebook: Path,
    folders: Sequence[Path],
    extra: Mapping[str, Any],
    name: str = "",
) -> None:
    """Execute a notebook over the runs in ``folders``; ``extra``: parameters beside those of any notebook;
    ``name``: of the executed one, if another."""
    known = declared(notebook)
    common = {
        "run_dirs": [str(folder) for folder in folders],
        "figures": str(experiment.figures.resolve()),
        "level_s": experiment.protocol.level_s,
        "seed": experiment.seed,
    }
    parameters = {key: value for key, value in common.items() if key in known} | dict(extra)
    execute(notebook, output / (name or notebook.name), parameters, _TIMEOUT_S, experiment.working_folder)
