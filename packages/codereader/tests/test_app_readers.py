"""From what networks say to texts: strips and grids whose truth is known, no network in between."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from codereader import crops, ean, fixed_patterns, grids, qr
from codereader.evidence import digit_support, lightness_beside
from codereader.geometry import project, rectangle
from codereader.placements import FRAMES
from codereader.sheets import Sheet, lattice
from codereader.strips import BarsRead, dark_on_light, is_accepted, read_bars

NUMBERS = [("EAN13", "4006381333931"), ("UPCA", "036000291452"), ("EAN8", "96385074"), ("UPCE", "01234565")]
NEGATIVE = dict(zip("LGRQ", "RQLG", strict=True))
TURNED = dict(zip("LGRQ", "QRGL", strict=True))
SURE, NONE = np.full(3, 8, dtype=np.float32), np.full(3, -8, dtype=np.float32)
"""Logits of a reader that sees a code, and of one that does not."""


def shown(
    kind: str, text: str, *, turned: bool = False, negative: bool = False, curl: float = 0.0, doubt: float = 0.0
) -> np.ndarray:
    """Logits (3, 41, frames) of a reader that sees the code from 0.1 to 0.9 of the strips, each symbol over almost
    three modules as it was taught, sure but for ``doubt``."""
    logits = np.zeros((3, 41, FRAMES), dtype=np.float32)
    logits[:, 40] = 8
    place = ean.digit_centres(ean.DRAWN[kind])
    if curl:
        place = 0.5 + np.sin(curl * (2 * place - 1)) / (2 * np.sin(curl))
    for (name, digit), at in zip(ean.symbols(kind, text), place, strict=True):
        name = NEGATIVE[name] if negative else name
        name = TURNED[name] if turned else name
        x = 0.1 + 0.8 * (1 - at if turned else at)
        reach = 1.4 * 0.8 * FRAMES / ean.MODULES[kind]
        frames = slice(round(x * FRAMES - reach), round(x * FRAMES + reach))
        logits[:, 40, frames] = 0
        logits[:, 10 * ean.SETS.index(name) + digit, frames] = 10 * (1 - doubt)
    return logits


def pictured(kind: str, text: str, *, turned: bool = False, negative: bool = False, curl: float = 0.0) -> np.ndarray:
    """The strips (3, 16, 384) that such a reader sees."""
    bars = ean.modules(kind, text)
    share = np.linspace(-0.2, 1.2, 20_000)
    place = 0.5 + np.sin(curl * (2 * share - 1)) / (2 * np.sin(curl)) if curl else share
    column = ((0.1 + 0.8 * (1 - place if turned else place)) * crops.STRIP_WIDTH).astype(int)
    module = np.floor(share * len(bars)).astype(int)
    inside = (module >= 0) & (module < len(bars))
    dark = np.where(inside, bars[np.clip(module, 0, len(bars) - 1)], 0)
    row = np.ones(crops.STRIP_WIDTH, dtype=np.float32)
    seen = (column >= 0) & (column < crops.STRIP_WIDTH)
    row[column[seen]] = np.where(dark[seen] == 1, -1, 1)
    return np.broadcast_to(-row if negative else row, (3, crops.STRIP_HEIGHT, crops.STRIP_WIDTH)).astype(np.float32)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("kind", "text"), NUMBERS)
def test_strips_tell_number_place_and_direction(kind: str, text: str, turned: bool) -> None:
    bars = read_bars(pictured(kind, text, turned=turned), shown(kind, text, turned=turned), SURE).bars
    assert bars is not None
    assert (bars.kind, bars.text, bars.turned) == (kind, text, turned)
    wide = 1 + 2 * crops.STRIP_MARGIN
    assert bars.span[0] == pytest.approx(0.1 * wide - crops.STRIP_MARGIN, abs=0.03)
    assert bars.span[1] == pytest.approx(0.9 * wide - crops.STRIP_MARGIN, abs=0.03)


@pytest.mark.parametrize(("kind", "text"), NUMBERS)
def test_the_second_look_reads_curled_paper(kind: str, text: str) -> None:
    bars = read_bars(pictured(kind, text, curl=1.1), shown(kind, text, curl=1.1), SURE, look=1).bars
    assert bars is not None
    assert (bars.kind, bars.text) == (kind, text)


@pytest.mark.parametrize(("kind", "text"), NUMBERS)
def test_light_bars_on_dark_are_exchanged(kind: str, text: str) -> None:
    upright = pictured(kind, text)
    for strips in (upright, pictured(kind, text, negative=True)):
        assert np.array_equal(dark_on_light(strips), upright)
        assert np.array_equal(dark_on_light(strips, look=1), upright)


def test_where_nothing_tells_light_from_dark_every_other_look_takes_the_other() -> None:
    strips = pictured("EAN13", "4006381333931")
    strips[:, :, :40] = strips[:, :, -40:] = strips[:, :, 60:-60].mean()
    assert np.array_equal(dark_on_light(strips, look=1), -dark_on_light(strips, look=0))


def test_a_box_around_two_neighbours_is_narrowed_to_the_larger() -> None:
    """The bars of a code, and far smaller ones beside them, in strips whose digits fit nowhere or show none."""
    strips = np.ones((3, crops.STRIP_HEIGHT, crops.STRIP_WIDTH), dtype=np.float32)
    strips[:, :, 40:240:4] = strips[:, :, 41:240:4] = -1
    strips[:, :, 280:340:4] = strips[:, :, 281:340:4] = -1
    logits = np.zeros((3, 41, FRAMES), dtype=np.float32)
    logits[:, 40] = 8
    logits[:, 7, 20:90] = 20  # one digit that goes on and on
    nothing = np.zeros_like(logits)
    nothing[:, 40] = 8
    for seen, code in ((logits, SURE), (nothing, SURE), (logits, NONE)):
        look = read_bars(strips, seen, code)
        assert look.hopeful
        left, right = look.outline[:2, 0] + crops.STRIP_MARGIN
        assert left == pytest.approx(40 / 384 * (1 + 2 * crops.STRIP_MARGIN), abs=0.01)
        assert right == pytest.approx(240 / 384 * (1 + 2 * crops.STRIP_MARGIN), abs=0.01)
    assert not read_bars(strips, logits, NONE, look=1).hopeful


def test_a_doubtful_short_code_is_not_returned() -> None:
    for kind, text in (("EAN8", "96385074"), ("UPCE", "01234565")):
        assert read_bars(pictured(kind, text), shown(kind, text, doubt=0.85), SURE).bars is None


def sequence(logits: np.ndarray) -> list[int]:
    best = logits[0].argmax(axis=0)
    starts = np.flatnonzero(np.diff(best, prepend=40))
    return [int(best[start]) for start in starts if best[start] < 40]


@pytest.mark.parametrize("turned", [False, True])
def test_a_upc_e_that_makes_two_numbers_is_read_the_right_way_round(turned: bool) -> None:
    """08232687 turned and exchanged light for dark has the digits and sets of 08623287."""
    logits = shown("UPCE", "08232687", turned=turned)
    assert sequence(logits) == sequence(shown("UPCE", "08623287", turned=not turned, negative=True))
    bars = read_bars(pictured("UPCE", "08232687", turned=turned), logits, SURE, look=1).bars
    assert bars is not None
    assert bars.text == "08232687"
    exchanged_by_mistake = pictured("UPCE", "08623287", turned=not turned, negative=True)
    assert read_bars(exchanged_by_mistake, logits, SURE, look=1).bars is None


def test_a_strip_without_symbols_shows_nothing() -> None:
    empty = np.zeros((3, 41, FRAMES), dtype=np.float32)
    empty[:, 40] = 8
    look = read_bars(np.zeros((3, crops.STRIP_HEIGHT, crops.STRIP_WIDTH), dtype=np.float32), empty, NONE)
    assert look.bars is None
    assert not look.hopeful


def test_what_is_hardly_a_code_is_not_looked_at_again() -> None:
    """By the last looks the box should stand well, so that more is asked of it."""
    unread, strips = shown("EAN13", "4006381333931", doubt=0.6), pictured("EAN13", "4006381333931")
    doubted = np.full(3, -2.2, dtype=np.float32)  # one in ten
    assert [read_bars(strips, unread, SURE, look).hopeful for look in range(3)] == [True, True, True]
    assert [read_bars(strips, unread, doubted, look).hopeful for look in range(3)] == [True, True, False]
    assert [read_bars(strips, unread, NONE, look).hopeful for look in range(3)] == [False, False, False]


def test_half_an_ean_13_is_no_upc_e() -> None:
    logits, strips = shown("EAN13", "4006381333931"), pictured("EAN13", "4006381333931")
    strips[:, :, strips.shape[2] // 2 + 6 :] = 0
    middle = FRAMES // 2
    logits[:, :40, middle:] = 0
    logits[:, 40, middle:] = 8
    assert read_bars(strips, logits, SURE).bars is None
    assert read_bars(strips, logits, SURE, look=1).bars is None


def test_a_upc_e_shows_no_symbol_at_the_end_of_its_last_guard() -> None:
    """There half an EAN-13 shows the first digit of its right half, however sure the six before are."""
    logits, strips = shown("UPCE", "01234565"), pictured("UPCE", "01234565")
    bars = read_bars(strips, logits, SURE).bars
    assert bars is not None
    assert bars.text == "01234565"
    at = round((0.1 + 0.8 * 49.5 / ean.MODULES["UPCE"]) * FRAMES)
    logits[:, 40, at - 2 : at + 3] = 0
    logits[:, 10 * ean.SETS.index("R") + 4, at - 2 : at + 3] = 10
    assert read_bars(strips, logits, SURE).bars is None


def drawn(text: str, version: int, sheet: Sheet, size: tuple[int, int], *, inverted: bool = False) -> Image.Image:
    """A photo of a code on ``sheet``: a lattice of the code, finer than the photo, tells each pixel its module."""
    matrix = qr.encode(text, "M", version)
    at = (np.arange(fine := 2 * max(size)) + 0.5) / fine
    columns, rows = np.meshgrid(at, at)
    seen = sheet.see(np.stack([columns.ravel(), rows.ravel()], axis=1)).astype(int)
    photo = np.full(size[::-1], 30 if inverted else 220, dtype=np.uint8)
    module = (at * len(matrix)).astype(int)
    dark = matrix[np.ix_(module, module)].ravel()
    photo[seen[:, 1], seen[:, 0]] = np.where((dark == 1) != inverted, 30, 220)
    return Image.fromarray(photo)


def said(version: int) -> np.ndarray:
    """The logits of a finder that is sure of a version."""
    return 30 * np.eye(qr.MAX_VERSION + 1, dtype=np.float32)[version - 1]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("bend", [0.0, 0.06])
def test_a_sheet_that_is_known_is_read(bend: float, inverted: bool) -> None:
    corners = rectangle(260, 260, 70, 60)
    offsets = np.zeros((9, 2))
    offsets[[1, 4, 7], 1] = bend  # the middle column sags
    truth = Sheet(corners, offsets)
    photo = drawn("a bent sheet", 3, truth, (400, 400), inverted=inverted)

    def finder(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert crop.shape == (crops.GRID_SIDE, crops.GRID_SIDE)
        return offsets.astype(np.float32).ravel(), said(3)

    def reader(crop: np.ndarray) -> np.ndarray:
        margin, px = crops.MODULE_MARGIN, crops.MODULE_PX
        centres = crop[px // 2 :: px, px // 2 :: px]
        return -centres[margin:-margin, margin:-margin]

    read = grids.read_grid(photo, corners, finder, reader)
    assert read is not None
    assert (read.text, read.version) == ("a bent sheet", 3)
    np.testing.assert_allclose(read.corners, project(np.eye(3), truth.see(lattice())[[0, 2, 8, 6]]), atol=1e-6)


@pytest.mark.parametrize("off", [(0.4, 0.3), (-0.35, 0.4)])
def test_a_sheet_that_is_off_is_aligned_by_the_fixed_modules(off: tuple[float, float]) -> None:
    """The finder is wrong by almost half a module at every point and never learns it."""
    corners, version = rectangle(270, 270, 70, 60), 7
    photo = drawn("aligned by what is known of it", version, Sheet(corners, np.zeros((9, 2))), (400, 400))
    wrong = corners + np.array(off) * 270 / qr.size_of(version)

    def finder(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(18, dtype=np.float32), said(version)

    def reader(crop: np.ndarray) -> np.ndarray:
        middle = slice(crops.MODULE_MARGIN, -crops.MODULE_MARGIN)
        sides = crop.reshape(len(crop) // crops.MODULE_PX, crops.MODULE_PX, -1, crops.MODULE_PX).mean(axis=(1, 3))
        return -3 * sides[middle, middle]

    read = grids.read_grid(photo, wrong, finder, reader)
    assert read is not None
    assert read.text == "aligned by what is known of it"
    assert np.abs(read.corners - corners).max() < 0.25 * 270 / qr.size_of(version)


@pytest.mark.parametrize(
    ("version", "assumed", "turn"), [*((3, 3, turn) for turn in range(4)), (14, 13, 1), (20, 22, 2), (18, 23, 3)]
)
def test_a_sheet_that_is_far_off_is_refitted_by_the_fixed_patterns(version: int, assumed: int, turn: int) -> None:
    """The finder is wrong by up to 2 % of the side, in a different way at each corner, and by a few versions."""
    truth, size = rectangle(440, 440, 80, 80), qr.size_of(version)
    upright = Sheet(np.roll(truth, -turn, axis=0), np.zeros((9, 2)))
    photo = drawn("settled by what is known of it", version, upright, (600, 600))
    rough = Sheet(truth + np.array([[2, 1], [-1, 1], [1, -2], [0, 2]]) * 440 / 100, np.zeros((9, 2)))
    found = fixed_patterns.refit(photo, rough, assumed)
    assert found is not None
    assert found[1] == version
    assert np.abs(found[0].outline - truth).max() < 0.7 * 440 / size


def test_where_no_finder_patterns_are_nothing_is_refitted() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((400, 400), Image.Resampling.NEAREST)
    assert fixed_patterns.refit(photo, Sheet(rectangle(260, 260, 70, 60), np.zeros((9, 2))), 4) is None


def test_what_is_no_code_is_read_once() -> None:
    seen = []

    def finder(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(18, dtype=np.float32), said(3)

    def reader(crop: np.ndarray) -> np.ndarray:
        seen.append(crop.shape)
        return np.ones((29, 29), dtype=np.float32)

    read = grids.read_grid(Image.new("L", (200, 200), 128), rectangle(150, 150, 20, 20), finder, reader)
    assert read is not None
    assert read.text is None
    assert len(seen) == 1


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_what_the_finder_takes_for_no_code_is_left_alone(passes: int) -> None:
    """At whichever look it says so while it moves the sheet."""
    asked: list[float] = []

    def finder(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(0.0)
        logits = said(3)
        logits[qr.MAX_VERSION] = logits.max() + (5.0 if len(asked) == passes else -5.0)
        return np.full(18, 0.03, dtype=np.float32), logits

    assert grids.find_grid(Image.new("L", (200, 200), 128), rectangle(150, 150, 20, 20), finder) is None
    assert len(asked) == passes


@pytest.mark.parametrize(
    ("width", "height", "first"), [(4000, 3000, 480), (480, 640, 480), (320, 240, 288), (50, 9, 288)]
)
def test_a_small_photo_is_first_seen_from_afar(width: int, height: int, first: int) -> None:
    sides = crops.looks(width, height)
    assert sides[0] == first
    assert sides[1] != first


def blurred(strips: np.ndarray, columns: float) -> np.ndarray:
    """The strips out of focus, by a deviation of so many columns, under light that falls off to one side."""
    at = np.arange(-3 * int(columns + 1), 3 * int(columns + 1) + 1)
    kernel = np.exp(-0.5 * (at / columns) ** 2)
    soft = np.apply_along_axis(lambda row: np.convolve(row, kernel / kernel.sum(), "same"), 2, strips)
    return np.asarray(soft * np.linspace(0.4, 1.0, strips.shape[2]) + 0.3, dtype=np.float32)


MISTAKEN = [
    ("EAN13", "4006381333931", "4006381333498"),
    ("EAN8", "96385074", "96385432"),
    ("UPCA", "036000291452", "036000299472"),
]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("kind", "text", "mistaken"), MISTAKEN)
def test_greys_bear_out_the_right_digits_and_no_others(kind: str, text: str, mistaken: str, turned: bool) -> None:
    places = np.tile([0.1 * FRAMES, 0.9 * FRAMES, 0.0, 0.0], (3, 1))
    strips = blurred(pictured(kind, text, turned=turned), 2.5)
    assert digit_support(kind, text, strips, places, turned=turned).min() > 0.3
    found = digit_support(kind, mistaken, strips, places, turned=turned)
    differ = np.array([a != b for a, b in zip(ean.symbols(kind, text), ean.symbols(kind, mistaken), strict=True)])
    assert differ.any()
    assert found[differ].max() < 0 < found[~differ].max()


@pytest.mark.parametrize(("kind", "text", "mistaken"), MISTAKEN)
def test_a_number_that_the_greys_contradict_is_not_returned(kind: str, text: str, mistaken: str) -> None:
    likely = shown(kind, mistaken)
    last = round(0.8 * FRAMES)
    likely[:, :40, last:] *= 0.45  # the last digit is unsure
    assert read_bars(pictured(kind, text), likely, SURE).bars is None
    believed = read_bars(pictured(kind, mistaken), likely, SURE).bars
    assert believed is not None
    assert believed.text == mistaken
    assert believed.sure[0] < 0.8


@pytest.mark.parametrize(
    ("support", "together", "alone"), [(0.4, True, True), (-0.13, True, False), (-0.3, False, False)]
)
def test_more_must_speak_for_a_number_that_rests_on_one_strip(support: float, together: bool, alone: bool) -> None:
    def bars(*, alone: bool) -> BarsRead:
        return BarsRead("EAN13", "4006381333931", (0.0, 1.0), False, (0.9, 0.95), alone, support=support)

    assert is_accepted(bars(alone=False)) == together
    assert is_accepted(bars(alone=True)) == alone


@pytest.mark.parametrize("kind", ["EAN13", "UPCA", "EAN8"])
def test_an_unsure_number_is_not_returned_where_the_strips_end_in_its_bars(kind: str) -> None:
    """What is read as its first digit may be what lies beside it then."""
    text = dict(NUMBERS)[kind]
    cut = round(0.13 * FRAMES)
    likely, strips = shown(kind, text), pictured(kind, text)
    likely[:, :40, : round(0.2 * FRAMES)] *= 0.45  # the first digit is unsure
    whole = read_bars(strips, likely, SURE).bars
    assert whole is not None
    assert whole.text == text
    likely, strips = np.roll(likely, -cut, axis=2), np.roll(strips, -2 * cut, axis=2)
    look = read_bars(strips, likely, SURE)
    assert look.bars is None
    assert look.hopeful


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("kind", "text"), NUMBERS)
def test_paper_is_light_beside_the_guards(kind: str, text: str, turned: bool) -> None:
    places = np.tile([0.1 * FRAMES, 0.9 * FRAMES, 0.0, 0.0], (3, 1))
    strips = pictured(kind, text, turned=turned)
    assert lightness_beside(kind, text, strips, places, turned=turned) > 0.6
    strips[:, :, :34] = strips[:, :, -34:] = -1
    assert lightness_beside(kind, text, strips, places, turned=turned) < 0
