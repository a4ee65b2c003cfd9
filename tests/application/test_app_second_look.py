"""Where a photo is looked at once more: around what stayed unread, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mlscale.application import crops
from mlscale.application.decoder import Found, make_decoder, unread
from mlscale.application.geometry import rectangle
from mlscale.application.images import Photo, open_photo
from mlscale.application.localiser import Box, find_boxes, hints
from mlscale.application.photos import photo_bytes

PHOTO = Photo(Image.new("L", (960, 720)), (1920, 1440))


def maps(hinted: bool = False, boxed: bool = False) -> np.ndarray:
    """The localiser's maps of `PHOTO` for a side of 480, (6, 90, 120): bars in one place hinted at, in another sure."""
    found = np.full((6, 90, 120), -9.0, dtype=np.float32)
    if hinted:
        found[0, 10:14, 20:30] = -2.0
    if boxed:
        found[0, 50:60, 60:90] = 4.0
    return found


def test_a_hint_is_a_place_that_is_no_box() -> None:
    scale = (2.0, 2.0)
    seen = maps(hinted=True, boxed=True)
    assert np.array(hints(seen, scale)).tolist() == [[[160, 80], [240, 112]]]
    (box,) = find_boxes(seen, scale)
    assert (box.corners.min(axis=0) < [480, 400]).all()
    assert (box.corners.max(axis=0) > [720, 480]).all()


def test_boxes_without_a_code_are_looked_at_again() -> None:
    near, far = Box("1D", rectangle(100, 50, 40, 40), 1.0), Box("1D", rectangle(100, 50, 700, 600), 1.0)
    code = Found("EAN13", "4006381333931", rectangle(200, 100, 80, 80))  # twice as many pixels were sent
    assert [each.tolist() for each in unread(PHOTO, [near, far], [code, None], maps())] == [[[700, 600], [800, 650]]]
    assert unread(PHOTO, [near], [code], maps()) == []
    assert len(unread(PHOTO, [near], [code], maps(hinted=True))) == 1


@pytest.mark.parametrize(
    ("places", "part"),
    [
        ([[[400, 300], [500, 400]]], (246, 146, 654, 554)),
        ([[[0, 0], [100, 50]], [[300, 100], [400, 200]]], (0, 0, 554, 354)),
        ([[[900, 700], [960, 720]]], (746, 546, 960, 720)),
        ([[[0, 0], [10, 10]], [[950, 700], [960, 720]]], (0, 0, 960, 720)),
    ],
)
def test_a_part_holds_all_places_with_room_and_never_leaves_the_photo(
    places: list[list[list[int]]], part: tuple[int, int, int, int]
) -> None:
    assert crops.part_around(np.array(places, dtype=float), (960, 720), 800) == part  # 128 pixels of the look are 153.6


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_a_look_at_a_part_finds_there_what_a_look_at_all_of_it_finds(seed: int) -> None:
    decoder = make_decoder(nets=("localiser",))
    body, label = photo_bytes(seed, 0, "easy", width=1280, height=960, codes=1)
    photo = open_photo(body)
    corners = np.array(label["codes"][0]["corners"])
    place = np.stack([corners.min(axis=0), corners.max(axis=0)])
    left, top, right, bottom = crops.part_around([place], photo.grey.size, crops.CLOSER_SIDE)
    assert (right - left) * (bottom - top) < 1280 * 960, "the photo shows a code that fills it: choose another"
    whole = _over(decoder.localise(photo.grey, crops.CLOSER_SIDE)[1], corners)
    part = _over(decoder.look_again(photo, crops.CLOSER_SIDE, [place]), corners)
    assert part.kind == whole.kind
    assert np.linalg.norm(part.corners.mean(axis=0) - whole.corners.mean(axis=0)) < 0.05 * np.ptp(corners)


def _over(boxes: list[Box], corners: np.ndarray) -> Box:
    """The best box in whose middle the code's middle lies."""
    centre = corners.mean(axis=0)
    return next(
        box for box in boxes if np.linalg.norm(box.corners.mean(axis=0) - centre) < 0.2 * np.ptp(corners, axis=0).max()
    )
