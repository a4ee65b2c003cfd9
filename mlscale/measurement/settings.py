"""Converts a user's settings into those of an environment; every error names the setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from mlscale.environments import App, Environment, Scaling
from mlscale.errors import invalid_value
from mlscale.runs import MlscaleError

# Which bound follows which in an arm without an autoscaler.
_FIXED: Final = {"static-min": ("max_replicas", "min_replicas"), "static-max": ("min_replicas", "max_replicas")}


def settings_of(
    environment: Environment, app: App, arm: str, overrides: Mapping[str, Any] | Scaling | None
) -> dict[str, Scaling]:
    """The settings of every component: the arm's, overridden by ``overrides``; in a static arm the number of replicas
    stays fixed.

    The arm's replicas are divided evenly among the components, at least one each; the first components get the
    remainder (METHOD §4). A key "component.setting" overrides one component's setting after that.

    Raises:
        MlscaleError: an unknown setting or component, or a value that the environment refuses.
    """
    names = [component.name for component in app.components]
    common, own = ({}, {}) if isinstance(overrides, Scaling) else _by_component(overrides or {}, names)
    base = overrides if isinstance(overrides, Scaling) else environment.arm(arm)
    whole = _with(base, common, environment.name, arm)
    low, high = _shares(whole.min_replicas, len(names)), _shares(whole.max_replicas, len(names))
    scalings = {}
    for name, least, most in zip(names, low, high, strict=True):
        share = whole.model_copy(update={"min_replicas": least, "max_replicas": most})
        scalings[name] = _with(share, own.get(name, {}), environment.name, arm)
    return scalings


def _by_component(
    overrides: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The settings for all components, and the settings by component."""
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for key, value in overrides.items():
        component, dot, setting = key.rpartition(".")
        if dot and component not in names:
            raise MlscaleError(
                f"unknown component {component!r}", f"setting {key!r}", f"choose one of: {', '.join(names)}"
            )
        (own.setdefault(component, {}) if dot else common)[setting] = value
    return common, own


def _with(base: Scaling, changes: Mapping[str, Any], where: str, arm: str) -> Scaling:
    settings = {**base.model_dump(), **changes}
    if changes and arm in _FIXED:
        follows, number = _FIXED[arm]
        settings[follows] = settings[number]
    try:
        return type(base).model_validate(settings)
    except ValidationError as error:
        raise invalid_value(error, "setting", where, type(base)) from error


def _shares(replicas: int, components: int) -> list[int]:
    """Replicas by component: 3 replicas for two components are [2, 1]."""
    return [
        max(min(1, replicas), replicas // components + (number < replicas % components)) for number in range(components)
    ]


def parse_settings(pairs: Sequence[str], option: str = "--scaling", example: str = "max_replicas=2") -> dict[str, str]:
    """``["max_replicas=2"]`` becomes ``{"max_replicas": "2"}``; the environment converts the types.

    Raises:
        MlscaleError: a pair without "=", or a duplicate name.
    """
    parsed: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise MlscaleError(f"{pair!r} is not KEY=VALUE", option, f"write, for example, {example}")
        if name.strip() in parsed:
            raise MlscaleError(f"{name.strip()!r} is given twice", option, "keep one of them")
        parsed[name.strip()] = value.strip()
    return parsed
