"""A control for every setting of an environment, from its pydantic model: bounds, default, description."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import ipywidgets as widgets
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from mlscale import environments
from mlscale.environments import Scaling
from mlscale.environments.machine_types import catalogue
from mlscale_twin.strategy.strategies import GRIDS

# Values between which a slider moves when its range spans more than one power of ten.
_MANTISSAS: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
# An integer range up to so wide has a slider with every value.
_NARROW: Final = 64
# A Gt bound of 0 has no smallest value: the slider begins here.
_SMALLEST: Final = 0.01
_LAYOUT: Final = {"width": "auto"}
_STYLE: Final = {"description_width": "15em"}
DEFAULT: Final = "default"


def main_settings(environment: str) -> tuple[str, ...]:
    """The settings to show first: the bounds on replicas, what `advise` varies, and what the arms set differently."""
    arms = [environments.get(environment).arm(arm) for arm in ("shipped", "matched")]
    first = ("min_replicas", "max_replicas")
    differing = (name for name in type(arms[0]).model_fields if getattr(arms[0], name) != getattr(arms[1], name))
    varied = (name for grid in GRIDS[environment] for name in grid)
    return tuple(dict.fromkeys([*first, *varied, *differing]))


def live_only(field: FieldInfo, name: str) -> bool:
    """Whether a setting concerns real deployments alone."""
    return (field.description or "").startswith("live:") or name == "image"


class Form:
    """``control``: a widget by setting; ``changed`` is called after every move."""

    def __init__(self, environment: str, scaling: Scaling, changed: Callable[[], None]) -> None:
        self.environment = environment
        self._changed = changed
        self._quiet = False
        self.control = {
            name: _control(name, field, getattr(scaling, name)) for name, field in type(scaling).model_fields.items()
        }
        for control in self.control.values():
            control.observe(self._moved, names="value")

    def values(self) -> dict[str, Any]:
        """The settings as chosen, unchecked."""
        fields = environments.get(self.environment).settings.model_fields
        return {
            name: fields[name].default if control.value in ("", DEFAULT) else control.value
            for name, control in self.control.items()
        }

    def set(self, scaling: Scaling) -> None:
        """Move every control, and call ``changed`` once."""
        self._quiet = True
        try:
            for name, control in self.control.items():
                _set(control, getattr(scaling, name))
        finally:
            self._quiet = False
        self._changed()

    def box(self) -> widgets.VBox:
        """The main settings, and below them the rest, folded."""
        fields = environments.get(self.environment).settings.model_fields
        main = main_settings(self.environment)
        rest = [name for name in fields if name not in main and not live_only(fields[name], name)]
        live = [name for name in fields if name not in main and live_only(fields[name], name)]
        folds = widgets.Accordion(
            [widgets.VBox([self.control[name] for name in names]) for names in (rest, live) if names]
        )
        for place, title in enumerate(
            ["every other setting", "live only: the twin ignores them"][: len(folds.children)]
        ):
            folds.set_title(place, title)
        return widgets.VBox([*(self.control[name] for name in main), folds])

    def _moved(self, _: Any) -> None:
        if not self._quiet:
            self._changed()


def _control(name: str, field: FieldInfo, value: Any) -> widgets.DOMWidget:
    kind, optional = _kind(field.annotation)
    common = {"description": name, "tooltip": field.description or name, "style": _STYLE, "layout": _LAYOUT}
    if get_origin(kind) is Literal:
        return widgets.Dropdown(options=list(get_args(kind)), value=value, **common)
    if get_origin(kind) is tuple:
        return widgets.SelectMultiple(options=list(catalogue().types), value=value, rows=4, **common)
    if kind is str:
        return widgets.Text(value=value or "", placeholder=DEFAULT, continuous_update=False, **common)
    low, high = _bounds(field)
    if kind is int and not optional and high - low <= _NARROW:
        return widgets.IntSlider(value=value, min=int(low), max=int(high), **common)
    steps = _steps(low, high, whole=kind is int, also=(value, field.default))
    options = [*([(DEFAULT, DEFAULT)] if optional else []), *((f"{step:g}", step) for step in steps)]
    return widgets.SelectionSlider(options=options, value=DEFAULT if value is None else value, **common)


def _set(control: Any, value: Any) -> None:
    if value is None:
        control.value = "" if isinstance(control, widgets.Text) else DEFAULT
        return
    if isinstance(control, widgets.SelectionSlider) and value not in [step for _, step in control.options]:
        numbers = sorted({step for _, step in control.options if step != DEFAULT} | {value})
        default = [(DEFAULT, DEFAULT)] if control.options[0][1] == DEFAULT else []
        control.options = [*default, *((f"{step:g}", step) for step in numbers)]
    control.value = value


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type without None, and whether None is allowed."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return kinds[0], len(kinds) < len(get_args(annotation))
    return annotation, False


def _bounds(field: FieldInfo) -> tuple[float, float]:
    low, high = 0.0, math.inf
    for bound in field.metadata:
        match bound:
            case Ge(ge=value):
                low = float(value)  # type: ignore[arg-type]
            case Gt(gt=value):
                low = max(float(value), _SMALLEST)  # type: ignore[arg-type]
            case Le(le=value):
                high = float(value)  # type: ignore[arg-type]
            case Lt(lt=value):
                high = float(value)  # type: ignore[arg-type]
    return low, high if math.isfinite(high) else max(64.0, low)


def _steps(low: float, high: float, *, whole: bool, also: Sequence[Any]) -> list[float]:
    """Round values from ``low`` to ``high``, and those of ``also``."""
    exponents = range(-2, math.ceil(math.log10(max(high, 1.0))) + 1)
    values = {mantissa * 10.0**exponent for exponent in exponents for mantissa in _MANTISSAS} | {low, high}
    kept = {round(value, 6) for value in values if low <= value <= high and (not whole or value == int(value))}
    kept |= {value for value in also if isinstance(value, int | float)}
    return sorted(int(value) if whole else float(value) for value in kept)
