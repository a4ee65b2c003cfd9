"""Which machines an autoscaler may add: settings of every environment with machines, and their checks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Field, field_validator

from mlscale.environments.base import PaidBy, Problem
from mlscale.environments.machine_types import RESERVED_CORES, catalogue
from mlscale.runs import MlscaleError


class MachineChoice(BaseModel):
    """Put before a `Scaling` among the bases of its settings class."""

    machine_types: tuple[str, ...] = Field(
        default=("rehearsal.small",), min_length=1, description="allowed machine types"
    )
    max_machines: int = Field(
        default=6, ge=1, le=60, description="most machines, if all are of the smallest type (a limit on memory)"
    )
    boot: str = Field(
        default="ec2", description="boot times: a name in the list of machine types, or a constant such as 10s"
    )

    @property
    def longest_boot_s(self) -> float:
        """The longest of the boot times."""
        return max(catalogue().boot_times_of(self.boot).samples_s)

    @field_validator("machine_types", mode="before")
    @classmethod
    def _from_text(cls, given: object) -> object:
        """As the command line gives them: names with commas between, or a JSON list."""
        if not isinstance(given, str):
            return given
        return json.loads(given) if given.startswith("[") else [name.strip() for name in given.split(",")]

    @classmethod
    def paid_by(cls, settings: Mapping[str, Any]) -> PaidBy:
        """A machine is an instance."""
        return "instances"


def machine_problems(
    chosen: MachineChoice, cpu_cores: float, where: str, *, cores: Mapping[str, float], offered: Iterable[str]
) -> Iterator[Problem]:
    """Why there are no such machines, or none with room for a replica of ``cpu_cores``.

    Args:
        cores: of all types that there are. offered: those to choose from.
    """
    unknown = [name for name in chosen.machine_types if name not in cores]
    if unknown:
        remedy = f"set --scaling machine_types=... (choose from: {', '.join(offered)})"
        yield Problem(f"unknown machine type {', '.join(unknown)}", where, remedy)
        return
    room = max(cores[name] for name in chosen.machine_types) - RESERVED_CORES
    if cpu_cores > room:
        yield Problem(
            f"a replica requests {cpu_cores:g} cores, the largest machine has {room:g} for replicas",
            where,
            "lower cpu_cores, or allow a larger type (machine_types)",
        )


def boot_problems(chosen: MachineChoice, where: str) -> Iterator[Problem]:
    """Why there are no such boot times."""
    try:
        catalogue().boot_times_of(chosen.boot)
    except MlscaleError as error:
        yield Problem(error.what, f"{where}, boot", error.remedy)
