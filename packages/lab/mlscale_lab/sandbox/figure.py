"""The sandbox's figure as SVG text: it is redrawn with every move, for which matplotlib is too slow."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mlscale_lab.sandbox.prediction import POINTS, Prediction

# Okabe and Ito's blue and vermilion; B is also dashed.
COLOURS: Final = ("#0072b2", "#d55e00")
_DASHES: Final = ("", "6 3")
_LEFT, _RIGHT, _WIDTH, _HEIGHT = 62.0, 28.0, 776.0, 310.0
_RESPONSES_S: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True)
class _Panel:
    """From ``top``, ``height`` high, both in pixels; ``low`` and ``high``: its values at bottom and top."""

    top: float
    height: float
    low: float
    high: float
    duration_s: float
    title: str

    def x(self, t_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * t_s / self.duration_s

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.top + self.height * (1 - min(max(share, 0.0), 1.0))

    def frame(self, ticks: Iterable[tuple[float, str]]) -> str:
        lines = [
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{self.y(at):.1f}" y2="{self.y(at):.1f}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{self.y(at) + 4:.1f}" text-anchor="end">{text}</text>'
            for at, text in ticks
        ]
        return f'{"".join(lines)}<text x="{_LEFT}" y="{self.top - 6:.1f}" font-weight="bold">{self.title}</text>'

    def line(self, times_s: npt.ArrayLike, values: npt.ArrayLike, colour: str, dash: str = "", width: float = 2) -> str:
        """A line through the points; interrupted where a value is NaN."""
        path, pen = [], "M"
        for t_s, value in zip(np.asarray(times_s), np.asarray(values), strict=True):
            if np.isnan(value):
                pen = "M"
                continue
            path.append(f"{pen}{self.x(t_s):.1f} {self.y(value):.1f}")
            pen = "L"
        style = f'stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}" fill="none"'
        return f'<path d="{"".join(path)}" {style}/>'


def figure(rates_rps: Sequence[float], duration_s: float, predictions: Mapping[str, Prediction], drawn: int = 0) -> str:
    """Load, mean response (logarithmic) and replicas over time.

    Args:
        predictions: of A and B, by their captions. drawn: number of this drawing, as the attribute ``data-drawn``.
    """
    replicas = max([2.0, *(max(p.desired.max(), p.ready.max()) for p in predictions.values())])
    load = _Panel(24, 40, 0, max(5.0, *rates_rps), duration_s, "load, requests/s")
    response = _Panel(90, 110, np.log10(0.05), np.log10(40), duration_s, "simulated mean response, s (failures: 30 s)")
    number = _Panel(226, 62, 0, replicas, duration_s, "replicas: ready (line), wanted (thin)")
    part_s = duration_s / len(rates_rps)
    steps_s = np.repeat(np.arange(len(rates_rps) + 1) * part_s, 2)[1:-1]
    parts = [
        load.frame(((0, "0"), (load.high, f"{load.high:g}"))),
        load.line(steps_s, np.repeat(rates_rps, 2), "#555"),
        response.frame((float(np.log10(value)), f"{value:g}") for value in _RESPONSES_S),
        number.frame((float(value), str(value)) for value in _whole_numbers(replicas)),
    ]
    middles_s = (np.arange(POINTS) + 0.5) * duration_s / POINTS
    for place, (name, prediction) in enumerate(predictions.items()):
        colour, dash = COLOURS[place], _DASHES[place]
        parts += [
            response.line(middles_s, np.log10(prediction.response_s), colour, dash),
            number.line(*_changes(prediction.counted_s, prediction.desired), colour, dash, 1),
            number.line(*_changes(prediction.counted_s, prediction.ready), colour, dash, 2.5),
            f'<text x="{_LEFT + 190 + 250 * place}" y="18" fill="{colour}" font-weight="bold">{html.escape(name)}'
            f"{' (dashed)' if dash else ''}</text>",
        ]
    parts += [
        f'<text x="{number.x(t_s):.1f}" y="{number.top + number.height + 17}" text-anchor="middle">{t_s:g} s</text>'
        for t_s in np.linspace(0, duration_s, 7)
    ]
    words = "; ".join(f"{name}: {_words(prediction)}" for name, prediction in predictions.items())
    return (
        f'<svg role="img" aria-label="SIMULATED. {html.escape(words)}" data-drawn="{drawn}" '
        f'viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" '
        f'xmlns="http://www.w3.org/2000/svg" style="width: 100%; max-width: {_WIDTH:g}px; font: 13px sans-serif; '
        f'background: #fff">{"".join(parts)}</svg>'
    )


def _changes(times_s: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """The corners of a step function."""
    at = [0, *(np.flatnonzero(np.diff(values)) + 1)]
    corners_s = [*[float(times_s[place]) for place in at for _ in (0, 1)][1:], float(times_s[-1])]
    return corners_s, [float(values[place]) for place in at for _ in (0, 1)]


def _whole_numbers(highest: float) -> range:
    return range(0, int(highest) + 1, max(1, int(highest) // 5))


def _words(prediction: Prediction) -> str:
    return f"mean {prediction.mean_s:.2f} s, 95 % within {prediction.p95_s:.2f} s, {prediction.failed:.1%} failed"
