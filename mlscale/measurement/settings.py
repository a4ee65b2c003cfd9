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

    Replicas are the application's: where it has several components, they share them evenly, the first ones one more
    where that doesn't come out, each at least one (METHOD §4). A key "component.setting" is one component's own, and
    put over its share.

    Raises:
        MlscaleError: a setting that the environment lacks, a value it refuses, or a component that is not there.
    """
    names = [component.name for component in app.components]
    common, own = ({}, {}) if isinstance(overrides, Scaling) else _by_component(overrides or {}, names)
    base = overrides if isinstance(overrides, Scaling) else environment.arm(arm)
    whole = _with(base, common, environment.name)
    low, high = _shares(whole.min_replicas, len(names)), _shares(whole.max_replicas, len(names))
    scalings = {}
    for name, least, most in zip(names, low, high, strict=True):
        share = whole.model_copy(update={"min_replicas": least, "max_replicas": most})
        scalings[name] = _with(share, own.get(name, {}), environment.name)
    return scalings


def _by_component(
    overrides: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The settings for all components, and those of each alone."""
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for key, value in overrides.items():
        component, dot, setting = key.rpartition(".")
        if dot and component not in names:
            raise MlscaleError(
                f"there is no component {component!r}", f"setting {key!r}", f"choose one of: {', '.join(names)}"
            )
        (own.setdefault(component, {}) if dot else common)[setting] = value
    return common, own


def _with(base: Scaling, changes: Mapping[str, Any], where: str) -> Scaling:
    try:
        return type(base).model_validate({**base.model_dump(), **changes})
    except ValidationError as error:
        raise setting_error(error, where, type(base)) from error


def _shares(replicas: int, components: int) -> list[int]:
    """So many replicas, divided: [2, 1] of 3 for two components."""
    return [max(1, replicas // components + (number < replicas % components)) for number in range(components)]


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
