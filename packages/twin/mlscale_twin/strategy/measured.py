"""What an experiment leaves for an advice in its folder ``profiles``: profiles fitted to its runs, the objective, and
the size of a replica."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mlscale.atomic import write_text
from mlscale.errors import MlscaleError, first_invalid
from mlscale_twin.strategy.objective import Objective

FOLDER: Final = "profiles"
_FILE: Final = "advise.json"


class Measured(BaseModel):
    """``environments``: that have a profile here, and clouds that are composed with one of them; ``p95_s``, ``mean_s``:
    the objective; ``cpu_cores``, ``memory_mib``: of a replica."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    environments: tuple[str, ...]
    p95_s: float | None = None
    mean_s: float | None = None
    cpu_cores: float
    memory_mib: int

    @property
    def objective(self) -> Objective:
        return Objective(p95_s=self.p95_s, mean_s=self.mean_s)

    @property
    def search(self) -> dict[str, Any]:
        """The same as fields of `mlscale_twin.strategy.advice.AdviseOptions`."""
        return self.model_dump(include={"environments", "cpu_cores", "memory_mib"})


def write_measured(measured: Measured, experiment: Path) -> None:
    write_text(experiment / FOLDER / _FILE, measured.model_dump_json(indent=1) + "\n")


def read_measured(experiment: Path) -> tuple[Measured, list[Path]]:
    """What the experiment in that folder left, and the files of its profiles.

    Raises:
        MlscaleError: there are no profiles yet, or the file is broken.
    """
    file = experiment / FOLDER / _FILE
    remedy = f"mlscale experiment run {experiment}"
    try:
        measured = Measured.model_validate_json(file.read_bytes())
    except OSError as error:
        raise MlscaleError("no profiles were fitted to it yet", str(experiment), remedy) from error
    except ValidationError as error:
        raise MlscaleError(first_invalid(error), str(file), f"delete it, then {remedy}") from None
    profiles = [file.with_name(f"{name}.json") for name in measured.environments]
    return measured, [profile for profile in profiles if profile.exists()]  # a cloud has none of its own
