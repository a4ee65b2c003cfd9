"""What the experiment's notebooks call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from mlscale.environments.base import App, own_model
from mlscale.notebook.parameters import MeasureParameters, check_parameters
from mlscale.notebook.study import Study


class ModelParameters(MeasureParameters):
    """environment.ipynb: measure one run of a model, or draw the runs in ``run_dirs``."""

    environment: str = "torchserve"
    application: dict[str, Any] = Field(
        default={}, description="name, version, entry (package.module:factory), calls, check; empty: draw runs only"
    )


def application_parameter(app: App, calls: Mapping[str, str]) -> dict[str, Any]:
    """``app`` as `ModelParameters` takes it."""
    front = next(component for component in app.components if component.name == app.front)
    return {"name": app.name, "version": app.version, "entry": front.entry, "calls": dict(calls), "check": app.check}


def study(namespace: Mapping[str, Any]) -> Study:
    """The runs that environment.ipynb is about: those named, else one that is measured now.

    Args:
        namespace: the notebook's ``globals()``.

    Raises:
        MlscaleError: as `mlscale.Study`.
    """
    p = check_parameters(ModelParameters, namespace)
    app = None
    if p.application:
        given = p.application
        app = replace(
            own_model(given["entry"], **given["calls"]),
            name=given["name"],
            version=given["version"],
            check=given["check"],
        )
    return Study(p.environment, p.environment, namespace, ModelParameters, app)
