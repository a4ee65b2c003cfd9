"""protocol.json: the numbers that a pilot fixes before the data they judge exist (METHOD §4, §5)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlscale.atomic import write_text
from mlscale.errors import first_invalid
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, OpenLoop, Staircase, Step

FILE: Final = "protocol.json"
_ADDED_LATER: Final = ("replicas", "cpu_cores", "costs", "timeout_s")
# How long ``matched`` waits without a request before it ends the last replica; a replica then drains and ends; and how
# long a first replica takes where no pilot has measured it, s.
_COOLDOWN_S: Final = 30.0
_ASLEEP_S: Final = 30.0
_WAKE_S: Final = 20.0
# Folders beside those of cells, in which runs may lie.
_NO_CELLS: Final = ("quick", "incomplete", "executed")


class Bodies(BaseModel):
    """What the load sends: every body is answered without error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = Field(description="relative to the folder of protocol.json")
    count: int = Field(ge=1)
    sha256: str = Field(default="", description="over names and bytes of the files")
    cpu_mean_s: float | None = None
    cpu_min_s: float | None = None
    cpu_max_s: float | None = None

    @field_validator("folder")
    @classmethod
    def _is_below(cls, folder: str) -> str:
        """An experiment copies them to the same place beside its runs, and touches nothing outside."""
        path = PurePosixPath(folder)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError("name a folder below that of protocol.json")
        return folder


class Protocol(BaseModel):
    """What all runs of an experiment have in common; ``why``: where each number comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    version: Literal[1] = 1
    origin: Literal["pilot", "default"] = Field(
        description="measured by a pilot, or defaults that no pilot has checked"
    )
    made_at: str = ""
    host: Mapping[str, Any] = {}
    # Protocols written before any model could be measured call them photos, and so do their hashes.
    bodies: Bodies = Field(validation_alias=AliasChoices("bodies", "photos"), serialization_alias="photos")
    replicas: int = Field(default=4, ge=1, le=64, description="of every environment, at most")
    cpu_cores: float = Field(default=0.3, gt=0, description="CPU quota of a replica, cores")
    think_mean_s: float = Field(ge=0, description="mean think time of a client, s")
    think: Literal["exponential", "constant"] = "exponential"
    baseline_clients: int = Field(default=2, ge=1)
    step_clients: int = Field(ge=2)
    baseline_s: float = Field(default=45.0, gt=0)
    baseline_jitter_s: float = Field(default=15.0, ge=0)
    horizon_s: float = Field(default=120.0, gt=0, description="H: how long the step is watched, s")
    level_s: float = Field(gt=0, description="L: the moving mean that counts as good, s, one for all environments")
    open_baseline_rps: float = Field(gt=0)
    open_step_rps: float = Field(gt=0)
    quick_baseline_s: float = Field(default=15.0, gt=0)
    quick_duration_s: float = Field(default=60.0, gt=0)
    capacity_rps: Mapping[str, float] = Field(
        default={}, description="answers per second of one replica, by environment; of earlier pilots"
    )
    costs: Mapping[str, Mapping[str, float]] = Field(
        default={}, description="what an answer demands, by environment (mlscale.measurement.sizing.Demand)"
    )
    start_s: Mapping[str, float] = Field(default={}, description="from nothing to the first replica warmed up, s")
    matched: Mapping[str, Mapping[str, Any]] = Field(default={}, description="settings of the arm matched, frozen")
    timeout_s: float = Field(default=30.0, gt=0, description="of a request, s")
    why: Mapping[str, str] = Field(default={}, description="field -> where its number comes from")

    @property
    def sizes(self) -> dict[str, Any]:
        """The settings that every arm of every environment has in common."""
        return {"max_replicas": self.replicas, "cpu_cores": self.cpu_cores}

    def sized(self, environment: str, scaling: Mapping[str, Any], schedule: object) -> dict[str, Any]:
        """``scaling`` over `sizes` where the load is the protocol's (no ``schedule`` of one's own): it is for its
        replicas, in the nearest size that the environment offers."""
        from mlscale import environments

        return dict(scaling) if schedule else {**environments.get(environment).settings.sized(self.sizes), **scaling}

    def closed_schedule(self, baseline_s: float) -> ClosedLoop:
        """Schedule S of METHOD §5 with a baseline of ``baseline_s``."""
        return self._closed(baseline_s, baseline_s + self.horizon_s)

    def open_schedule(self, baseline_s: float) -> OpenLoop:
        """The open-loop twin of S: Poisson, the rate that gives the same baseline utilisation, then the step."""
        steps = (
            Step(start_s=0, rate_rps=self.open_baseline_rps),
            Step(start_s=baseline_s, rate_rps=self.open_step_rps),
        )
        return OpenLoop(duration_s=baseline_s + self.horizon_s, rate=Staircase(steps=steps), arrivals="poisson")

    def zero_schedule(self) -> OpenLoop:
        """Idle until nothing runs, one request, idle until nothing runs again, and the step's rate for five seconds
        (METHOD §5)."""
        wake_s = max(self.start_s.values(), default=_WAKE_S)
        rest_s = _COOLDOWN_S + _ASLEEP_S + wake_s
        burst_s = 2 * rest_s + wake_s
        rates = ((0.0, 0.0), (rest_s, 1.0), (rest_s + 1, 0.0), (burst_s, self.open_step_rps))
        steps = tuple(Step(start_s=round(at_s, 1), rate_rps=rate_rps) for at_s, rate_rps in rates)
        return OpenLoop(duration_s=round(burst_s + 5, 1), rate=Staircase(steps=steps), arrivals="even")

    def quick_schedule(self) -> ClosedLoop:
        """S in 60 s, for a first look."""
        return self._closed(self.quick_baseline_s, self.quick_duration_s)

    def _closed(self, step_s: float, duration_s: float) -> ClosedLoop:
        return ClosedLoop(
            duration_s=duration_s,
            stages=(
                ClosedStage(start_s=0, clients=self.baseline_clients),
                ClosedStage(start_s=step_s, clients=self.step_clients),
            ),
            think_mean_s=self.think_mean_s,
            think=self.think,
        )

    def sha256(self) -> str:
        """Identifies this protocol; an experiment belongs to one. Fields added later don't count at their defaults, so
        published experiments keep their identity."""
        at_default = {name for name in _ADDED_LATER if getattr(self, name) == type(self).model_fields[name].default}
        return hashlib.sha256(self.model_dump_json(exclude=at_default, by_alias=True).encode()).hexdigest()


def read_protocol(file: Path) -> Protocol | None:
    """The protocol in ``file``; None where there is none yet.

    Raises:
        MlscaleError: the file is broken or of another version.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(file), "make it readable") from error
    try:
        return Protocol.model_validate_json(content)
    except ValidationError as error:
        raise MlscaleError(
            f"broken: {first_invalid(error)}", str(file), "restore it, or delete it and run the pilot again"
        ) from error


def other_host(protocol: Protocol) -> str | None:
    """A description of the pilot's host if it isn't this one, so that its capacities and L may not fit; else None."""
    if protocol.origin != "pilot" or not protocol.host:
        return None
    from mlscale.host.facts import host_facts
    from mlscale.runs.info import host_name

    pilot_host = host_name(dict(protocol.host))
    return pilot_host if pilot_host != host_name(host_facts()) else None


def bodies_folder(protocol: Protocol, file: Path) -> Path:
    """The folder of the files that the load of ``protocol`` sends, read from ``file``."""
    return file.parent / protocol.bodies.folder


def write_protocol(file: Path, protocol: Protocol, runs: Path) -> None:
    """Fix a protocol, once: numbers are never moved after the data they judge.

    Raises:
        MlscaleError: blocks measured under another protocol exist below ``runs``, or the file can't be written.
    """
    check_free(file, runs)
    write_text(file, protocol.model_dump_json(indent=2) + "\n")


def check_free(file: Path, runs: Path) -> None:
    """Raise MlscaleError where blocks were measured below ``runs``: the protocol in ``file`` is fixed then."""
    if blocks_exist(runs):
        raise MlscaleError(
            f"blocks measured under the present protocol exist below {runs}; it is not moved afterwards",
            str(file),
            "name another --runs, or move those runs away",
        )


def blocks_exist(runs: Path) -> bool:
    """Whether a run of a block of any cell (quick ones apart) was begun below ``runs``."""
    return any(
        next(block.rglob("run.json"), None)
        for cell in (runs.iterdir() if runs.is_dir() else ())
        if cell.name not in _NO_CELLS
        for block in (*cell.glob("block-*"), *cell.glob("*/block-*"))
    )
