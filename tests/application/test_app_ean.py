"""EAN and UPC structure against numbers whose bars and check digits are known."""

from __future__ import annotations

import numpy as np
import pytest

from mlscale.application import ean

KNOWN = ("4006381333931", "9780201379624", "96385074", "73513537", "036000291452", "012345678905")


@pytest.mark.parametrize("text", KNOWN)
def test_known_numbers_have_right_check_digits(text: str) -> None:
    assert ean.is_valid(text)
    assert ean.check_digit(text[:-1]) == text[-1]


@pytest.mark.parametrize("text", KNOWN)
def test_any_single_wrong_digit_is_noticed(text: str) -> None:
    for place in range(len(text)):
        for digit in "0123456789":
            if digit != text[place]:
                assert not ean.is_valid(text[:place] + digit + text[place + 1 :])


@pytest.mark.parametrize("text", KNOWN)
def test_another_reader_agrees_with_the_bars(text: str) -> None:
    import zxingcpp

    bars = np.pad(1 - ean.modules(text), 10, constant_values=1) * np.uint8(255)
    picture = np.repeat(np.repeat(bars[None], 3, axis=1), 60, axis=0)
    (read,) = zxingcpp.read_barcodes(np.ascontiguousarray(picture))
    assert read.text.lstrip("0") == text.lstrip("0")


def test_published_encoding_of_ean13() -> None:
    # ISO/IEC 15420: the first digit 4 draws the left half with sets L G L L G G.
    assert [symbol_set for symbol_set, _ in ean.symbols("4006381333931")][:6] == list("LGLLGG")
    assert "".join(map(str, ean.modules("4006381333931")[:10])) == "101" + "0001101"
    assert len(ean.modules("4006381333931")) == 95
    assert len(ean.modules("96385074")) == 67


@pytest.mark.parametrize("text", KNOWN)
def test_symbols_tell_the_number_upright_and_upside_down(text: str) -> None:
    kind = {8: "EAN8", 12: "UPCA", 13: "EAN13"}[len(text)]
    drawn = ean.symbols(text)
    turned = {"L": "Q", "Q": "L", "G": "R", "R": "G"}
    assert ean.from_symbols(drawn) == (kind, text)
    assert ean.from_symbols([(turned[name], digit) for name, digit in reversed(drawn)]) == (kind, text)


def test_sets_are_their_mirror_images() -> None:
    for digit in range(10):
        assert ean.digit_bits("G", digit) == ean.digit_bits("R", digit)[::-1]
        assert ean.digit_bits("Q", digit) == ean.digit_bits("L", digit)[::-1]


def test_wrong_parity_or_check_digit_is_no_number() -> None:
    drawn = ean.symbols("4006381333931")
    assert ean.from_symbols([("G", drawn[0][1]), *drawn[1:]]) is None
    assert ean.from_symbols([*drawn[:-1], ("R", (drawn[-1][1] + 1) % 10)]) is None
    with pytest.raises(ValueError, match="check digit"):
        ean.symbols("4006381333932")
