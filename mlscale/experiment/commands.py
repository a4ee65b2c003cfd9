"""What the commands ``mlscale measure`` and ``mlscale experiment`` do, without the parsing of options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlscale.experiment import places
from mlscale.experiment.parameters import MeasureParameters, checked
from mlscale.experiment.protocol import current_protocol, photos_folder

if TYPE_CHECKING:
    from mlscale.experiment.pilot import LoadPhotos


def measure_command(
    environment: str,
    out: Path,
    mode: str,
    arm: str,
    schedule: Path | None,
    scaling: Sequence[str],
    photos: Path | None,
    connections: str,
    seed: int,
    idle_s: float,
    *,
    partitioned: bool = False,
) -> str:
    """One run; returns the line that says where it lies and what came of it."""
    from mlscale.experiment.applications import code_reader
    from mlscale.experiment.measure import measure
    from mlscale.experiment.progress import Shown
    from mlscale.experiment.settings import parse_settings
    from mlscale.load.schedule_files import read_schedule

    given = {"mode": mode, "arm": arm, "connections": connections, "scaling": parse_settings(scaling)}
    asked = checked(MeasureParameters, given)
    protocol = current_protocol()
    with Shown() as shown:
        run = measure(
            environment,
            code_reader(partitioned=partitioned),
            schedule=read_schedule(schedule) if schedule else None,
            photos=photos or photos_folder(protocol, places.protocol_file()),
            out=out,
            scaling=protocol.sized(environment, asked.scaling, schedule),
            arm=asked.arm,
            mode=asked.mode,
            connections=asked.connections,
            seed=seed,
            idle_s=idle_s,
            progress=shown,
        )
    validity = run.info.validity
    verdict = "valid" if validity is None or validity.valid else f"not valid: {'; '.join(validity.reasons)}"
    right = int((run.requests.status == "ok").sum())
    return f"{run.path}: {len(run.requests)} requests, {right} right answers; {verdict}"


def run_command(
    environments: str,
    blocks: int,
    cells: str,
    runs: Path,
    seed: int,
    load_photos: Callable[[], LoadPhotos],
    *,
    quick: bool,
    protocol: Path | None = None,
) -> None:
    """Settle the protocol where these runs have none yet, measure what is missing, draw."""
    from mlscale.experiment.execute import check, experiment, root_of, run
    from mlscale.experiment.pilot import ensure_protocol

    wanted = names(environments), names(cells), blocks
    check(*wanted)
    ensure_protocol(root_of(runs, quick=quick), names(environments), load_photos, given=protocol, seed=seed)
    run(experiment(*wanted, runs, seed=seed, quick=quick))


def status_command(environments: str, blocks: int, cells: str, runs: Path, seed: int, *, quick: bool) -> str:
    """A line per planned run, and the time left."""
    from mlscale.experiment.execute import estimate_s, experiment
    from mlscale.experiment.progress import duration

    made = experiment(names(environments), names(cells), blocks, runs, seed=seed, quick=quick)
    states = made.states()
    lines = [f"{state.word:9} {state.planned.folder}" for state in states]
    done = sum(state.done for state in states)
    left = duration(estimate_s(states, made.protocol)) if done < len(states) else "nothing"
    return "\n".join((*lines, f"{done} of {len(states)} runs are measured, {left} is left ({made.root})"))


def pilot_command(environments: str, runs: Path, seed: int, load_photos: Callable[[], LoadPhotos]) -> str:
    """Write data/protocol.json."""
    from mlscale.experiment.execute import check
    from mlscale.experiment.pilot import run_pilot

    check(names(environments), ["core"], 1)
    file = places.protocol_file()
    protocol = run_pilot(names(environments), runs.resolve(), file, load_photos, seed=seed)
    return f"{file}: {protocol.replicas} replicas, {protocol.step_clients} clients, L = {protocol.level_s} s"


def names(text: str) -> list[str]:
    """``"torchserve, rayserve"`` or ``"torchserve rayserve"`` to names."""
    return text.replace(",", " ").split()
