"""The published experiment: what ``make paper-figures`` measures, and where its runs and figures go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlscale import environments as installed
from mlscale.errors import MlscaleError
from mlscale_experiment.execute import Finish, run
from mlscale_experiment.experiment import Experiment, Selection
from mlscale_experiment.folder import ANY_ENVIRONMENT
from mlscale_experiment.protocol import Protocol, bodies_folder, read_protocol
from mlscale_experiment.settings import read
from mlscale_paper import design, places
from mlscale_paper.applications import code_reader
from mlscale_paper.variants import REHEARSED, TWIN_CELLS


def experiment(
    environments: Sequence[str],
    cells: Sequence[str],
    blocks: int,
    runs: Path,
    *,
    seed: int = 0,
    quick: bool = False,
    protocol_file: Path | None = None,
) -> Experiment:
    """The experiment of ``make paper-figures``, checked before anything is started.

    ``protocol_file``: by default the one beside the runs, or the checkout's where there is none.

    Raises:
        MlscaleError: an unknown environment or cell, no protocol.
    """
    check(environments, cells, blocks)
    root = root_of(runs, quick=quick)
    beside = root / places.protocol_file().name
    file = protocol_file or (beside if beside.exists() else places.protocol_file())
    protocol = read_protocol(file)
    if protocol is None:
        raise MlscaleError("there is no protocol yet", str(file), "make paper-figures, or mlscale experiment pilot")
    notebooks = {name: notebook(name) for name in environments}
    compared = tuple(name for name in environments if name not in REHEARSED)
    # A Williams square depends on its environments; the hold-out's is drawn over all of them.
    bound: dict[str, list[str]] = {"environments": [*compared]} if set(cells) - set(TWIN_CELLS) else {}
    return Experiment(
        environments=tuple(environments),
        compared=compared,
        cells=tuple(cells),
        blocks=blocks,
        plan=tuple(design.plan(environments, cells, blocks, protocol, seed=seed, quick=quick)),
        root=root,
        figures=places.figures() / "quick" if quick else places.figures(),
        protocol=protocol,
        bodies=bodies_folder(protocol, file),
        identity={"protocol": protocol.sha256(), "application": code_reader().version, "seed": seed, **bound},
        notebooks=notebooks,
        seed=seed,
        quick=quick,
        parameters=lambda name: {"environment": name} if notebooks[name] == ANY_ENVIRONMENT else {},
    )


def notebook(environment: str) -> Path:
    """The notebook of an environment; one without a chapter of its own has that of any."""
    return next(iter(places.notebooks().glob(f"[0-9][0-9]_{environment}.ipynb")), ANY_ENVIRONMENT)


def root_of(runs: Path, *, quick: bool) -> Path:
    """The folder of an experiment's runs; a quick look has its own."""
    return (runs / "quick" if quick else runs).resolve()


def check(environments: Sequence[str], cells: Sequence[str], blocks: int) -> None:
    """Raise MlscaleError for an unknown environment or cell, a duplicate one, none, or no block."""
    for name in environments:
        installed.get(name)
    design.check(environments, cells, blocks)


class Published:
    """What `mlscale experiment` runs where no folder is named (`mlscale_experiment.cli.Default`)."""

    def experiment(self, selection: Selection) -> Experiment:
        """The experiment, for what was measured of it so far."""
        return experiment(**_asked(selection))

    def run(self, selection: Selection, protocol: Path | None) -> None:
        """Pilot if there is no protocol, missing blocks, figures."""
        from codereader.photos import LoadPhotos
        from mlscale_paper.drawing import draw_all, drawing_s
        from mlscale_paper.pilot import ensure_protocol

        asked = _asked(selection)
        check(asked["environments"], asked["cells"], asked["blocks"])
        root = root_of(asked["runs"], quick=selection.quick)
        ensure_protocol(root, asked["environments"], LoadPhotos, given=protocol, seed=asked["seed"])
        run(experiment(**asked), Finish(drawing_s, draw_all))

    def pilot(self, selection: Selection) -> tuple[Path, Protocol]:
        """A new protocol for the checkout."""
        from codereader.photos import LoadPhotos
        from mlscale_paper.pilot import run_pilot

        asked = _asked(selection)
        check(asked["environments"], ["core"], 1)
        file = places.protocol_file()
        return file, run_pilot(asked["environments"], asked["runs"].resolve(), file, LoadPhotos, seed=asked["seed"])


def _asked(selection: Selection) -> dict[str, Any]:
    """The arguments of `experiment`: what is asked for, else as in the published experiment.yaml."""
    published = read(places.settings_file())
    return {
        "environments": [*published.environments] if selection.environments is None else selection.environments,
        "cells": [*published.cells] if selection.cells is None else selection.cells,
        "blocks": published.blocks if selection.blocks is None else selection.blocks,
        "runs": selection.runs or Path("runs"),
        "seed": published.seed if selection.seed is None else selection.seed,
        "quick": selection.quick,
    }
