"""What the options of commands have in common: settings as ``--set KEY=VALUE``, and options that have a new name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from mlscale.errors import MlscaleError, invalid_value

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Arm = Annotated[str, typer.Option(help="settings: matched, shipped, static-min or static-max")]
OwnModel = Annotated[
    str | None, typer.Option(help="your own model, as package.module:factory; default: the code reader")
]
ScalingChanges = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE overrides a setting of the arm; readers.KEY=VALUE for one component only"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Model = TypeVar("Model", bound="BaseModel")
Command = TypeVar("Command", bound=Callable[..., Any])
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="repeatable; the keys are below")
]


class SettingsCommand(TyperCommand):
    """A command whose help ends with the keys of ``--set``: the fields of the model that `takes` names."""

    @property
    def epilog(self) -> str | None:  # type: ignore[override]
        module, _, model = getattr(self.callback, "settings_model", "").partition(":")
        if not model:
            return None
        fields = getattr(import_module(module), model).model_fields
        return "Keys of --set: " + "; ".join(_described(*field) for field in fields.items()) + "."

    @epilog.setter
    def epilog(self, text: str | None) -> None: ...


def _described(name: str, field: FieldInfo) -> str:
    default = "" if field.default in (None, {}) else f"={field.default}".removesuffix(".0")
    return f"{name}{default} ({field.description})"


def takes(model: str) -> Callable[[Command], Command]:
    """Decorator of a command with ``--set``, whose keys are the fields of ``model``, "package.module:Model": it is
    imported only to print the help."""

    def mark(command: Command) -> Command:
        vars(command)["settings_model"] = model
        return command

    return mark


def read_set(model: type[Model], pairs: Sequence[str] | None) -> Model:
    """The settings of ``--set KEY=VALUE``, given any number of times; "headers.NAME=VALUE" is an entry of a mapping.

    Raises:
        MlscaleError: a pair without "=", an unknown key, or a value that the model refuses.
    """
    from pydantic import ValidationError

    from mlscale.measurement.settings import parse_settings

    given: dict[str, Any] = {}
    for key, value in parse_settings(pairs or [], "--set", "timeout_s=10").items():
        group, dot, name = key.partition(".")
        if dot:
            given[group] = {**given.get(group, {}), name: value}
        else:
            given[key] = value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid_value(error, "setting", "--set", model) from error


def formerly(*settings: str, **present: str) -> Callable[[Command], Command]:
    """Decorator of a command that had other options: who types one is told how it is spelt now.

    Args:
        settings: options that are now keys of --set; present: others, such as ``timeout="--set timeout_s="``.
    """
    spellings = {name: f"--set {name}=" for name in settings} | present

    def mark(command: Command) -> Command:
        vars(command)["formerly"] = {f"--{name.replace('_', '-')}": spelt for name, spelt in spellings.items()}
        return command

    return mark


def present_spelling(error: Exception) -> str | None:
    """What stands for an option that a command no longer has (`formerly`), if that is the error."""
    context, option = getattr(error, "ctx", None), getattr(error, "option_name", None)
    present = None if context is None else getattr(context.command.callback, "formerly", {}).get(option)
    return present and f"{option} is now {present}"


def refuse(options: Mapping[str, object], when: str) -> None:
    """Raise MlscaleError if one of ``options`` is given although it would be ignored; ``when``: "without --app"."""
    given = next((name for name, value in options.items() if value), None)
    if given is not None:
        raise MlscaleError(f"it has no effect {when}", given, f"remove {given}")


def finite(value: float | None) -> float | None:
    """The value of an option: infinity is within any ``min``."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value
