"""Many simulated runs: a grid of settings with several draws each, on all cores of this machine or on a Ray cluster.

Each finished run is appended to a file as one line; a restarted sweep skips what the file holds.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mlscale.measurement.measure import Progress
from mlscale.runs import SCHEDULE, ClosedLoop, MlscaleError, OpenLoop
from mlscale_twin.profile import Profile
from mlscale_twin.studies.executors import executor


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
    profile: Mapping[str, Any] | None = None

    def key(self, code: str) -> str:
        """Identifies the task and the simulator that executes it (`simulator`)."""
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
    profile: Profile | None = None,
) -> list[Task]:
    """Every combination of the values of ``scaling`` and ``changes``, ``draws`` times; ``profile``: None: the
    environment's own."""
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
            profile=profile.model_dump(mode="json") if profile else None,
        )
        for environment in environments
        for combination in itertools.product(*values)
        for draw in range(draws)
    ]


def simulator() -> str:
    """Identifies this version of the simulator and its profiles: another one simulates a sweep's tasks again."""
    folder = Path(__file__).parents[1]
    parts = sorted(file for kind in ("py", "json") for file in folder.rglob(f"*.{kind}"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in parts)).hexdigest()


def execute(task: Task) -> dict[str, Any]:
    """Simulates a task; returns its figures from the step on, or from the start without one: response times, the share
    slower than the task's level, replicas, cost; with a step also those of `mlscale_twin.likeness`."""
    from mlscale.analysis.durations import durations, intended_between
    from mlscale.analysis.summary import span
    from mlscale.cost import read_prices, usage_of, usd_per_month
    from mlscale_twin.likeness import likeness_figures
    from mlscale_twin.simulate import SimulateOptions, simulate

    run = simulate(
        task.environment,
        schedule=SCHEDULE.validate_python(dict(task.schedule)),
        scaling=task.scaling,
        arm=task.arm,  # type: ignore[arg-type]
        profile=Profile.model_validate(task.profile) if task.profile is not None else None,
        options=SimulateOptions(seed=task.seed, draw=task.draw, changes=task.changes),
    )
    from_s, to_s = span(run)
    response_s = intended_between(durations(run.requests, timeout_s=run.info.timeout_s), from_s, to_s)["response_s"]
    figures = {
        "mean_response_s": float(response_s.mean()),
        "sd_response_s": float(response_s.std(ddof=0)),
        **{f"p{share}_response_s": float(response_s.quantile(share / 100)) for share in (50, 95, 99)},
    }
    if run.info.step_s is not None:
        figures |= likeness_figures(run, task.level_s)
    scaling = next(iter(run.info.scaling.values()))
    usage = usage_of(run, from_s, to_s)
    return {
        **figures,
        "slow_share": float((response_s > task.level_s).mean()),
        "failure_share": float((run.requests["status"] != "ok").mean()),
        "mean_replicas": usage.replicas,
        "replica_hours": usage.replicas * (to_s - from_s) / 3600,
        "usd_per_month": usd_per_month(task.environment, scaling, usage, read_prices()),
    }


def sweep(
    tasks: Sequence[Task], file: Path, *, address: str | None = None, progress: Progress | None = None
) -> pd.DataFrame:
    """Executes the tasks that ``file`` does not hold yet; returns a row per task: its settings and figures.

    Args:
        address: of a Ray cluster with this version of mlscale ("local": one started for it, or processes if it does
            not start); None: processes.

    Raises:
        MlscaleError: the file can't be written or is not a sweep's; a task is invalid; no Ray at ``address``.
    """
    done, code = _read(file), simulator()
    keys = [task.key(code) for task in tasks]
    missing = {task.key(code): task for task in tasks if task.key(code) not in done}
    if missing:
        execute(next(iter(missing.values())))  # reports invalid tasks, and compiles, before the workers start
        with _writable(file) as write, executor(address) as pool:
            jobs = {pool.submit(execute, task): key for key, task in missing.items()}
            for number, job in enumerate(as_completed(jobs), 1):
                key, figures = jobs[job], job.result()
                done[key] = figures
                write({"key": key, "task": asdict(missing[key]), "figures": figures})
                if progress is not None:
                    whole = len(tasks) - len(missing) + number
                    progress(f"{whole} of {len(tasks)} simulated", whole / len(tasks))
    return pd.DataFrame([_row(task, done[key]) for task, key in zip(tasks, keys, strict=True)])


def _row(task: Task, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "environment": task.environment, "arm": task.arm, **task.scaling, **dict(task.changes), "draw": task.draw,
        **figures,
    }  # fmt: skip


# Of each line.
_BEGIN: Final = '{"key": "'


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """Figures of finished tasks by key; a truncated last line is ignored, if it began as a result."""
    if not file.exists():
        return {}
    figures: dict[str, dict[str, Any]] = {}
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise MlscaleError(reason, str(file), "name a file for the results") from error
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            figures[entry["key"]] = entry["figures"]
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines) or not line.startswith(_BEGIN[: len(line)]):
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
