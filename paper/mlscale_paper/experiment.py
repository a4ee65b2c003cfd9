"""What is to be measured: environments, cells and blocks under a protocol, and where their runs and figures go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlscale import environments as installed
from mlscale.runs import MlscaleError
from mlscale_paper import design, places
from mlscale_paper.attempts import MOST_ATTEMPTS, QUICK_ATTEMPTS, State, state_of
from mlscale_paper.protocol import Protocol, photos_folder, read_protocol


@dataclass(frozen=True)
class Experiment:
    """What is to be measured, where it goes, and under which protocol."""

    environments: tuple[str, ...]
    cells: tuple[str, ...]
    blocks: int
    root: Path
    figures: Path
    protocol: Protocol
    photos: Path
    seed: int = 0
    quick: bool = False
    notebooks: Mapping[str, Path] = field(default_factory=dict)
    """environment -> the notebook that measures and draws it; empty: found by name in notebooks/"""

    @property
    def plan(self) -> list[design.PlannedRun]:
        return design.plan(self.environments, self.cells, self.blocks, self.protocol, seed=self.seed, quick=self.quick)

    @property
    def attempts(self) -> int:
        """The most attempts for one planned run."""
        return QUICK_ATTEMPTS if self.quick else MOST_ATTEMPTS

    def states(self) -> list[State]:
        """Each planned run with what has been measured of it."""
        return [state_of(planned, self.root, self.attempts) for planned in self.plan]

    def notebook(self, environment: str) -> Path:
        """The notebook of an environment.

        Raises:
            MlscaleError: there is none.
        """
        if environment in self.notebooks:
            return self.notebooks[environment]
        matches = sorted(places.notebooks().glob(f"[0-9][0-9]_{environment}.ipynb"))
        if not matches:
            raise MlscaleError(
                f"no notebook NN_{environment}.ipynb", str(places.notebooks()), "add one for this environment"
            )
        return matches[0]


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
        MlscaleError: an unknown environment or cell, no protocol, a place that can't be written.
    """
    check(environments, cells, blocks)
    root = root_of(runs, quick=quick)
    beside = root / places.protocol_file().name
    file = protocol_file or (beside if beside.exists() else places.protocol_file())
    protocol = read_protocol(file)
    if protocol is None:
        raise MlscaleError("there is no protocol yet", str(file), "make paper-figures, or mlscale experiment pilot")
    figures = places.figures() / "quick" if quick else places.figures()
    result = Experiment(
        environments=tuple(environments),
        cells=tuple(cells),
        blocks=blocks,
        root=root,
        figures=figures,
        protocol=protocol,
        photos=photos_folder(protocol, file),
        seed=seed,
        quick=quick,
    )
    for name in environments:
        result.notebook(name)
    return result


def root_of(runs: Path, *, quick: bool) -> Path:
    """The folder of an experiment's runs; a quick look has its own."""
    return (runs / "quick" if quick else runs).resolve()


def check(environments: Sequence[str], cells: Sequence[str], blocks: int) -> None:
    """Raise MlscaleError for an unknown environment or cell, a duplicate one, none, or no block."""
    for name in environments:
        installed.get(name)
    design.check(environments, cells, blocks)
