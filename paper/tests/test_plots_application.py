"""The figures of the application show what became of each code, and what it took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from codereader.decoder import DecodedCode, Explanation, Reading
from codereader.evaluation import Rates
from codereader.geometry import rectangle
from codereader.images import Photo
from codereader.localiser import Box
from mlscale_paper.plots import application as plots

CPU_S = {"open": 0.001, "localise": 0.010, "read_bars": 0.005, "read_grid": 0.0}


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def ax() -> Iterator[Axes]:
    figure = Figure()
    yield figure.add_subplot()
    figure.clear()


def explanation(cpu_s: dict[str, float] = CPU_S) -> Explanation:
    """A photo sent at twice the size that it is worked on, with a box of bars that was read and one that was not."""
    photo = Photo(Image.new("L", (100, 80), 200), (200, 160))
    read = DecodedCode("EAN8", "96385074", rectangle(40, 20, 20, 20))
    boxes = [Box("1D", rectangle(24, 14, 8, 8), 0.9), Box("1D", rectangle(24, 14, 58, 8), 0.8)]
    readings = [Reading(boxes[0], code=read), Reading(boxes[1])]
    return Explanation(photo, np.zeros((6, 20, 25), np.float32), readings, [read], cpu_s)


LABEL: dict[str, Any] = {
    "codes": [
        {"kind": "EAN8", "text": "96385074", "corners": rectangle(40, 20, 20, 20).tolist()},
        {"kind": "UPCA", "text": "012345678905", "corners": rectangle(40, 20, 120, 20).tolist()},
        {"kind": "QR", "text": "$in a corner$", "corners": rectangle(30, 30, 120, 20).tolist()},
    ]
}


def test_what_becomes_of_a_code() -> None:
    known = plots.fates(explanation(), LABEL)
    assert [code.fate for code in known] == ["read", "found, not read", "not found"]  # a QR code in a box of bars
    np.testing.assert_allclose(known[1].corners, rectangle(20, 10, 60, 10))


def test_each_code_is_outlined_in_the_colour_of_its_fate(ax: Axes) -> None:
    plots.photo_with_codes(ax, explanation(), LABEL)
    colours = [to_hex(line.get_color()) for line in ax.lines if len(line.get_xdata()) == 5]
    assert colours == list(plots.FATES.values())
    assert [text.get_text() for text in ax.texts] == ["96385074"]


def test_the_shares_of_a_kind_add_up_to_one(ax: Axes) -> None:
    found = ("QR", "localised")
    easy = Rates(4, Counter(QR=4), Counter({found: 3}), Counter(QR=2))
    hard = Rates(2, Counter(QR=2), Counter({found: 0}), Counter(QR=1))  # its box misses the centre
    plots.fate_shares(ax, {"easy": easy, "hard": hard})
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(3, 2)
    np.testing.assert_allclose(widths, [[0.5, 0.5], [0.25, 0.0], [0.25, 0.5]])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["QR, easy (4)", "QR, hard (2)"]


def test_stages_are_stacked_in_ms(ax: Axes) -> None:
    other = {**CPU_S, "localise": 0.020}
    table = plots.stage_table({"two": [explanation(), explanation(other)], "one": [explanation()]})
    assert table.loc["two", "localiser"] == pytest.approx(15)
    plots.stage_cpu(ax, table)
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    assert ends[-2:] == pytest.approx([21, 16])


def test_the_spread_shows_every_photo(ax: Axes) -> None:
    plots.cpu_spread(ax, {"load set": [0.026, 0.028, 0.027], "one": [0.01]}, (0.025, 0.030))
    assert [sorted(line.get_xdata()) for line in ax.lines] == [pytest.approx([26, 27, 28]), pytest.approx([10])]


def test_maps_and_crops_are_drawn(ax: Axes) -> None:
    one = explanation()
    plots.localiser_map(ax, one, "1D")
    assert ax.get_title() == "bars: 2 boxes"
    one.readings[0].crops = [np.zeros((16, 384), np.float32)] * 3
    plots.strips(ax, one.readings[0])
    assert ax.get_title() == "EAN8 96385074"
    plots.module_matrix(ax, one.readings[1])
    assert ax.texts[-1].get_text() == "no grid"


def test_a_photo_with_more_boxes_gets_more_panels_and_one_without_none() -> None:
    one = explanation()
    for reading in one.readings:
        reading.crops = [np.zeros((16, 384), np.float32)] * 3
    assert [ax.get_title() for ax in plots.all_strips(one)] == ["EAN8 96385074", "nothing that verifies"]
    assert [len(ax.images) for ax in plots.all_grids(one)] == [0, 0, 0, 0]
    one.readings = []
    assert [len(ax.images) for ax in plots.all_strips(one)] == [0]


def test_a_gallery_leaves_empty_places_empty() -> None:
    axes = plots.gallery([(explanation(), LABEL)], columns=2, rows=1)
    assert [len(ax.images) for ax in axes] == [1, 0]
    assert not any(ax.axison for ax in axes)
