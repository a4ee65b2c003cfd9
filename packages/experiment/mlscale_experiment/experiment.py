"""What is to be measured: the runs of a plan under a protocol, and where runs and figures go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlscale_experiment.attempts import MOST_ATTEMPTS, QUICK_ATTEMPTS, State, state_of
from mlscale_experiment.plan import PlannedRun
from mlscale_experiment.protocol import Protocol


@dataclass(frozen=True)
class Selection:
    """What a command's options ask for; None: the experiment's own."""

    environments: list[str] | None = None
    cells: list[str] | None = None
    blocks: int | None = None
    runs: Path | None = None
    seed: int | None = None
    quick: bool = False


@dataclass(frozen=True)
class Experiment:
    """What is to be measured, where it goes, and under which protocol.

    Attributes:
        compared: the environments that are compared with one another.
        root: folder of the runs (RUNS).
        bodies: folder of the files to send.
        identity: what runs below one root have in common (`mlscale_experiment.attempts.claim`).
        notebooks: environment -> the notebook that measures and draws it.
        parameters: of the notebook that measures an environment, beside those of the planned run.
        working_folder: of the notebooks' kernels; None: where the notebook lies.
    """

    environments: tuple[str, ...]
    compared: tuple[str, ...]
    cells: tuple[str, ...]
    blocks: int
    plan: tuple[PlannedRun, ...]
    root: Path
    figures: Path
    protocol: Protocol
    bodies: Path
    identity: Mapping[str, str | int | list[str]]
    notebooks: Mapping[str, Path]
    seed: int = 0
    quick: bool = False
    parameters: Callable[[str], Mapping[str, Any]] = lambda environment: {}
    working_folder: Path | None = None

    @property
    def attempts(self) -> int:
        """The most attempts for one planned run."""
        return QUICK_ATTEMPTS if self.quick else MOST_ATTEMPTS

    def states(self) -> list[State]:
        """Each planned run with what has been measured of it."""
        return [state_of(planned, self.root, self.attempts) for planned in self.plan]
