"""A notebook's parameters: checked before anything is measured, so that a slip of the pen costs a second, not a run.

papermill only warns of a parameter that a notebook does not have. Here that is an error, in two places: before a
notebook is executed (`declared`, `check_declared`), and in the notebook itself (`check_parameters`), so that it holds
for ``papermill notebook.ipynb -p NAME VALUE`` too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlscale.measurement.labels import Labels
from mlscale.runs import Arm, Connections, MlscaleError, Mode, Schedule


class NotebookParameters(BaseModel):
    """What every notebook of an environment or comparison takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_dirs: tuple[Path, ...] = Field(default=(), description="runs to draw")
    figures: Path | None = Field(default=None, description="where figures are written; none: they are only shown")
    level_s: float | None = Field(default=None, gt=0, description="L; none: the protocol's")
    seed: int = Field(default=0, ge=0)


class MeasureParameters(NotebookParameters):
    """02_torchserve, 03_rayserve: measure one run (``run_dirs`` empty), or draw those given."""

    out: Path | None = Field(default=None, description="the new run's folder; none: a fresh one below runs/by-hand")
    mode: Mode = "live"
    arm: Arm = "matched"
    scaling: dict[str, Any] = Field(default={}, description="settings put over the arm's")
    schedule: Schedule | None = Field(default=None, description="none: the protocol's quick schedule of 60 s")
    photos: Path | None = Field(default=None, description="none: the protocol's")
    connections: Connections = "fresh"
    partitioned: bool = Field(default=False, description="the application in two components, which scale apart")
    idle_s: float = Field(default=30.0, ge=0)
    labels: Labels = Labels()


class KubernetesParameters(MeasureParameters):
    """04_k3s: what the other notebooks of environments take, and runs that change one thing each."""

    more_run_dirs: tuple[Path, ...] = Field(
        default=(), description="runs with kept connections, another CFS period, another readiness probe"
    )
    measure_more: bool = Field(default=False, description="measure one of each now; a few minutes each")


class RehearsalParameters(KubernetesParameters):
    """06_eks: the same; its ``more_run_dirs`` are runs of k3s under the same load, its ``measure_more`` another boot
    time and a buffer."""

    mode: Mode = "rehearsal"


class ApplicationParameters(BaseModel):
    """01_application: it looks at the application alone and takes no runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, ge=0, description="of the photos that are shown")
    photos_per_level: int = Field(default=40, ge=4, le=2000, description="photos measured for each difficulty")
    load_photos: int = Field(default=8, ge=1, le=100, description="photos chosen for a load set")


class PartitionParameters(NotebookParameters):
    """08_partition: measure the application whole and in components (``run_dirs`` empty), or draw the runs given."""

    environments: tuple[str, ...] = Field(default=("torchserve", "rayserve"), min_length=1)
    out: Path | None = Field(default=None, description="folder of the new runs; none: a fresh one below runs/by-hand")
    arm: Arm = "static-max"
    scaling: dict[str, Any] = Field(default={}, description="settings put over the arm's, in every run")
    schedule: Schedule | None = Field(default=None, description="none: two clients for 15 s, then twelve for 30 s")
    photos: Path | None = Field(default=None, description="none: the protocol's")
    idle_s: float = Field(default=5.0, ge=0)
    repeats: int = Field(default=1, ge=1, le=20, description="runs of each way")


class CompareParameters(NotebookParameters):
    """07_compare."""

    p_values: bool = Field(default=True, description="false: intervals only, such as for one quick block")
    cell: Literal["core", "shipped", "open", "sensitivity"] = "core"


class TwinParameters(NotebookParameters):
    """09_twin: hold the twin against formulas, SimPy, and live runs that it was not made from."""

    draws: int = Field(default=8, ge=2, le=1000, description="simulated runs for each live one")
    seeds: int = Field(default=16, ge=3, le=1000, description="simulated runs of each queue with a known answer")
    requests: float = Field(default=40_000, ge=1000, le=1e9, description="requests in each of them")


class EcsParameters(NotebookParameters):
    """05_ecs: simulate ECS; ``run_dirs`` (simulated runs of it) are drawn instead where some are named."""

    arm: Arm = "matched"
    scaling: dict[str, Any] = Field(default={}, description="settings put over the arm's")
    schedule: Schedule | None = Field(default=None, description="none: core's step, watched for 15 minutes")
    draws: int = Field(default=8, ge=1, le=1000, description="simulated runs")


Model = TypeVar("Model", bound=BaseModel)


def check_parameters(model: type[Model], namespace: Mapping[str, Any]) -> Model:
    """The parameters that stand in a notebook's ``globals()``, checked.

    Args:
        model: what the notebook takes.
        namespace: ``globals()``, at the cell after the one tagged ``parameters``.
    Raises:
        MlscaleError: a value of the wrong type, or a name injected by papermill that the notebook does not have.
    """
    injected = {name for source in namespace.get("In", ()) for name in _assigned(source, papermill_only=True)}
    check_declared(injected, model.model_fields, "this notebook")
    return checked(model, {name: namespace[name] for name in model.model_fields if name in namespace})


def checked(model: type[Model], values: Mapping[str, Any]) -> Model:
    """``model`` from ``values``; an error names the parameter."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise MlscaleError(
            f"parameter {name!r}: {first['msg']} (given: {first['input']!r})", "parameters", "give it another value"
        ) from error


def check_declared(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise MlscaleError for a name that is not among ``known``."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise MlscaleError(f"unknown parameter {unknown[0]!r}", where, f"choose one of: {', '.join(sorted(known))}")


def declared(notebook: Path) -> frozenset[str]:
    """The names that the cell tagged ``parameters`` of a notebook assigns.

    Raises:
        MlscaleError: there is no such notebook, or it has no such cell.
    """
    import nbformat

    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise MlscaleError(f"not a notebook that can be read: {error}", str(notebook), "restore it") from error
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    if not tagged:
        raise MlscaleError("no cell is tagged 'parameters'", str(notebook), "tag the one that assigns them")
    return frozenset(name for cell in tagged for name in _assigned(cell.source, papermill_only=False))


def _assigned(source: str, *, papermill_only: bool) -> set[str]:
    if papermill_only and not source.startswith("# Parameters\n"):
        return set()
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a cell with a magic in it assigns no parameter
        return set()
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
