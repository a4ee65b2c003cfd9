"""A notebook's parameters, checked before anything is measured, so that a typo costs a second, not a run.

papermill only warns of unknown parameters. Here they are an error, in two places: before a notebook is executed
(`declared`, `check_declared`), and in the notebook itself (`check_parameters`), which also covers
``papermill notebook.ipynb -p NAME VALUE``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlscale.errors import invalid_value
from mlscale.loadgen.schedule_files import read_schedule
from mlscale.measurement.labels import Labels
from mlscale.measurement.measure import MeasureSettings
from mlscale.runs import (
    ClosedLoop,
    MlscaleError,
    Mode,
    OpenLoop,
    Preset,
    Schedule,
    Staircase,
    Step,
)
from mlscale.runs.schedule import MAX_DURATION_S, MAX_RATE_RPS

_CONFIG: Final = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_Rate = Annotated[float, Field(ge=0, le=MAX_RATE_RPS)]


class NotebookParameters(BaseModel):
    """Common parameters of the notebooks about environments and comparisons."""

    model_config = _CONFIG

    run_dirs: tuple[Path, ...] = Field(default=(), description="runs to draw")
    figures: Path | None = Field(default=None, description="folder for the figures; none: only show them")
    level_s: float | None = Field(default=None, gt=0, description="L; none: the protocol's")
    seed: int = Field(default=0, ge=0)


class MeasureParameters(NotebookParameters, MeasureSettings):
    """02_torchserve, 03_rayserve: measure one run, or draw the runs in ``run_dirs``."""

    out: Path | None = Field(default=None, description="folder for the new run; none: a new one in runs/by-hand")
    mode: Mode = "live"
    arm: Preset = "matched"
    scaling: dict[str, Any] = Field(default={}, description="overrides the arm's settings")
    schedule: Schedule | None = Field(default=None, description="none: the protocol's quick schedule of 60 s")
    bodies: Path | None = Field(default=None, description="none: the protocol's")
    partitioned: bool = Field(default=False, description="the application in two components, which scale separately")
    labels: Labels = Labels()


class KubernetesParameters(MeasureParameters):
    """04_k3s: also draws runs that change one thing each."""

    more_run_dirs: tuple[Path, ...] = Field(
        default=(), description="runs with kept connections, another CFS period, another readiness probe"
    )
    measure_more: bool = Field(default=False, description="measure one run of each variant now; a few minutes each")


class RehearsalParameters(KubernetesParameters):
    """06_eks: ``more_run_dirs`` are runs of k3s under the same load; ``measure_more`` measures another boot time and a
    buffer."""

    mode: Mode = "rehearsal"


class ApplicationParameters(BaseModel):
    """01_application: the application by itself, without runs."""

    model_config = _CONFIG

    seed: int = Field(default=0, ge=0, description="seed of the choice of photos shown")
    photos_per_level: int = Field(default=40, ge=4, le=2000, description="photos measured for each difficulty")
    load_photos: int = Field(default=8, ge=1, le=100, description="photos in a load set")
    figures: Path | None = Field(default=None, description="folder for the figures; none: only show them")


class PartitionParameters(NotebookParameters):
    """08_partition: measure the application whole and partitioned, or draw the runs in ``run_dirs``."""

    environments: tuple[str, ...] = Field(default=("torchserve", "rayserve"), min_length=1)
    out: Path | None = Field(default=None, description="folder for the new runs; none: a new one in runs/by-hand")
    arm: Preset = "static-max"
    scaling: dict[str, Any] = Field(default={}, description="overrides the arm's settings in every run")
    schedule: Schedule | None = Field(default=None, description="none: two clients for 15 s, then twelve for 30 s")
    bodies: Path | None = Field(default=None, description="none: the protocol's")
    idle_s: float = Field(default=5.0, ge=0)
    quiet_at_most_s: float = Field(default=60.0, ge=0, description="longest wait for a quiet host")
    repeats: int = Field(default=1, ge=1, le=20, description="runs of each kind")


class CompareParameters(NotebookParameters):
    """07_compare, 07b_referee."""

    p_values: bool = Field(default=True, description="false: intervals only, for a single quick block, say")
    cell: Literal["core", "shipped", "open", "sensitivity"] = "core"


class TwinParameters(NotebookParameters):
    """09_twin: compare the twin with live runs that it was not fitted to."""

    draws: int = Field(default=4, ge=2, le=1000, description="simulated runs for each live run")


class EcsParameters(NotebookParameters):
    """05_ecs: simulate ECS, or draw the simulated runs in ``run_dirs``."""

    arm: Preset = "matched"
    scaling: dict[str, Any] = Field(default={}, description="overrides the arm's settings")
    schedule: Schedule | None = Field(default=None, description="none: core's step, watched for 15 minutes")
    draws: int = Field(default=8, ge=1, le=1000, description="simulated runs")


class StrategyParameters(BaseModel):
    """10_strategy: search for settings for a trace or a described day."""

    model_config = _CONFIG

    trace: Path | None = Field(default=None, description="CSV of arrivals or rates, or a JSON schedule")
    hourly_rps: tuple[_Rate, ...] = Field(
        default=(1.0,),
        min_length=1,
        max_length=int(MAX_DURATION_S / 3600),
        description="without a trace: rate by the hour",
    )
    p95_s: float | None = Field(default=1.0, gt=0)
    mean_s: float | None = Field(default=None, gt=0)
    sigma_s: float | None = Field(default=None, gt=0)
    error_budget: float = Field(default=0.001, gt=0, lt=1)
    max_usd_per_month: float | None = Field(default=None, gt=0)
    environments: tuple[str, ...] = Field(default=("torchserve", "rayserve", "k3s", "eks", "ecs"), min_length=1)
    settings: int = Field(default=1000, ge=10, le=100_000, description="about how many are tried")
    cpu_cores: float = Field(default=0.3, gt=0, description="of one replica")
    region: str = Field(default="us-east-1", description="of AWS, for prices")
    profiles: tuple[Path, ...] = Field(default=(), description="of mlscale calibrate, in place of the own ones")
    out: Path | None = Field(default=None, description="folder for the advice; none: only shown")
    figures: Path | None = Field(default=None, description="folder for the figures; none: only show them")
    seed: int = Field(default=0, ge=0)

    @property
    def schedule(self) -> ClosedLoop | OpenLoop:
        """The trace's load, else the described day's."""
        if self.trace is not None:
            return read_schedule(self.trace)
        steps = tuple(Step(start_s=3600.0 * hour, rate_rps=rate) for hour, rate in enumerate(self.hourly_rps))
        return OpenLoop(duration_s=3600.0 * len(steps), rate=Staircase(steps=steps))

    @property
    def search(self) -> dict[str, Any]:
        """The options of `mlscale_twin.advise`."""
        names = ("environments", "settings", "cpu_cores", "profiles", "region", "seed")
        return {name: getattr(self, name) for name in names}


Model = TypeVar("Model", bound=BaseModel)


def check_parameters(model: type[Model], namespace: Mapping[str, Any]) -> Model:
    """The checked parameters of a notebook, from its ``globals()``.

    Args:
        model: the type of the notebook's parameters.
        namespace: ``globals()``, called in the cell after the one tagged ``parameters``.

    Raises:
        MlscaleError: an invalid value, or papermill injected a name that is not a parameter of the notebook.
    """
    injected = {name for source in namespace.get("In", ()) for name in _assigned(source, papermill_only=True)}
    check_declared(injected, model.model_fields, "this notebook")
    return checked(model, {name: namespace[name] for name in model.model_fields if name in namespace})


def checked(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Build ``model`` from ``values``. Raises MlscaleError, naming the invalid parameter."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise invalid_value(error, "parameter", "parameters", model) from error


def check_declared(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise MlscaleError if one of ``names`` is not in ``known``."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise MlscaleError(f"unknown parameter {unknown[0]!r}", where, f"choose one of: {', '.join(sorted(known))}")


def declared(notebook: Path) -> frozenset[str]:
    """The names assigned in a notebook's cell tagged ``parameters``.

    Raises:
        MlscaleError: there is no such notebook, or no such cell.
    """
    import nbformat

    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise MlscaleError(f"not a readable notebook: {error}", str(notebook), "restore it") from error
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    if not tagged:
        raise MlscaleError("no cell is tagged 'parameters'", str(notebook), "tag the cell that assigns them")
    return frozenset(name for cell in tagged for name in _assigned(cell.source, papermill_only=False))


def _assigned(source: str, *, papermill_only: bool) -> set[str]:
    if papermill_only and not source.startswith("# Parameters\n"):
        return set()
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a cell with a magic assigns no parameters
        return set()
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
