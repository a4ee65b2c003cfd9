"""Where a photo is looked at once more: around what stayed unread, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from codereader import crops
from codereader.decoder import DecodedCode, make_decoder, unread
from codereader.geometry import rectangle
from codereader.images import Photo, open_photo
from codereader.localiser import Box, find_boxes, hints
from codereader.photos import photo_bytes

PHOTO = Photo(Image.new("L", (960, 720)), (1920, 1440))


def maps(hinted: bool = False, boxed: bool = False, faint: bool = False) -> np.ndarray:
    """The localiser's maps of `PHOTO` for a side of 480, (6, 90, 120): bars in one place hinted at, in another sure, in
    a third somewhat likelier than not."""
    found = np.full((6, 90, 120), -9.0, dtype=np.float32)
    if hinted:
        found[0, 10:14, 20:30] = -2.0
    if boxed:
        found[0, 50:60, 60:90] = 4.0
    if faint:
        found[0, 70:76, 20:30] = 0.4
    return found


def test_a_hint_is_a_place_that_is_no_box() -> None:
    scale = (2.0, 2.0)
    seen = maps(hinted=True, boxed=True)
    assert np.array(hints(seen, scale)).tolist() == [[[160, 80], [240, 112]]]
    (box,) = find_boxes(seen, scale)
    assert (box.corners.min(axis=0) < [480, 400]).all()
    assert (box.corners.max(axis=0) > [720, 480]).all()


def test_what_is_hardly_likelier_than_not_is_no_box_yet() -> None:
    """A fifth of the boxes without a code are like it, and hardly any with one: it is worth a closer look."""
    assert find_boxes(maps(faint=True), (2.0, 2.0)) == []
    assert np.array(hints(maps(faint=True), (2.0, 2.0))).tolist() == [[[160, 560], [240, 608]]]


def test_boxes_without_a_code_are_looked_at_again() -> None:
    near, far = Box("1D", rectangle(100, 50, 40, 40), 1.0), Box("1D", rectangle(100, 50, 700, 600), 1.0)
    code = DecodedCode("EAN13", "4006381333931", rectangle(200, 100, 80, 80))  # twice as many pixels were sent
    assert [each.tolist() for each in unread(PHOTO, [near, far], [code, None], maps())] == [[[700, 600], [800, 650]]]
    assert unread(PHOTO, [near], [code], maps()) == []
    assert len(unread(PHOTO, [near], [code], maps(hinted=True))) == 1


def test_boxes_around_one_qr_code_each_are_not_looked_at_again() -> None:
    """The grid finder would go from a closer look's box to the same sheet; not so where a box holds two neighbours."""
    square, wide = Box("QR", rectangle(100, 90, 40, 40), 1.0), Box("QR", rectangle(200, 90, 400, 40), 1.0)
    assert unread(PHOTO, [square], [None], maps()) == []
    assert len(unread(PHOTO, [square, wide], [None, None], maps())) == 2
    assert len(unread(PHOTO, [square], [None], maps(hinted=True))) == 2


@pytest.mark.parametrize(
    ("places", "part"),
    [
        ([[[400, 300], [500, 400]]], (181, 81, 719, 619)),
        ([[[0, 0], [100, 50]], [[200, 100], [300, 200]]], (0, 0, 538, 538)),
        ([[[900, 700], [960, 720]]], (422, 182, 960, 720)),
        ([[[0, 0], [10, 10]], [[950, 700], [960, 720]]], (0, 0, 960, 720)),
        ([[[300, 100], [600, 200]]], (0, 0, 960, 720)),
    ],
)
def test_a_part_is_a_square_around_all_places_with_room_or_all_of_the_photo(
    places: list[list[list[int]]], part: tuple[int, int, int, int]
) -> None:
    """448 pixels of the look are 537.6 of the photo, and 128 are 153.6."""
    assert crops.part_around(np.array(places, dtype=float), (960, 720), 800) == part


def test_parts_of_a_photo_are_of_one_size_each() -> None:
    """The networks' kernels are compiled for each size anew."""
    seen = set()
    for x, y in np.random.default_rng(5).uniform([20, 20], [1100, 820], (40, 2)):
        part = crops.part_around([np.array([[x, y], [x + 30, y + 20]])], (1152, 864), 800)
        width, height = part[2] - part[0], part[3] - part[1]
        seen.add(crops.localiser_size(width, height, round(800 * max(width, height) / 1152)))
    assert seen == {(448, 448)}


@pytest.mark.parametrize("seed", [0, 3, 6])
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
