"""From what a user wrote to settings that an environment accepts; each error names the setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from mlscale.environments import App, Environment, Scaling
from mlscale.runs import MlscaleError


def settings_of(
    environment: Environment, app: App, arm: str, overrides: Mapping[str, Any] | Scaling | None
) -> dict[str, Scaling]:
    """The settings of every component: the arm's, with ``overrides`` put over them.

    Raises:
        MlscaleError: a setting that the environment lacks, or a value it refuses.
    """
    if isinstance(overrides, Scaling):
        return {component.name: overrides for component in app.components}
    base = environment.arm(arm)
    try:
        scaling = type(base).model_validate({**base.model_dump(), **(overrides or {})})
    except ValidationError as error:
        raise setting_error(error, environment.name, type(base)) from error
    return {component.name: scaling for component in app.components}


def setting_error(error: ValidationError, where: str, model: type[Scaling]) -> MlscaleError:
    """One line that names the setting."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields))
        return MlscaleError(f"unknown setting {name!r}", where, f"choose one of: {known}")
    what = f"setting {name!r}: {first['msg']}" if name else first["msg"]
    return MlscaleError(f"{what} (given: {first['input']!r})" if name else what, where, "give it another value")


def parse_settings(pairs: Sequence[str]) -> dict[str, str]:
    """``["max_replicas=2"]`` to ``{"max_replicas": "2"}``; types are the environment's business.

    Raises:
        MlscaleError: a pair without "=", or a name given twice.
    """
    parsed: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise MlscaleError(f"{pair!r} is not KEY=VALUE", "--scaling", "write for example max_replicas=2")
        if name.strip() in parsed:
            raise MlscaleError(f"{name.strip()!r} is given twice", "--scaling", "give it once")
        parsed[name.strip()] = value.strip()
    return parsed
