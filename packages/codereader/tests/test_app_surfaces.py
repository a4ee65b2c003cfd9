"""Bent and tilted surfaces: there and back, and that what is drawn stands where it should."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from codereader.geometry import homography, rectangle
from codereader.sheets import Sheet, lattice
from codereader.surfaces import Curl, Surface, paste

TILTED = homography(rectangle(200, 100), np.array([[20.0, 30.0], [190.0, 10.0], [210.0, 120.0], [5.0, 110.0]]))
CURLS = [
    None,
    Curl(0, (100.0, 50.0), 120.0, sag=0.2, shrink=0.2),
    Curl(1, (80.0, 40.0), 90.0, sag=-0.3, shrink=0.1),
]


@pytest.mark.parametrize("curl", CURLS)
def test_there_and_back(curl: Curl | None) -> None:
    points = np.random.default_rng(1).uniform((0, 0), (200, 100), (50, 2))
    surface = Surface(TILTED, curl)
    np.testing.assert_allclose(surface.back(surface.see(points)), points, atol=1e-6)


def test_what_has_turned_away_is_nowhere() -> None:
    curl = Curl(0, (100.0, 50.0), 40.0)
    assert np.isnan(curl.unbend(np.array([[150.0, 50.0]]))).any()
    assert np.isfinite(curl.unbend(np.array([[130.0, 50.0]]))).all()


@pytest.mark.parametrize("curl", CURLS)
def test_marks_on_a_canvas_are_drawn_where_the_surface_shows_them(curl: Curl | None) -> None:
    canvas = Image.new("L", (200, 100), 200)
    marks = np.array([[40, 30], [120, 50], [150, 70]])
    for x, y in marks:
        canvas.paste(0, (x - 4, y - 4, x + 4, y + 4))
    scene = Image.new("L", (240, 150), 100)
    surface = Surface(TILTED, curl)
    paste(scene, canvas, surface)
    grey = np.asarray(scene)
    for x, y in surface.see(marks.astype(float)):
        assert grey[int(y), int(x)] < 40
    for x, y in surface.see(np.array([[80.0, 30.0], [60.0, 80.0]])):
        assert grey[int(y), int(x)] == pytest.approx(200, abs=3)
    assert grey[2, 2] == 100


def test_a_sheet_of_nine_points_passes_through_them() -> None:
    corners = np.array([[20.0, 30.0], [190.0, 10.0], [210.0, 120.0], [5.0, 110.0]])
    offsets = np.random.default_rng(2).normal(0, 0.03, (9, 2))
    sheet = Sheet(corners, offsets)
    plane = Sheet(corners, np.zeros((9, 2)))
    np.testing.assert_allclose(plane.outline, corners, atol=1e-9)
    np.testing.assert_allclose(sheet.see(lattice()), plane.see(lattice() + offsets), atol=1e-9)
    assert plane.is_flat(25)
    assert not sheet.is_flat(25)
