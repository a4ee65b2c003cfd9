"""Many simulated runs: a grid of settings with several draws each, on all cores of this machine or on a Ray cluster.

Each finished run is appended to a file as one line; a restarted sweep skips what the file holds.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mlscale.measurement.measure import Progress
from mlscale.runs import SCHEDULE, ClosedLoop, MlscaleError, OpenLoop
from mlscale_twin.code_hash import code_hash


@dataclass(frozen=True)
class Task:
    """One simulated run, as data. ``changes``: to the profile, by dotted path."""

    environment: str
    schedule: Mapping[str, Any]
    scaling: Mapping[str, Any]
    arm: str = "matched"
    seed: int = 0
    draw: int = 0
    level_s: float = 0.55
    changes: tuple[tuple[str, Any], ...] = ()

    def key(self, code: str) -> str:
        """Identifies the task and the code that executes it (`code_hash`)."""
        return hashlib.sha256((json.dumps(asdict(self), sort_keys=True) + code).encode()).hexdigest()[:24]


def grid(
    environments: Sequence[str],
    schedule: ClosedLoop | OpenLoop,
    scaling: Mapping[str, Sequence[Any]],
    draws: int,
    *,
    arm: str = "matched",
    level_s: float = 0.55,
    changes: Mapping[str, Sequence[Any]] | None = None,
) -> list[Task]:
    """Every combination of the values of ``scaling`` and ``changes``, ``draws`` times."""
    names, paths = list(scaling), list(changes or {})
    values = [*scaling.values(), *(changes or {}).values()]
    return [
        Task(
            environment,
            schedule.model_dump(mode="json"),
            dict(zip(names, combination[: len(names)], strict=True)),
            arm,
            draw=draw,
            level_s=level_s,
            changes=tuple(zip(paths, combination[len(names) :], strict=True)),
        )
        for environment in environments
        for combination in itertools.product(*values)
        for draw in range(draws)
    ]


def execute(task: Task) -> dict[str, Any]:
    """Simulates a task; returns its figures (`mlscale_twin.likeness`), and replica seconds after the step."""
    from mlscale.analysis.summary import span
    from mlscale_twin.likeness import likeness_figures
    from mlscale_twin.simulate import SimulateOptions, simulate

    run = simulate(
        task.environment,
        schedule=SCHEDULE.validate_python(dict(task.schedule)),
        scaling=task.scaling,
        arm=task.arm,  # type: ignore[arg-type]
        options=SimulateOptions(seed=task.seed, draw=task.draw, changes=task.changes),
    )
    from_s, to_s = span(run)
    counted = run.replicas[run.replicas["t_s"].between(from_s, to_s)]
    mean = float((counted["ready"] + counted["starting"]).groupby(counted["t_s"]).sum().mean())
    failed = float((run.requests["status"] != "ok").mean())
    return {**likeness_figures(run, task.level_s), "mean_replicas": mean, "failure_share": failed}


def sweep(
    tasks: Sequence[Task], file: Path, *, address: str | None = None, progress: Progress | None = None
) -> pd.DataFrame:
    """Executes the tasks that ``file`` does not hold yet; returns a row per task: its settings and figures.

    Args:
        address: of a Ray cluster with this version of mlscale; None: a Ray instance on this machine.

    Raises:
        MlscaleError: the file can't be written or is not a sweep's; a task is invalid.
    """
    done, code = _read(file), code_hash()
    keys = [task.key(code) for task in tasks]
    missing = [(task, key) for task, key in zip(tasks, keys, strict=True) if key not in done]
    if missing:
        execute(missing[0][0])  # reports invalid tasks before Ray starts
        with _writable(file) as write, _ray(address) as ray:
            remote = ray.remote(num_cpus=1)(execute)
            waiting = {remote.remote(task): (task, key) for task, key in missing}
            while waiting:
                for reference in ray.wait(list(waiting), timeout=1.0)[0]:
                    task, key = waiting.pop(reference)
                    done[key] = ray.get(reference)
                    write({"key": key, "task": asdict(task), "figures": done[key]})
                if progress is not None:
                    progress(f"{len(tasks) - len(waiting)} of {len(tasks)} simulated", 1 - len(waiting) / len(tasks))
    return pd.DataFrame([_row(task, done[key]) for task, key in zip(tasks, keys, strict=True)])


def _row(task: Task, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "environment": task.environment, "arm": task.arm, **task.scaling, **dict(task.changes), "draw": task.draw,
        **figures,
    }  # fmt: skip


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """Figures of finished tasks by key; a truncated last line is ignored."""
    if not file.exists():
        return {}
    figures: dict[str, dict[str, Any]] = {}
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            figures[entry["key"]] = entry["figures"]
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise MlscaleError(f"line {number} is not a sweep result", str(file), "choose another file") from error
    return figures


@contextmanager
def _writable(file: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yields a function that appends a line and syncs it to disk."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text() if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            file.write_text(whole)
        with file.open("a") as out:

            def write(entry: Mapping[str, Any]) -> None:
                out.write(json.dumps(entry) + "\n")
                out.flush()
                os.fsync(out.fileno())

            yield write
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(file), "choose a writable file") from error


@contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """Ray, started for the block unless it runs at ``address``."""
    import ray

    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise MlscaleError(str(error), f"Ray at {address}", "start Ray there, or omit the address") from error
    try:
        yield ray
    finally:
        ray.shutdown()
