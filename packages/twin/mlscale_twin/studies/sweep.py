"""Many simulated runs: a grid of settings, each with several draws, on all cores of this machine or on a Ray cluster.

What is finished is appended to a file, a line each; a sweep that is started again leaves out what the file holds.
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
    """One simulated run, as data. ``changes``: of the profile, by dotted path."""

    environment: str
    schedule: Mapping[str, Any]
    scaling: Mapping[str, Any]
    arm: str = "matched"
    seed: int = 0
    draw: int = 0
    level_s: float = 0.55
    changes: tuple[tuple[str, Any], ...] = ()

    def key(self, code: str) -> str:
        """Names the task, and the code that carries it out (`code_hash`)."""
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
            dict(zip(names, chosen[: len(names)], strict=True)),
            arm,
            draw=draw,
            level_s=level_s,
            changes=tuple(zip(paths, chosen[len(names) :], strict=True)),
        )
        for environment in environments
        for chosen in itertools.product(*values)
        for draw in range(draws)
    ]


def carry_out(task: Task) -> dict[str, Any]:
    """Simulate it; returns its figures (`mlscale_twin.likeness`), and replica seconds after the step."""
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
    tasks: Sequence[Task], file: Path, *, address: str | None = None, say: Progress | None = None
) -> pd.DataFrame:
    """Carry out what ``file`` does not hold yet; returns a row per task: its settings and its figures.

    Args:
        address: of a Ray cluster that has this version of mlscale; None: a Ray of our own on this machine.

    Raises:
        MlscaleError: the file can't be written or is none of a sweep; a task that makes no sense.
    """
    done, code = _read(file), code_hash()
    keys = [task.key(code) for task in tasks]
    left = [(task, key) for task, key in zip(tasks, keys, strict=True) if key not in done]
    if left:
        carry_out(left[0][0])  # what makes no sense is said here, before anything is started
        with _writable(file) as write, _ray(address) as ray:
            remote = ray.remote(num_cpus=1)(carry_out)
            waiting = {remote.remote(task): (task, key) for task, key in left}
            while waiting:
                for reference in ray.wait(list(waiting), timeout=1.0)[0]:
                    task, key = waiting.pop(reference)
                    done[key] = ray.get(reference)
                    write({"key": key, "task": asdict(task), "figures": done[key]})
                if say is not None:
                    say(f"{len(tasks) - len(waiting)} of {len(tasks)} simulated", 1 - len(waiting) / len(tasks))
    return pd.DataFrame([_row(task, done[key]) for task, key in zip(tasks, keys, strict=True)])


def _row(task: Task, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "environment": task.environment, "arm": task.arm, **task.scaling, **dict(task.changes), "draw": task.draw,
        **figures,
    }  # fmt: skip


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """Finished tasks; a last line that was cut off is left out."""
    if not file.exists():
        return {}
    found: dict[str, dict[str, Any]] = {}
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            found[entry["key"]] = entry["figures"]
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise MlscaleError(f"line {number} is none of a sweep", str(file), "name another file") from error
    return found


@contextmanager
def _writable(file: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Appends lines, each whole on the disk before the next."""
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
        raise MlscaleError(error.strerror or str(error), str(file), "name a file that can be written") from error


@contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """Ray, started for the length of the block unless one runs at ``address``."""
    import ray

    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise MlscaleError(str(error), f"Ray at {address}", "start one there, or leave the address out") from error
    try:
        yield ray
    finally:
        ray.shutdown()
