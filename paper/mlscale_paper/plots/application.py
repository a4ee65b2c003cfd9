"""Figures of the application itself: what each stage sees, where it fails, what it takes.

Functions draw into the Axes that they are given and return it; `gallery`, `all_strips` and `all_grids`, whose number of
panels follows from the photo, make a figure of their own. Photos and corners are in working pixels, those of
``Explanation.photo.grey``; labels, which are in pixels of the sent photo, are brought to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from mlscale.plots.style import spread

if TYPE_CHECKING:
    from codereader.decoder import Explanation, Reading
    from codereader.evaluation import Rates

Fate = Literal["read", "found, not read", "not found"]

# What can become of a code, and its colour (Okabe and Ito's palette, which colour-blind readers can tell apart).
FATES: Mapping[Fate, str] = {"read": "#009e73", "found, not read": "#e69f00", "not found": "#d55e00"}
STAGE_NAMES = {
    "open": "open the image",
    "localise": "localiser",
    "read_bars": "bar reader",
    "read_grid": "QR reader",
}
_STAGE_COLOURS = ("#999999", "#0072b2", "#cc79a7", "#56b4e9")
_HEAT = LinearSegmentedColormap.from_list("heat", [(0.84, 0.37, 0, 0), (0.84, 0.37, 0, 0.75)])


@dataclass(frozen=True)
class KnownCode:
    """A code of a label, what became of it, and its ``corners`` (4, 2) in working pixels."""

    kind: str
    text: str
    corners: NDArray[np.float64]
    fate: Fate


def fates(explanation: Explanation, label: Mapping[str, Any]) -> list[KnownCode]:
    """What became of each code of ``label`` ({"codes": [{"kind", "text", "corners"}]})."""
    read = {(code.kind, code.text) for code in explanation.codes}
    known = []
    for code in label["codes"]:
        corners = np.asarray(code["corners"], dtype=float) / explanation.photo.scale
        fate: Fate = "not found"
        if (code["kind"], code["text"]) in read:
            fate = "read"
        elif any(_over(reading, code["kind"], corners.mean(axis=0)) for reading in explanation.readings):
            fate = "found, not read"
        known.append(KnownCode(code["kind"], code["text"], corners, fate))
    return known


def photo_with_codes(ax: Axes, explanation: Explanation, label: Mapping[str, Any]) -> Axes:
    """The photo, every known code outlined in the colour of its fate; texts that were read stand beside theirs."""
    _grey(ax, explanation.photo.grey)
    for code in fates(explanation, label):
        _outline(ax, code.corners, FATES[code.fate])
        if code.fate == "read":
            _note(ax, code.corners, code.text, FATES["read"])
    return ax


def gallery(photos: Sequence[tuple[Explanation, Mapping[str, Any]]], columns: int = 3, rows: int = 2) -> Sequence[Axes]:
    """The first photos of (explanation, label) pairs by `photo_with_codes`, in a figure of their own."""
    size = (11.0, rows * 11 / columns * 0.78)
    _, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (explanation, label) in zip(axes.flat, photos, strict=False):
        photo_with_codes(ax, explanation, label)
    return list(axes.flat)


def all_strips(explanation: Explanation) -> Sequence[Axes]:
    """`strips` of every box of bars, in a figure of its own."""
    boxes = [reading for reading in explanation.readings if reading.box.kind == "1D"]
    _, axes = plt.subplots(
        max(1, len(boxes)), 1, figsize=(11, 0.6 + 1.4 * len(boxes)), squeeze=False, layout="constrained"
    )
    if not boxes:
        _say(axes[0, 0], "no bars were found")
    for ax, reading in zip(axes.flat, boxes, strict=False):
        strips(ax, reading)
    return list(axes.flat)


def all_grids(explanation: Explanation) -> Sequence[Axes]:
    """A row for every QR box: what both looks of the sheet finder saw, what the module reader saw, the modules."""
    boxes = [reading for reading in explanation.readings if reading.box.kind == "QR"]
    rows = max(1, len(boxes))
    _, axes = plt.subplots(rows, 4, figsize=(11, 3 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.set_axis_off()
    if not boxes:
        _say(axes[0, 0], "no QR code was found")
    for row, reading in zip(axes, boxes, strict=False):
        for step, ax in enumerate(row[: min(3, len(reading.crops))]):
            grid_crop(ax, reading, step if step < 2 else len(reading.crops) - 1)
        module_matrix(row[3], reading)
    return list(axes.flat)


def localiser_map(ax: Axes, explanation: Explanation, kind: Literal["1D", "QR"]) -> Axes:
    """The photo under the localiser's probability that a cell lies in a code of ``kind``, and the boxes made of it."""
    grey = explanation.photo.grey
    _grey(ax, grey)
    probability = 1 / (1 + np.exp(-explanation.maps[0 if kind == "1D" else 1]))
    ax.imshow(probability, cmap=_HEAT, vmin=0, vmax=1, extent=(0, grey.width, grey.height, 0), interpolation="nearest")
    boxes = [reading.box for reading in explanation.readings if reading.box.kind == kind]
    for box in boxes:
        _outline(ax, box.corners, "#0072b2")
    ax.set_title(f"{'bars' if kind == '1D' else 'QR'}: {len(boxes)} box{'' if len(boxes) == 1 else 'es'}")
    return ax


def strips(ax: Axes, reading: Reading) -> Axes:
    """The strips that the bar reader saw of one box, one above the other."""
    gap = np.full((2, reading.crops[0].shape[1]), np.nan)
    stack = np.vstack([row for crop in reading.crops for row in (crop, gap)][:-1])
    ax.imshow(stack, cmap="gray", aspect="auto", interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(_verdict(reading))
    return ax


def grid_crop(ax: Axes, reading: Reading, step: int) -> Axes:
    """Crop ``step`` of the QR reader: the sheet finder's first (0) and second look (1), the module reader's (2)."""
    ax.imshow(reading.crops[step], cmap="gray", interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(("sheet, first look", "sheet, second look", "what the module reader sees")[min(step, 2)])
    return ax


def module_matrix(ax: Axes, reading: Reading) -> Axes:
    """The modules as the network read them; dark is 1."""
    if reading.grid is None:
        _say(ax, "no grid")
    else:
        ax.imshow(reading.grid.matrix, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(f"version {reading.grid.version}: {_verdict(reading)}", fontsize="small")
    ax.set_axis_off()
    return ax


def fate_shares(ax: Axes, rates: Mapping[str, Rates]) -> Axes:
    """For each kind of code and difficulty: the share read, found but not read, not found.

    Args:
        rates: difficulty -> `codereader.evaluation.Rates`.
    """
    shares = {}
    for kind in sorted({kind for rate in rates.values() for kind in rate.codes}):
        for level, rate in rates.items():
            if count := rate.codes[kind]:
                read = rate.read[kind]
                localised = max(rate.localised[kind], read)
                shares[f"{kind}, {level} ({count})"] = np.array([read, localised - read, count - localised]) / count
    _stacked(ax, pd.DataFrame.from_dict(shares, orient="index", columns=list(FATES)), list(FATES.values()))
    ax.set(xlim=(0, 1), xlabel="share of the codes (their number in brackets)")
    _title(ax, "Read: " + ", ".join(f"{100 * rate.share:.0f} % of {level}" for level, rate in rates.items()))
    return ax


def stage_table(explanations: Mapping[str, Sequence[Explanation]]) -> pd.DataFrame:
    """Median CPU ms of each stage (columns) for each group of photos (rows)."""
    rows = {
        name: {
            stage: 1e3 * float(np.median([explanation.cpu_s[stage] for explanation in group])) for stage in STAGE_NAMES
        }
        for name, group in explanations.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename(columns=STAGE_NAMES)


def stage_cpu(ax: Axes, table: pd.DataFrame) -> Axes:
    """`stage_table` as stacked bars. Medians of parts: their sum is near the median of the whole, not equal to it."""
    _stacked(ax, table, list(_STAGE_COLOURS))
    totals = table.sum(axis=1)
    for row, total in enumerate(totals):
        ax.annotate(f" {total:.0f}", (total, row), va="center")
    ax.set(xlabel="CPU of one thread, ms (medians)")
    _title(ax, f"A photo takes {totals.min():.0f} to {totals.max():.0f} ms of CPU, by what is in it")
    return ax


def cpu_spread(ax: Axes, cpu_s: Mapping[str, Sequence[float]], target_s: tuple[float, float]) -> Axes:
    """Every photo's CPU time as a point, by group; the band is what the photos of the load may take."""
    low, high = 1e3 * np.array(target_s)
    ax.axvspan(low, high, color="#009e73", alpha=0.2, lw=0, label="what the photos of the load may take")
    for row, values in enumerate(cpu_s.values()):
        ax.plot(1e3 * np.sort(values), row + spread(len(values)), "o", ms=4, color="#0072b2", alpha=0.6)
    ax.set_yticks(range(len(cpu_s)), list(cpu_s))
    ax.invert_yaxis()
    ax.set(xlabel="CPU of one photo, ms", xlim=(0, None))
    ax.legend(loc="lower right", frameon=False)
    ms = 1e3 * np.concatenate([np.asarray(values) for values in cpu_s.values()])
    _title(ax, f"One photo takes {ms.min():.0f} to {ms.max():.0f} ms of CPU")
    return ax


def _stacked(ax: Axes, table: pd.DataFrame, colours: list[str]) -> None:
    """A bar for each row, its columns one after another; the legend below."""
    table.plot.barh(ax=ax, stacked=True, color=colours, width=0.8)
    ax.invert_yaxis()
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=len(colours), frameon=False)


def _over(reading: Reading, kind: str, centre: NDArray[np.float64]) -> bool:
    low, high = reading.box.corners.min(axis=0), reading.box.corners.max(axis=0)
    return (reading.box.kind == "QR") == (kind == "QR") and bool((low < centre).all() and (centre < high).all())


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontweight="bold")


def _say(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
    ax.set_axis_off()


def _grey(ax: Axes, image: Any) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(0, image.width, image.height, 0))
    ax.set_axis_off()


def _outline(ax: Axes, corners: NDArray[np.float64], colour: str) -> None:
    closed = np.vstack([corners, corners[:1]])
    ax.plot(closed[:, 0], closed[:, 1], color=colour, lw=2)
    ax.plot(*corners[0], "o", color=colour, ms=5)


def _note(ax: Axes, corners: NDArray[np.float64], text: str, colour: str) -> None:
    short = _one_line(text, 24)
    box = {"facecolor": colour, "edgecolor": "none", "pad": 1.5}
    place = corners[:, 0].mean(), corners[:, 1].max() + 4
    ax.text(*place, short, color="white", fontsize=7, ha="center", va="top", bbox=box, clip_on=True, parse_math=False)


def _verdict(reading: Reading) -> str:
    if reading.code is None:
        return "nothing that verifies"
    short = _one_line(reading.code.text, 20)
    return f"{reading.code.kind} {short}".replace("$", r"\$")


def _one_line(text: str, longest: int) -> str:
    """``text`` as a figure can show it: line ends and other unprintable characters as spaces, its end cut off."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= longest else f"{line[: longest - 2]}…"
