"""Runs an experiment: every planned run through its notebook, then the figures; stopped at any time, it resumes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mlscale.progress import Bar, duration
from mlscale.runs import MlscaleError, load_run
from mlscale_experiment.attempts import State, attempt_folder, claim, set_aside
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.notebook_execution import NotebookFailed, execute
from mlscale_experiment.protocol import Protocol, other_host
from onenode.keeper import ClusterKeeper

# On a quiet host, the wait for quiet takes just over 5 s (METHOD §6).
QUIET_S: Final = 7.0
# Kernel start, load generator's lead, last answers, teardown and sealing of a run, s.
_OVERHEAD_S: Final = 14.0
_UNKNOWN_START_S: Final = 45.0
_MOST_FAILURES: Final = 2
_LEAST_FREE_BYTES: Final = 200 * 2**20


@dataclass(frozen=True)
class Finish:
    """What follows the last run: ``draw`` (experiment, states, bar), which takes about ``takes_s`` (experiment)."""

    takes_s: Callable[[Experiment], float]
    draw: Callable[[Experiment, Sequence[State], Bar], None]


def estimate_s(states: Sequence[State], protocol: Protocol) -> float:
    """Wall time of the remaining runs, s: schedules, framework starts, METHOD's waits and overhead."""
    return sum(run_estimate_s(state, protocol) for state in states if not state.done)


def run_estimate_s(state: State, protocol: Protocol) -> float:
    """The same for one run."""
    start_s = protocol.start_s.get(state.planned.environment, _UNKNOWN_START_S)
    return QUIET_S + start_s + state.planned.idle_s + state.planned.schedule.duration_s + _OVERHEAD_S


def run(experiment: Experiment, finish: Finish) -> None:
    """Measure what is missing, then ``finish``: draw every figure over all blocks.

    Raises:
        MlscaleError: something that the user has to fix; what was measured stays, and the next call resumes.
        KeyboardInterrupt, SystemExit: the run in progress was torn down; the next call repeats it.
    """
    prepare(experiment)
    states = experiment.states()
    total_s = estimate_s(states, experiment.protocol) + finish.takes_s(experiment)
    with Bar(total_s) as bar:
        bar.say(_announcement(experiment, states, total_s))
        states = measure_missing(experiment, states, bar)
        finish.draw(experiment, states, bar)
        bar.say(f"figures: {experiment.figures}")
        for line in missing(states):
            bar.say(line)


def measure_missing(experiment: Experiment, states: Sequence[State], bar: Bar) -> list[State]:
    """Measure each planned run that is not done; returns the states afterwards."""
    after = list(states)
    with ClusterKeeper() as keeper:
        for number, state in enumerate(states, start=1):
            if not state.done:
                keeper.prepare(state.planned.environment, state.planned.scaling)
                after[number - 1] = _measure_place(experiment, state, f"run {number} of {len(states)}", bar)
    return after


def missing(states: Sequence[State]) -> list[str]:
    """Environments and variants without a valid run, and why: one line each."""
    by_variant: dict[str, list[State]] = {}
    for state in states:
        planned = state.planned
        by_variant.setdefault(f"{planned.environment} ({planned.cell}, {planned.variant})", []).append(state)
    lines = []
    for name, group in by_variant.items():
        if not any(state.valid for state in group):
            judged = [run.info.validity for state in group for run in state.runs if run.info.validity]
            lines.append(f"no valid run of {name}: {'; '.join(judged[-1].reasons) if judged else 'not measured'}")
    return lines


def _measure_place(experiment: Experiment, state: State, place: str, bar: Bar) -> State:
    """Measure one planned run until it is done; an invalid run is repeated at once, at most twice."""
    failures = 0
    for folder in state.incomplete:
        bar.say(f"{place}: an incomplete run is kept in {set_aside(folder, experiment.root)}")
    state = replace(state, incomplete=())
    planned_s = run_estimate_s(state, experiment.protocol)
    while not state.done:
        planned = state.planned
        folder = attempt_folder(planned, experiment.root, state.next_attempt)
        title = f"{place}: {planned.environment}, {planned.cell}, block {planned.block}"
        bar.step(title + (f", attempt {state.next_attempt + 1}" if state.next_attempt or failures else ""), planned_s)
        try:
            execute(
                experiment.notebooks[planned.environment],
                experiment.root / "executed" / f"{'--'.join(folder.relative_to(experiment.root).parts)}.ipynb",
                _parameters(experiment, state, folder, repeated=bool(state.next_attempt or failures)),
                timeout_s=3 * planned_s + 120,
                cwd=experiment.working_folder,
            )
        except NotebookFailed as error:
            failures += 1
            if not folder.exists() or failures > _MOST_FAILURES or (error.error == "MlscaleError" and _is_disk(error)):
                raise
            if not _is_whole(folder):
                bar.say(f"{title}: {error}; kept in {set_aside(folder, experiment.root)}, measured again")
                bar.extend(planned_s)
                continue
            bar.say(f"{title}: measured, but not drawn: {error}")
        measured = load_run(folder)
        state = replace(state, runs=(*state.runs, measured))
        if not state.valid:
            reasons = "; ".join(measured.info.validity.reasons) if measured.info.validity else ""
            bar.say(f"{title}: invalid ({reasons}){'' if state.done else ', measured again'}")
            bar.extend(0.0 if state.done else planned_s)
    return state


def _parameters(experiment: Experiment, state: State, folder: Path, *, repeated: bool) -> dict[str, Any]:
    """``repeated``: the run follows an invalid run of its own environment instead of the planned predecessor."""
    planned = state.planned
    return {
        "out": str(folder),
        "arm": planned.arm,
        "scaling": dict(planned.scaling),
        "schedule": planned.schedule.model_dump(mode="json"),
        "bodies": str(experiment.bodies),
        "connections": planned.connections,
        "seed": planned.seed,
        "level_s": experiment.protocol.level_s,
        "idle_s": planned.idle_s,
        "labels": {
            "experiment": experiment.protocol.sha256()[:16],
            "cell": planned.label,
            "block": planned.block,
            "position": planned.position,
            "predecessor": planned.environment if repeated else planned.predecessor,
            "aa_label": planned.aa_label,
            "attempt": state.next_attempt,
        },
        **({"partitioned": True} if planned.partitioned else {}),
        **experiment.parameters(planned.environment),
    }


def prepare(experiment: Experiment) -> None:
    """Check paths and free space before anything is measured."""
    for folder in (experiment.root, experiment.figures):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".writable.partial"
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise MlscaleError(
                error.strerror or str(error), str(folder), "make room there, make it writable, or name another --runs"
            ) from error
        if free < _LEAST_FREE_BYTES:
            raise MlscaleError(
                f"only {free // 2**20} MB of disk space left", str(folder), "make room there, or name another --runs"
            )
    claim(experiment.root, experiment.identity)


def _announcement(experiment: Experiment, states: Sequence[State], total_s: float) -> str:
    done = sum(state.done for state in states)
    parts = [f"{len(states)} runs of {', '.join(experiment.environments)}"]
    if done:
        parts.append(f"{done} are measured already")
    parts.append(f"about {duration(total_s)}")
    protocol_host = other_host(experiment.protocol)
    if protocol_host:
        parts.append(f"the protocol is of another host ({protocol_host}), so load and L may not fit this one")
    from mlscale.analysis.inference import least_blocks

    blocks_needed = least_blocks(len(experiment.compared)) if experiment.compared else 0
    if not experiment.quick and experiment.blocks < blocks_needed:
        parts.append(
            f"{experiment.blocks} blocks are fewer than the {blocks_needed} that p-values need: intervals only"
        )
    return "; ".join(parts) + f"; runs go to {experiment.root}"


def _is_whole(folder: Path) -> bool:
    return (folder / "run.json").exists() and load_run(folder, allow_incomplete=True).info.complete


def _is_disk(error: NotebookFailed) -> bool:
    return "make room" in error.text
