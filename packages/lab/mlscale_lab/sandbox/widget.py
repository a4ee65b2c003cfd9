"""The sandbox: two settings side by side under one load, simulated again with every move."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

import ipywidgets as widgets
from pydantic import ValidationError

from mlscale import environments
from mlscale.environments import Scaling
from mlscale.errors import first_invalid
from mlscale.runs import MlscaleError
from mlscale_lab.sandbox.figure import COLOURS, figure
from mlscale_lab.sandbox.form import Form
from mlscale_lab.sandbox.load import MOST_RPS, SHAPES, rates_of, rates_of_trace, schedule_of
from mlscale_lab.sandbox.prediction import Prediction, error_of, predict
from mlscale_twin.strategy.paste import settings_files
from mlscale_twin.strategy.strategies import Strategy

NAMES: Final = ("torchserve", "rayserve", "k3s", "eks", "ecs")
ARMS: Final = ("matched", "shipped", "static-min", "static-max")
# How long a load lasts, s, unless chosen: as long as it takes the environment's loop to act several times.
LASTS_S: Final[Mapping[str, float]] = {"torchserve": 120, "rayserve": 120, "k3s": 300, "eks": 300, "ecs": 900}
_DURATIONS_S: Final = (120, 300, 600, 900)
# The figure stays in view while Tab moves through the settings below it.
_STYLE: Final = """<style>
.mlscale-sandbox { scroll-padding-top: 54vh; }
.mlscale-sandbox > * { flex-shrink: 0; }
.mlscale-figure { position: sticky; top: 0; z-index: 10; background: var(--jp-layout-color0, white); }
.mlscale-figure svg { max-height: 40vh; }
.mlscale-side .widget-hslider { flex-wrap: wrap; height: auto; }
.mlscale-side .widget-hslider > .widget-label { width: 100% !important; text-align: left; }
.mlscale-still { display: none; }
</style>"""
# ipywidgets gives a slider's handle no name, and its value a second tab stop.
_NAMES_OF_HANDLES: Final = """<script>
if (!window.mlscaleHandles) {
  const nameAll = () => document.querySelectorAll('.mlscale-sandbox .noUi-handle').forEach((handle) => {
    const widget = handle.closest('.widget-hslider, .widget-vslider');
    const label = widget.querySelector('.widget-label'), readout = widget.querySelector('.widget-readout');
    const side = handle.closest('.mlscale-side')?.querySelector('.widget-label')?.textContent;
    const name = side ? `${side}: ${label.textContent}` : `load, requests/s, part ${label.textContent} of 12`;
    handle.setAttribute('aria-label', name);
    if (readout) { handle.setAttribute('aria-valuetext', readout.textContent); readout.setAttribute('tabindex', '-1'); }
  });
  window.mlscaleHandles = new MutationObserver(nameAll);
  window.mlscaleHandles.observe(document.body, {childList: true, subtree: true});
}
</script>"""


class Side:
    """One of the two settings. ``prediction``: of the last settings that could be simulated."""

    def __init__(self, name: str, environment: str, arm: str, sandbox: Sandbox) -> None:
        self.name = name
        self._sandbox = sandbox
        self.prediction: Prediction | None = None
        self.environment = widgets.Dropdown(options=NAMES, value=environment, description=name)
        self.arm = widgets.Dropdown(options=ARMS, value=arm, description="start from")
        self.answer = widgets.Text(description="as answer", layout={"width": "auto"})
        self.text = widgets.Textarea(description="to paste", rows=10, disabled=False, layout={"width": "auto"})
        self._problem = widgets.HTML()
        self.box = widgets.VBox(layout={"width": "50%", "padding": "0 8px"})
        self.box.add_class("mlscale-side")
        self._first = environment, arm
        self.form = self._form()
        self.environment.observe(self._another_environment, names="value")
        self.arm.observe(self._another_arm, names="value")

    @property
    def problem(self) -> str:
        """Why the settings can't be simulated, as HTML; empty if they can."""
        return str(self._problem.value)

    @property
    def caption(self) -> str:
        return f"{self.name}: {self.environment.value}"

    def settings(self) -> Scaling:
        """The settings as they are now. Raises ValidationError."""
        return environments.get(self.environment.value).settings.model_validate(self.form.values())

    def choose(self, environment: str, arm: str, scaling: Scaling | None = None) -> None:
        """Another environment and arm, with ``scaling`` in place of the arm's settings."""
        self.environment.value, self.arm.value = environment, arm
        self.form.set(scaling or self._arm())

    def reset(self) -> None:
        """Settings as they were when the sandbox was made."""
        self.choose(*self._first)

    def simulate(self) -> None:
        """Simulate the settings as they are now; if that is impossible, say why and keep the last prediction."""
        try:
            scaling = self.settings()
            self.prediction = predict(
                self.environment.value, scaling, self._sandbox.schedule(), self._sandbox.draw.value
            )
        except (ValidationError, MlscaleError) as error:
            text = first_invalid(error, "settings") if isinstance(error, ValidationError) else str(error)
            text = f"Not simulated, and the figure shows the settings before: {text}"
            self._problem.value = f'<p role="alert" style="color: #a00">{html.escape(text)}</p>'
            return
        self._problem.value = ""
        self.answer.value = repr(_changed(scaling, environments.get(self.environment.value).arm("matched")))
        self.text.value = text_of(self.environment.value, self.arm.value, scaling)

    def _another_environment(self, _: Any) -> None:
        self.form = self._form()
        self._sandbox.last_as_long_as_needed()
        self._sandbox.redraw(self)

    def _another_arm(self, _: Any) -> None:
        self.form.set(self._arm())

    def _arm(self) -> Scaling:
        return environments.get(self.environment.value).arm(self.arm.value)

    def _form(self) -> Form:
        form = Form(self.environment.value, self._arm(), lambda: self._sandbox.redraw(self))
        self.box.children = [self.environment, self.arm, self._problem, self.answer, form.box(), self.text]
        return form


class Sandbox(widgets.VBox):  # type: ignore[misc]
    """``Sandbox()`` as the last line of a cell.

    Args:
        a, b: environment and arm of each side.
        load: a shape of `SHAPES`, or requests per second in each of 12 equal parts.
        duration_s: of the load; None: as long as the slower of the two environments needs.
    """

    def __init__(
        self,
        a: tuple[str, str] = ("torchserve", "matched"),
        b: tuple[str, str] = ("torchserve", "shipped"),
        load: str | Sequence[float] = "step",
        duration_s: float | None = None,
    ) -> None:
        rates = rates_of(load)
        self._figure = widgets.HTML(layout={"width": "100%"})
        self._table = widgets.HTML()
        self._status = widgets.HTML()
        self._ready = False
        self._drawn = 0
        self.bars = [
            widgets.FloatSlider(
                value=rate, min=0, max=MOST_RPS, step=0.5, orientation="vertical", readout_format=".1f",
                description=f"{place + 1}", layout={"height": "150px", "width": "50px"},
            )
            for place, rate in enumerate(rates)
        ]  # fmt: skip
        self.shape = widgets.Dropdown(
            options=list(SHAPES), value=load if isinstance(load, str) else None, description="shape"
        )
        self.trace = widgets.Text(placeholder="trace.csv", description="trace", continuous_update=False)
        self.duration = widgets.Dropdown(options=_DURATIONS_S, description="lasts, s")
        self.draw = widgets.BoundedIntText(value=0, min=0, max=9999, description="draw")
        self.sides = (Side("A", *a, self), Side("B", *b, self))
        self.duration.value = duration_s or self._needed_s()
        self._first = tuple(rates), self.shape.value, self.duration.value
        copy, reset = widgets.Button(description="copy A to B"), widgets.Button(description="reset")
        copy.on_click(lambda _: self.copy())
        reset.on_click(lambda _: self.reset())
        self.buttons = widgets.HBox([copy, reset])
        options = widgets.VBox([self.shape, self.trace, self.duration, self.draw, self.buttons])
        load_box = widgets.HBox([*self.bars, options], layout={"flex_flow": "row wrap"})
        hint = widgets.HTML(
            f"{_STYLE}<b>Load</b>, requests/s in each twelfth. Keyboard: Tab moves on, arrow keys move a slider."
        )
        settings = widgets.HBox([side.box for side in self.sides])
        shown = widgets.VBox([self._figure, self._table])
        shown.add_class("mlscale-figure")
        super().__init__(
            [self._status, shown, hint, load_box, settings],
            layout={"max_height": "74vh", "overflow": "auto"},
        )
        self.add_class("mlscale-sandbox")
        for bar in self.bars:
            bar.observe(self._bar_moved, names="value")
        self.shape.observe(self._another_shape, names="value")
        self.trace.observe(self._another_trace, names="value")
        self.duration.observe(self._moved, names="value")
        self.draw.observe(self._moved, names="value")
        self._ready = True
        self.redraw(*self.sides)

    def schedule(self) -> Any:
        """The load as it is drawn."""
        return schedule_of([bar.value for bar in self.bars], float(self.duration.value))

    def redraw(self, *moved: Side) -> None:
        """Simulate the sides that ``moved``, and draw both."""
        if not self._ready:
            return
        for side in moved:
            side.simulate()
        shown = {side.caption: side.prediction for side in self.sides if side.prediction is not None}
        self._drawn += 1
        rates = [bar.value for bar in self.bars]
        self._figure.value = figure(rates, float(self.duration.value), shown, self._drawn)
        self._table.value = _table(shown)
        self._status.value = self._words()

    def last_as_long_as_needed(self) -> None:
        """Choose the load's duration for the two environments, without drawing."""
        ready, self._ready = self._ready, False
        self.duration.value = self._needed_s()
        self._ready = ready
        for side in self.sides:
            side.prediction = None
        self.redraw(*self.sides)

    def _needed_s(self) -> float:
        return max(LASTS_S[side.environment.value] for side in self.sides)

    def _moved(self, _: Any) -> None:
        self.redraw(*self.sides)

    def copy(self) -> None:
        """Give B the settings of A; if A's contradict each other, nothing changes."""
        a, b = self.sides
        if not a.problem:
            b.choose(a.environment.value, a.arm.value, a.settings())

    def reset(self) -> None:
        """Load and settings as they were when the sandbox was made."""
        rates, shape, duration_s = self._first
        for side in self.sides:
            side.reset()
        self.shape.value, self.duration.value = shape, duration_s
        self._draw_bars(rates)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The widget, and before it what stays where there is no kernel to draw it."""
        from IPython.display import HTML, display

        display(HTML(f"{self.still()}{_NAMES_OF_HANDLES}"))
        return super()._repr_mimebundle_(**options)

    def still(self) -> str:
        """What is shown now, as HTML without a kernel behind it; hidden where there is one."""
        picture = b64encode(self._figure.value.encode()).decode()
        still = f'<img alt="{html.escape(self._alt())}" src="data:image/svg+xml;base64,{picture}">'
        note = "As it was when this cell was run. Run the cell to move it."
        return f'<div class="mlscale-still"><p>{note}</p>{still}{self._table.value}</div>'

    def _alt(self) -> str:
        return f"SIMULATED: load, mean response and replicas of {' and '.join(side.caption for side in self.sides)}"

    def _bar_moved(self, change: Any) -> None:
        if self._ready:  # by hand: choosing the same shape again draws it anew
            self.shape.value = None
        self._moved(change)

    def _another_shape(self, _: Any) -> None:
        if self.shape.value is not None:
            self._draw_bars(SHAPES[self.shape.value])

    def _another_trace(self, _: Any) -> None:
        try:
            self._draw_bars(rates_of_trace(self.trace.value))
        except MlscaleError as error:
            self._status.value = f'<p role="alert" style="color: #a00">{html.escape(str(error))}</p>'

    def _draw_bars(self, rates: Sequence[float]) -> None:
        self._ready = False
        for bar, rate in zip(self.bars, rates, strict=True):
            bar.value = rate
        self._ready = True
        self.redraw(*self.sides)

    def _words(self) -> str:
        names = dict.fromkeys(side.environment.value for side in self.sides)
        errors = "<br>".join(html.escape(error_of(name)) for name in names)
        return f"<b>SIMULATED</b>, one draw each; nothing was measured. Compared with live runs:<br>{errors}"


def _changed(scaling: Scaling, base: Scaling) -> dict[str, Any]:
    """The settings that differ."""
    names = type(scaling).model_fields
    return {name: getattr(scaling, name) for name in names if getattr(scaling, name) != getattr(base, name)}


def text_of(environment: str, arm: str, scaling: Scaling) -> str:
    """The settings as its framework's own file, and as the command that measures them."""
    files = settings_files(Strategy(environment, "reactive", scaling.model_dump()))
    base = environments.get(environment).arm(arm)
    changed = _changed(scaling, base)
    given = [f"--scaling {name}={value}" for name, value in changed.items() if value is not None]
    command = " ".join(["mlscale measure", environment, *([f"--arm {arm}"] if arm != "matched" else []), *given])
    unset = [f"# {name}: remove it (a command can't)" for name, value in changed.items() if value is None]
    return "\n".join([f"# {command}", *unset, *(f"\n# {name}\n{text}" for name, text in files.items())])


def _table(shown: Mapping[str, Prediction]) -> str:
    names = ("", "mean, s", "95 % within, s", "failed", "replica minutes", "changes of wanted", "machines at most")
    head = "".join(f'<th style="padding: 0 8px; text-align: left">{name}</th>' for name in names)
    rows = []
    for place, (name, p) in enumerate(shown.items()):
        numbers = (f"{p.mean_s:.2f}", f"{p.p95_s:.2f}", f"{p.failed:.1%}", f"{p.replica_min:.1f}", p.decisions)
        cells = "".join(f'<td style="padding: 0 8px">{number}</td>' for number in (*numbers, p.machines or "-"))
        rows.append(f'<tr><th style="color: {COLOURS[place]}">{html.escape(name)}</th>{cells}</tr>')
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"
