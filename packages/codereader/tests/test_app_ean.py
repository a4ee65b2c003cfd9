"""EAN and UPC structure against numbers whose bars and check digits are known."""

from __future__ import annotations

import numpy as np
import pytest

from codereader import ean, payloads

KNOWN = (
    ("EAN13", "4006381333931"),
    ("EAN13", "9780201379624"),
    ("EAN8", "96385074"),
    ("EAN8", "73513537"),
    ("UPCA", "036000291452"),
    ("UPCA", "012345678905"),
    ("UPCE", "01234565"),
    ("UPCE", "04252614"),
    ("UPCE", "11234562"),
)


def certain(kind: str, text: str) -> np.ndarray:
    """Log probabilities (40, count) of a reader that has no doubt."""
    drawn = np.full((40, ean.DRAWN[kind]), -9.0, dtype=np.float32)
    for place, (name, digit) in enumerate(ean.symbols(kind, text)):
        drawn[10 * ean.SETS.index(name) + digit, place] = -0.01
    return drawn


@pytest.mark.parametrize(("kind", "text"), KNOWN)
def test_known_numbers_have_right_check_digits(kind: str, text: str) -> None:
    assert ean.is_valid(kind, text)


@pytest.mark.parametrize(("kind", "text"), KNOWN)
def test_any_single_wrong_digit_is_noticed(kind: str, text: str) -> None:
    for place in range(1 if kind == "UPCE" else 0, len(text)):
        if kind == "UPCE" and place == 6:
            continue  # it says how the number is expanded: another one makes another number
        for digit in "0123456789":
            if digit != text[place]:
                assert not ean.is_valid(kind, text[:place] + digit + text[place + 1 :])


def test_what_is_no_number_is_not_valid() -> None:
    for kind, text in (
        ("EAN13", "96385074"),
        ("EAN8", "4006381333931"),
        ("UPCA", "03600029145x"),
        ("UPCE", "21234565"),
    ):
        assert not ean.is_valid(kind, text)
    with pytest.raises(ValueError, match="check digit"):
        ean.symbols("EAN13", "4006381333932")


@pytest.mark.parametrize(
    ("short", "long"),
    [("01234565", "012345000065"), ("04252614", "042100005264"), ("01201303", "012000000133")],
)
def test_upc_e_stands_for_a_upc_a(short: str, long: str) -> None:
    # The second is the standard's own example of suppressed zeros (GS1 General Specifications, UPC-E).
    assert ean.expanded(short)[:-1] == long[:-1]
    assert ean.check_digit(ean.expanded(short)[:-1]) == ean.check_digit(long[:-1])


@pytest.mark.parametrize(("kind", "text"), KNOWN)
def test_another_reader_agrees_with_the_bars(kind: str, text: str) -> None:
    import zxingcpp

    bars = np.pad(1 - ean.modules(kind, text), 10, constant_values=1) * np.uint8(255)
    picture = np.repeat(np.repeat(bars[None], 3, axis=1), 60, axis=0)
    (read,) = zxingcpp.read_barcodes(np.ascontiguousarray(picture))
    want = ean.expanded(text) if kind == "UPCE" and len(read.text) > 8 else text
    assert read.text.lstrip("0") == want.lstrip("0")


def test_an_add_on_is_read_by_another_reader() -> None:
    import zxingcpp

    gap = np.zeros(9, dtype=np.uint8)
    for digits in ("05", "52495"):
        bars = np.concatenate([ean.modules("EAN13", "9780201379624"), gap, ean.add_on(digits)])
        picture = np.repeat(np.repeat((1 - np.pad(bars, 10))[None] * np.uint8(255), 3, axis=1), 60, axis=0)
        (read,) = zxingcpp.read_barcodes(
            np.ascontiguousarray(picture), ean_add_on_symbol=zxingcpp.EanAddOnSymbol.Require
        )
        assert read.text.replace(" ", "") == "9780201379624" + digits


def test_published_encoding_of_ean13() -> None:
    # ISO/IEC 15420: the first digit 4 draws the left half with sets L G L L G G.
    assert [name for name, _ in ean.symbols("EAN13", "4006381333931")][:6] == list("LGLLGG")
    assert "".join(map(str, ean.modules("EAN13", "4006381333931")[:10])) == "101" + "0001101"
    for kind, text in KNOWN:
        assert len(ean.modules(kind, text)) == ean.MODULES[kind]


@pytest.mark.parametrize(("kind", "text"), KNOWN)
def test_digits_stand_where_their_modules_are(kind: str, text: str) -> None:
    bars = ean.modules(kind, text)
    for (name, digit), centre in zip(ean.symbols(kind, text), ean.digit_centres(ean.DRAWN[kind]), strict=True):
        first = round(centre * len(bars) - 3.5)
        assert "".join(map(str, bars[first : first + 7])) == ean.digit_bits(name, digit)


@pytest.mark.parametrize(("kind", "text"), KNOWN)
def test_numbers_are_spelled_upright_and_upside_down(kind: str, text: str) -> None:
    drawn = certain(kind, text)
    assert ean.spell(drawn)[:2] == (kind, text)
    turned = ean.upside_down(drawn)
    assert not np.array_equal(turned, drawn)
    assert ean.spell(ean.upside_down(turned))[:2] == (kind, text)


def test_upside_down_is_what_the_mirrored_bars_show() -> None:
    for digit in range(10):
        assert ean.digit_bits("G", digit) == ean.digit_bits("R", digit)[::-1]
        assert ean.digit_bits("Q", digit) == ean.digit_bits("L", digit)[::-1]


def test_the_check_digit_supplies_a_digit_that_cannot_be_read() -> None:
    rng = np.random.default_rng(4)
    for kind in ("EAN13", "EAN8", "UPCA"):
        for _ in range(20):
            text = payloads.number(rng, kind)
            drawn = certain(kind, text)
            place = int(rng.integers(ean.DRAWN[kind] // 2, ean.DRAWN[kind]))
            drawn[20:30, place] = rng.uniform(-2.5, -2.0, 10)  # in the right half: any digit, about as likely
            assert ean.spell(drawn)[:2] == (kind, text)


def test_spelling_finds_the_likeliest_of_all_valid_numbers() -> None:
    rng = np.random.default_rng(5)
    for _ in range(3):
        drawn = np.log(rng.dirichlet(np.full(40, 0.3), 8).T.clip(1e-6)).astype(np.float32)
        columns = np.concatenate([drawn[:10, :4], drawn[20:30, 4:]], axis=1)
        totals = np.zeros(1)
        sums = np.zeros(1, dtype=int)
        for place in range(8):
            totals = (totals[:, None] + columns[None, :, place]).ravel()
            sums = (sums[:, None] + (3 if place % 2 == 0 else 1) * np.arange(10)[None]).ravel()[: len(totals)]
            if place == 3:  # the best of each sum is enough from here on
                keep = [np.flatnonzero(sums % 10 == rest)[totals[sums % 10 == rest].argmax()] for rest in range(10)]
                totals, sums = totals[keep], sums[keep]
        best = totals[sums % 10 == 0].max()
        assert ean.spell(drawn)[2] == pytest.approx(best, abs=1e-4)
