"""The state of each planned run, read from its folders, so that an experiment can stop and resume at any time.

The folder of a planned run holds one folder per attempt: attempt-0, and attempt-1 and attempt-2 where earlier ones
were invalid. All are kept. An incomplete attempt is moved below RUNS/incomplete and measured again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlscale.runs import MlscaleError, Run, load_run
from mlscale_experiment.plan import PlannedRun

MOST_ATTEMPTS: Final = 3
QUICK_ATTEMPTS: Final = 2
INCOMPLETE: Final = "incomplete"
IDENTITY: Final = "experiment.json"


@dataclass(frozen=True)
class State:
    """``runs``: complete attempts in order; ``incomplete``: unfinished ones; ``max_attempts``: those allowed."""

    planned: PlannedRun
    runs: tuple[Run, ...]
    incomplete: tuple[Path, ...]
    max_attempts: int

    @property
    def valid(self) -> bool:
        """Whether an attempt was valid."""
        return any(run.info.valid for run in self.runs)

    @property
    def done(self) -> bool:
        """Whether there is a valid attempt, or as many attempts as METHOD §6 allows."""
        return self.valid or len(self.runs) >= self.max_attempts

    @property
    def word(self) -> str:
        """The state in one word."""
        if self.done:
            return "measured" if self.valid else "invalid"
        return "begun" if self.runs or self.incomplete else "missing"

    @property
    def next_attempt(self) -> int:
        return len(self.runs)


def state_of(planned: PlannedRun, root: Path, max_attempts: int = MOST_ATTEMPTS) -> State:
    """Read the attempts of one planned run below ``root`` (RUNS).

    Raises:
        MlscaleError: an attempt that can't be read, or that belongs to another plan.
    """
    runs: list[Run] = []
    incomplete: list[Path] = []
    for folder in sorted((root / planned.folder).glob("attempt-[0-9]")):
        if not (folder / "run.json").exists():
            incomplete.append(folder)
            continue
        run = load_run(folder, allow_incomplete=True)
        _check_belongs(run, planned)
        if run.info.complete:
            runs.append(run)
        else:
            incomplete.append(folder)
    return State(planned, tuple(runs), tuple(incomplete), max_attempts)


def attempt_folder(planned: PlannedRun, root: Path, attempt: int) -> Path:
    """Where an attempt is written."""
    return root / planned.folder / f"attempt-{attempt}"


def set_aside(folder: Path, root: Path) -> Path:
    """Move an incomplete attempt to RUNS/incomplete; nothing is deleted. Returns its new path."""
    name = "--".join(folder.relative_to(root).parts)
    target = root / INCOMPLETE / name
    number = 1
    while target.exists():
        number += 1
        target = root / INCOMPLETE / f"{name}--{number}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(target), "make the runs' folder writable") from error
    return target


def run_dirs(states: Iterable[State], environment: str | None = None, cell: str | None = None) -> list[Path]:
    """Folders of all complete attempts, valid or not, in the plan's order."""
    return [
        run.path
        for state in states
        if environment in (None, state.planned.environment) and cell in (None, state.planned.cell)
        for run in state.runs
    ]


def claim(root: Path, identity: Mapping[str, str | int | list[str]]) -> None:
    """Bind ``root`` to one experiment (protocol, seed, environments); later calls with a different one are refused.

    What it was not bound to yet (the environments, after a hold-out alone) is added.

    Raises:
        MlscaleError: ``root`` holds another experiment, or can't be written.
    """
    from mlscale.atomic import write_text

    file, existing = root / IDENTITY, {}
    if file.exists():
        try:
            existing = dict(json.loads(file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise MlscaleError(f"broken: {error}", str(file), "restore it, or name another --runs") from error
        differs = [key for key, value in identity.items() if existing.get(key, value) != value]
        if differs:
            key = differs[0]
            raise MlscaleError(
                f"these runs belong to an experiment with another {key} ({existing[key]!r}, now {identity[key]!r})",
                str(root),
                "name another --runs, or the same as before",
            )
    write_text(file, json.dumps({**existing, **identity}, indent=2) + "\n")


def _check_belongs(run: Run, planned: PlannedRun) -> None:
    info = run.info
    same = (info.environment, info.seed, info.arm) == (planned.environment, planned.seed, planned.arm)
    if not same:
        raise MlscaleError(
            f"the run there is of {info.environment}, arm {info.arm}, seed {info.seed}: not the planned one",
            str(run.path),
            "name another --runs",
        )
