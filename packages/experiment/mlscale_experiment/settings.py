"""experiment.yaml: what to measure, of which model; everything but the model and its bodies has a default."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlscale import environments as installed
from mlscale.atomic import write_text
from mlscale.commands.new_app import skeleton
from mlscale.environments.base import App, own_model
from mlscale.errors import first_invalid
from mlscale.runs import MlscaleError
from mlscale_experiment.experiment import Selection
from mlscale_experiment.plan import CELLS

NAME: Final = "experiment.yaml"
_CONFIG: Final = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Application(BaseModel):
    """The model: ``entry`` and ``calls`` as in `mlscale measure --app`, "package.module:factory"."""

    model_config = _CONFIG

    entry: str = Field(pattern=r"^[\w.]+:\w+$")
    calls: Mapping[str, str] = {}
    requirements: Path | None = None
    check: str | None = None


class Settings(BaseModel):
    """The contents of `NAME`. ``folder``: where it lies; its paths are absolute once it is read."""

    model_config = _CONFIG

    folder: Path = Field(exclude=True)
    application: Application
    bodies: Path
    environments: tuple[str, ...] = ()
    cells: tuple[str, ...] = Field(default=("core",), min_length=1)
    blocks: int = Field(default=8, ge=1, le=1000)
    level_s: float | None = Field(default=None, gt=0)
    p95_s: float | None = Field(default=None, gt=0)
    trace: Path | None = None
    at_most_h: float = Field(default=8.0, gt=0)
    seed: int = Field(default=0, ge=0)

    @field_validator("cells")
    @classmethod
    def _known(cls, cells: tuple[str, ...]) -> tuple[str, ...]:
        known = [cell.name for cell in CELLS]
        unknown = [name for name in cells if name not in known]
        if unknown:
            raise ValueError(f"unknown cell {unknown[0]!r}; choose from {', '.join(known)}")
        return cells

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def import_root(self) -> Path:
        """The folder from which the model is imported: this one, the one above, or the working folder."""
        top = self.application.entry.partition(":")[0].partition(".")[0]
        for root in (self.folder, self.folder.parent, Path.cwd()):
            if (root / top).is_dir() or (root / f"{top}.py").is_file():
                return root
        return self.folder

    def with_environments(self) -> Self:
        """With the environments that can be measured here where none is named."""
        if self.environments:
            return self
        names = ("torchserve", "rayserve", *(("k3s",) if _own_cluster() else ()))
        return self.model_copy(update={"environments": names})

    def selected(self, selection: Selection) -> Self:
        """With what a command's options ask for.

        Raises:
            MlscaleError: an environment that is not installed, or a cell that there is not.
        """
        asked = {name: getattr(selection, name) for name in ("environments", "cells", "blocks", "seed")}
        changes = {name: value for name, value in asked.items() if value is not None}
        for name in changes.get("environments", ()):
            installed.get(name)
        try:
            return type(self).model_validate(self.model_dump() | {"folder": self.folder} | changes)
        except ValidationError as error:
            raise MlscaleError(first_invalid(error), "the command's options", "correct them") from error

    def app(self) -> App:
        """The application; its version is a hash of the modules named in it, so that changed code is noticed."""
        app = own_model(self.application.entry, **self.application.calls)
        return replace(app, name=self.name, version=self._version(), check=self.application.check)

    def _version(self) -> str:
        digest = hashlib.sha256()
        for entry in (self.application.entry, *self.application.calls.values()):
            digest.update(entry.encode() + _source(entry.partition(":")[0], self.import_root))
        return digest.hexdigest()[:12]


def read(folder: Path) -> Settings:
    """Read `NAME` in ``folder`` (or that file itself).

    Raises:
        MlscaleError: there is none, or it is broken; names the field.
    """
    file = folder if folder.is_file() else folder / NAME
    if not file.is_file():
        raise MlscaleError(f"there is no {NAME}", str(folder), f"mlscale experiment init {folder}, or mlscale new-app")
    where = file.resolve().parent
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise MlscaleError(f"can't be read: {' '.join(str(error).split())}", str(file), "correct it") from error
    if not isinstance(content, dict):
        raise MlscaleError("not a mapping of settings", str(file), "mlscale experiment init writes one to start from")
    try:
        settings = Settings.model_validate({**content, "folder": where})
    except ValidationError as error:
        raise MlscaleError(first_invalid(error), str(file), "correct it") from error
    return _checked(settings, file)


def _checked(settings: Settings, file: Path) -> Settings:
    """With absolute paths; every file that it names is there, every environment is installed."""
    for name in settings.environments:
        installed.get(name)
    application = settings.application
    places = {
        "bodies": settings.bodies,
        "trace": settings.trace,
        "application.requirements": application.requirements,
    }
    for field, path in places.items():
        if path is not None and not (settings.folder / path).exists():
            raise MlscaleError(f"{field}: there is no {settings.folder / path}", str(file), "name an existing one")
    requirements = application.requirements and settings.folder / application.requirements
    changes = {
        "bodies": settings.folder / settings.bodies,
        "trace": settings.trace and settings.folder / settings.trace,
        "application": application.model_copy(update={"requirements": requirements}),
    }
    return settings.model_copy(update=changes)


def init(folder: Path) -> Path:
    """Write `NAME` beside a model: ``folder`` holds a module with a function ``make``, and its bodies.

    Raises:
        MlscaleError: no such module or folder of bodies, or the file exists.
    """
    file = folder / NAME
    if file.exists():
        raise MlscaleError("it exists already", str(file), "change it, or delete it")
    if not folder.is_dir():
        raise MlscaleError("there is no such folder", str(folder), "name the folder of a model, or mlscale new-app")
    models = [module for module in sorted(folder.glob("*.py")) if "\ndef make(" in f"\n{module.read_text()}"]
    if not models:
        remedy = f"write `def make()` in {folder / 'model.py'} (docs/own-model.md), or mlscale new-app"
        raise MlscaleError("no module in it defines make()", str(folder), remedy)
    chosen = next((module for module in models if module.stem == "model"), models[0])
    bodies = next((name for name in ("bodies", "photos", "inputs", "data") if (folder / name).is_dir()), None)
    if bodies is None:
        raise MlscaleError("no folder of files to send in it", str(folder), f"put ten of them into {folder / 'bodies'}")
    package = f"{folder.resolve().name}." if (folder / "__init__.py").exists() else ""
    entry = f"{package}{chosen.stem}:make"
    write_text(file, skeleton(NAME, name=folder.resolve().name, entry=entry, bodies=bodies))
    return file


def make_importable(settings: Settings) -> None:
    """Import the model from its root here and in the processes that this one starts, whatever the working folder."""
    root = str(settings.import_root)
    if root not in sys.path:
        sys.path.insert(0, root)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    os.chdir(root)  # replicas get it as a working folder does (mlscale.importing.add_working_folder)


def _source(module: str, root: Path) -> bytes:
    file = root.joinpath(*module.split(".")).with_suffix(".py")
    if file.is_file():
        return file.read_bytes()
    try:
        found = util.find_spec(module)
    except (ImportError, ValueError):
        return b""
    return Path(found.origin).read_bytes() if found and found.origin and Path(found.origin).is_file() else b""


def _own_cluster() -> bool:
    """Whether `make cluster` made one here, running or stopped; runs go to another one only where k3s is named."""
    from onenode.layout import default_layout

    return default_layout().settings.exists()
