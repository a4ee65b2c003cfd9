"""EAN-13, EAN-8 and UPC-A: digits to modules and back (ISO/IEC 15420).

A digit is seven modules. The left half of an EAN-13 draws each digit from set L or G, and which of the two spells the
first digit; the right half draws from R. Read upside down, R appears as G, G as R and L as what is called Q here, so
that the symbol classes of one strip tell its direction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_R_BITS = ("1110010", "1100110", "1101100", "1000010", "1011100", "1001110", "1010000", "1000100", "1001000", "1110100")
_PARITY = ("LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL")

SETS = "LGRQ"
"""Order of the symbol sets; class = 10 * set + digit, 40 classes in all."""
MODULES = {"EAN13": 95, "UPCA": 95, "EAN8": 67}
"""Width of a code in modules, without quiet zones."""


def digit_bits(symbol_set: str, digit: int) -> str:
    """The seven modules ('1' = dark) of ``digit`` in set L, G, R or Q."""
    right = _R_BITS[digit]
    left = "".join("10"[int(bit)] for bit in right)
    return {"R": right, "L": left, "G": right[::-1], "Q": left[::-1]}[symbol_set]


def check_digit(digits: str) -> str:
    """The check digit that follows ``digits`` (7, 11 or 12 of them): weights 3, 1, 3, ... from the right."""
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits)))
    return str(-total % 10)


def is_valid(text: str) -> bool:
    """Whether ``text`` is 8, 12 or 13 digits with the right check digit."""
    return len(text) in (8, 12, 13) and text.isascii() and text.isdigit() and check_digit(text[:-1]) == text[-1]


def symbols(text: str) -> list[tuple[str, int]]:
    """The (set, digit) pairs from left to right of a code of 8, 12 or 13 digits.

    Raises:
        ValueError: not a valid code.
    """
    if not is_valid(text):
        raise ValueError(f"not an EAN-8, UPC-A or EAN-13 with a right check digit: {text!r}")
    if len(text) == 8:
        sets = "LLLL" + "RRRR"
        digits = text
    else:
        full = text.zfill(13)
        sets = _PARITY[int(full[0])] + "RRRRRR"
        digits = full[1:]
    return [(symbol_set, int(digit)) for symbol_set, digit in zip(sets, digits, strict=True)]


def modules(text: str) -> NDArray[np.uint8]:
    """The modules of a code from left to right: 1 = dark, shape (95,) or (67,)."""
    drawn = [digit_bits(symbol_set, digit) for symbol_set, digit in symbols(text)]
    half = len(drawn) // 2
    bits = "101" + "".join(drawn[:half]) + "01010" + "".join(drawn[half:]) + "101"
    return np.frombuffer(bits.encode(), dtype=np.uint8) - ord("0")


def digit_centres(count: int) -> NDArray[np.float64]:
    """Centres of the ``count`` (8 or 12) drawn digits, as fractions of the code's width."""
    half = count // 2
    left = 3 + 7 * np.arange(half) + 3.5
    return np.asarray(np.concatenate([left, left + 7 * half + 5]) / (7 * count + 11))


def from_symbols(drawn: Sequence[tuple[str, int]]) -> tuple[str, str] | None:
    """(kind, text) of the symbols of one strip from left to right, upright or upside down; None where sets, parity or
    check digit don't fit. An EAN-13 with a leading zero is a UPC-A."""
    if any(symbol_set in "LQ" for symbol_set, _ in drawn[len(drawn) // 2 :]) or all(
        symbol_set == "G" for symbol_set, _ in drawn[: len(drawn) // 2]
    ):
        turned = {"L": "Q", "Q": "L", "G": "R", "R": "G"}
        drawn = [(turned[symbol_set], digit) for symbol_set, digit in reversed(drawn)]
    sets = "".join(symbol_set for symbol_set, _ in drawn)
    digits = "".join(str(digit) for _, digit in drawn)
    if len(drawn) == 8 and sets == "LLLLRRRR":
        return ("EAN8", digits) if is_valid(digits) else None
    if len(drawn) == 12 and sets[6:] == "RRRRRR" and sets[:6] in _PARITY:
        text = str(_PARITY.index(sets[:6])) + digits
        if not is_valid(text):
            return None
        return ("UPCA", text[1:]) if text[0] == "0" else ("EAN13", text)
    return None
