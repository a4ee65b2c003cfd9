"""Shared by all figures: colours, names, sizes, and the record of the plotted numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from textwrap import fill
from typing import Any, Final

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from mlscale import environments
from mlscale.environments.base import Look
from mlscale.errors import MlscaleError

# Width of a figure: two columns of a journal page.
WIDTH_IN: Final = 7.2
ROLE_NAMES: Final = {"replica": "replicas", "data_plane": "data plane", "control_plane": "control plane"}
ROLE_SHADES: Final = {"replica": 1.0, "data_plane": 0.6, "control_plane": 0.3}
INK: Final = "#222222"
MUTED: Final = "#767676"
BAND: Final = "#DCDCDC"
# Colour of invalid runs, and of environments without a valid run.
NOT_VALID: Final = "#9A9A9A"
NOT_VALID_LINE: Final[dict[str, Any]] = {"color": NOT_VALID, "lw": 0.7, "ls": (0, (4, 2)), "zorder": 1.5}
_SPARE: Final = ("#56B4E9", "#882255", "#44AA99", "#999933")
# Ticks within a power of ten: the first of these that gives enough.
_LOG_STEPS: Final = ((1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8))
_SPARE_MARKERS: Final = ("P", "X", "<", ">")


@cache
def look(environment: str) -> Look:
    """How the environment appears; one that is not installed, or says nothing, always gets the same spare look."""
    try:
        own = getattr(environments.get(environment), "look", None)
    except (ImportError, MlscaleError):
        own = None
    code = sum(environment.encode())
    return own or Look(environment, environment, _SPARE[code % 4], _SPARE_MARKERS[code % 4], 1000)


def colour(environment: str) -> str:
    """The environment's colour."""
    return look(environment).colour


def marker(environment: str) -> str:
    """The environment's marker."""
    return look(environment).marker


def display_name(environment: str) -> str:
    """The environment's name in figures."""
    return look(environment).title


def short_name(environment: str) -> str:
    """The environment's name for ticks and legends."""
    return look(environment).short


@contextmanager
def style() -> Iterator[None]:
    """The settings of all figures; text stays text in PDF."""
    settings: dict[Any, Any] = {
        "figure.dpi": 110,
        "savefig.dpi": 200,
        "font.size": 8.5,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8.5,
        "axes.labelcolor": INK,
        "axes.edgecolor": "#555555",
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "xtick.color": "#555555",
        "ytick.color": "#555555",
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
    }
    with plt.rc_context(settings):
        yield


def new_axes(rows: int, columns: int, height_in: float, **options: Any) -> npt.NDArray[Any]:
    """Axes of a new figure, as an array of rows x columns.

    The figure is removed from pyplot's list, so that a notebook shows it once, where it is returned, and none pile up.
    """
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH_IN, height_in), layout="constrained", squeeze=False, **options
    )
    plt.close(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05, wspace=0.03, hspace=0.03)
    return np.asarray(axes, dtype=object)


def attach(axes: Axes, numbers: pd.DataFrame) -> Axes:
    """Attach the numbers that ``axes`` shows, for `plotted` to return."""
    axes.mlscale_numbers = numbers  # type: ignore[attr-defined]
    return axes


def plotted(drawing: Axes | Figure | Iterable[Any]) -> pd.DataFrame:
    """The numbers that a figure, or some of its axes, show; column ``axes`` counts them where there are several.

    Raises:
        ValueError: nothing there was drawn by `mlscale.plots`.
    """
    frames = [axes.mlscale_numbers for axes in _flat(drawing) if hasattr(axes, "mlscale_numbers")]
    if not frames:
        raise ValueError("no axes drawn by mlscale.plots")
    if len(frames) == 1:
        return pd.DataFrame(frames[0])
    return pd.concat([frame.assign(axes=number) for number, frame in enumerate(frames)], ignore_index=True)


def headline(axes: Axes, text: str, modes: Iterable[str] = ()) -> None:
    """Write ``text``, the figure's main finding, above all of its axes, preceded by those of ``modes`` that are not
    live."""
    figure, not_live = axes.figure, " + ".join(sorted(set(modes) - {"live"}))
    text = f"{not_live}: {text}" if not_live else text
    figure.suptitle(fill(text[:1].upper() + text[1:], 88), x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)


def not_valid(reasons: Sequence[str]) -> str:
    """The note beside an environment that has no valid run.

    Args:
        reasons: why not, one text a run (`mlscale.runs.Validity`'s reasons, joined by "; ").
    """
    first = reasons[0].partition(";")[0].partition(" (at most")[0].replace(": ", ", ", 1) or "no reason was recorded"
    return f"not valid: {first}" if len(reasons) == 1 else f"none of {len(reasons)} runs valid: {first}"


def tone(environment: str, valid: Iterable[bool]) -> str:
    """The environment's colour, or grey where none of its runs is valid."""
    return colour(environment) if any(valid) else NOT_VALID


def labelled(environment: str, rows: pd.DataFrame) -> str:
    """The environment's name for a legend, with the number of its runs among ``rows`` (of `summarise`), or why none is
    valid."""
    env_rows = rows[rows["environment"] == environment]
    reasons = env_rows["reasons"].fillna("").astype(str).tolist()
    return f"{short_name(environment)} ({f'n = {len(env_rows)}' if env_rows['valid'].any() else not_valid(reasons)})"


def invalid_runs(environment: str, invalid: int, runs: int) -> str:
    """How many of an environment's runs are invalid, in words."""
    verb = "was" if runs == 1 else "were"
    return f"{invalid} of {runs} run{'s' if runs > 1 else ''} of {short_name(environment)} {verb} invalid"


def mark_modes(axes: Axes, modes: Iterable[str], size: float = 22) -> None:
    """Write the modes other than live (such as "simulated") across the axes, behind the data; ``size``: of the text."""
    not_live = sorted(set(modes) - {"live"})
    if not_live:
        mark = axes.text(
            0.5,
            0.5,
            " + ".join(not_live).upper(),
            transform=axes.transAxes,
            ha="center",
            va="center",
            rotation=18,
            fontsize=size,
            fontweight="bold",
            color="#B00020",
            alpha=0.25,
            zorder=0.5,  # over shaded rows, under everything that stands for data
            gid="mode",
        )
        mark.set_in_layout(False)  # it may reach out, and must not push the panels together


def shade(base: str, strength: float) -> tuple[float, float, float]:
    """``base`` mixed with white: 1 is the colour itself, 0 is white."""
    red, green, blue = (int(base[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return tuple(1 - strength * (1 - part) for part in (red, green, blue))  # type: ignore[return-value]


def spread(count: int, width: float = 0.5) -> npt.NDArray[np.float64]:
    """Evenly spaced offsets for ``count`` points, so that none hides another."""
    return np.linspace(-width / 2, width / 2, count) if count > 1 else np.zeros(count)


def plain_log_ticks(axis: Axis) -> None:
    """Round ticks of a logarithmic axis, at least three, written as numbers. After its limits are set."""
    low, high = sorted(axis.get_view_interval())
    for steps in _LOG_STEPS:
        inside = [tick for power in range(-4, 4) for step in steps if low <= (tick := step * 10.0**power) <= high]
        if len(inside) >= 3:
            break
    else:  # so narrow that it is as good as linear
        inside = [tick for tick in MaxNLocator(8).tick_values(low, high) if low <= tick <= high]
    axis.set_major_locator(FixedLocator(inside))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def in_order(names: Sequence[str]) -> list[str]:
    """Environments in the order of the design, then others by name, each once."""
    return sorted(set(names), key=lambda name: (look(name).order, name))


def _flat(drawing: Axes | Figure | Iterable[Any]) -> list[Axes]:
    if isinstance(drawing, Figure):
        return list(drawing.axes)
    if isinstance(drawing, Axes):
        return [drawing]
    if isinstance(drawing, np.ndarray):
        return list(drawing.ravel())
    return [axes for part in drawing for axes in _flat(part)]
