"""EAN-13, EAN-8, UPC-A and UPC-E: digits to modules and back (ISO/IEC 15420).

A digit is seven modules. The left half of an EAN-13 draws each digit from set L or G, and which of the two spells the
first digit; the right half draws from R. A UPC-E has six digits of L and G alone, which spell its number system and its
check digit. Read upside down, R appears as G, G as R and L as what is called Q here, so that the symbol classes of one
strip tell its direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_R_BITS = ("1110010", "1100110", "1101100", "1000010", "1011100", "1001110", "1010000", "1000100", "1001000", "1110100")
_PARITY = ("LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL")
# Of number system 0, by check digit; number system 1 has L and G exchanged.
_UPCE_PARITY = ("GGGLLL", "GGLGLL", "GGLLGL", "GGLLLG", "GLGGLL", "GLLGGL", "GLLLGG", "GLGLGL", "GLGLLG", "GLLGLG")
_TURNED = {"L": "Q", "Q": "L", "G": "R", "R": "G"}

# Order of the symbol sets; class = 10 * set + digit, 40 classes in all.
SETS = "LGRQ"
# Width of a code in modules, without quiet zones.
MODULES = {"EAN13": 95, "UPCA": 95, "EAN8": 67, "UPCE": 51}
# How many of its digits a code draws.
DRAWN = {"EAN13": 12, "UPCA": 12, "EAN8": 8, "UPCE": 6}

LogProbabilities = NDArray[np.float32]


def digit_bits(symbol_set: str, digit: int) -> str:
    """The seven modules ('1' = dark) of ``digit`` in set L, G, R or Q."""
    right = _R_BITS[digit]
    left = "".join("10"[int(bit)] for bit in right)
    return {"R": right, "L": left, "G": right[::-1], "Q": left[::-1]}[symbol_set]


def check_digit(digits: str) -> str:
    """The check digit that follows ``digits`` (7, 11 or 12 of them): weights 3, 1, 3, ... from the right."""
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits)))
    return str(-total % 10)


def expanded(text: str) -> str:
    """The 12 digits of UPC-A that the 8 digits of a UPC-E stand for."""
    system, body, check = text[0], text[1:7], text[7]
    last = body[5]
    if last in "012":
        middle = body[:2] + last + "0000" + body[2:5]
    elif last == "3":
        middle = body[:3] + "00000" + body[3:5]
    elif last == "4":
        middle = body[:4] + "00000" + body[4]
    else:
        middle = body[:5] + "0000" + last
    return system + middle + check


def is_valid(kind: str, text: str) -> bool:
    """Whether ``text`` is a number of ``kind`` with the right check digit."""
    length = {"EAN13": 13, "UPCA": 12, "EAN8": 8, "UPCE": 8}[kind]
    if len(text) != length or not (text.isascii() and text.isdigit()):
        return False
    if kind == "UPCE":
        return text[0] in "01" and check_digit(expanded(text)[:-1]) == text[-1]
    return check_digit(text[:-1]) == text[-1]


def symbols(kind: str, text: str) -> list[tuple[str, int]]:
    """The (set, digit) pairs from left to right of a code.

    Raises:
        ValueError: not a valid code.
    """
    if not is_valid(kind, text):
        raise ValueError(f"not a number of {kind} with a right check digit: {text!r}")
    if kind == "EAN8":
        sets, digits = "LLLLRRRR", text
    elif kind == "UPCE":
        sets, digits = _upce_sets(text[0], text[7]), text[1:7]
    else:
        full = text.zfill(13)
        sets, digits = _PARITY[int(full[0])] + "RRRRRR", full[1:]
    return [(symbol_set, int(digit)) for symbol_set, digit in zip(sets, digits, strict=True)]


def classes(kind: str, text: str) -> NDArray[np.int64]:
    """The strip reader's class of each of `symbols`, 10 for each set."""
    return np.array([10 * SETS.index(name) + digit for name, digit in symbols(kind, text)])


def _upce_sets(system: str, check: str) -> str:
    sets = _UPCE_PARITY[int(check)]
    return sets if system == "0" else sets.translate(str.maketrans("LG", "GL"))


def modules(kind: str, text: str) -> NDArray[np.uint8]:
    """The modules of a code from left to right: 1 = dark, shape (`MODULES` of the kind,)."""
    digits = [digit_bits(symbol_set, digit) for symbol_set, digit in symbols(kind, text)]
    if kind == "UPCE":
        bits = "101" + "".join(digits) + "010101"
    else:
        half = len(digits) // 2
        bits = "101" + "".join(digits[:half]) + "01010" + "".join(digits[half:]) + "101"
    return np.frombuffer(bits.encode(), dtype=np.uint8) - ord("0")


def add_on(digits: str) -> NDArray[np.uint8]:
    """The modules of the small code of 2 or 5 digits that stands to the right of some EAN-13 and UPC-A."""
    if len(digits) == 2:
        sets = ("LL", "LG", "GL", "GG")[int(digits) % 4]
    else:
        total = 3 * sum(int(digit) for digit in digits[::2]) + 9 * sum(int(digit) for digit in digits[1::2])
        sets = ("GGLLL", "GLGLL", "GLLGL", "GLLLG", "LGGLL", "LLGGL", "LLLGG", "LGLGL", "LGLLG", "LLGLG")[total % 10]
    patterns = [digit_bits(symbol_set, int(digit)) for symbol_set, digit in zip(sets, digits, strict=True)]
    return np.frombuffer(("1011" + "01".join(patterns)).encode(), dtype=np.uint8) - ord("0")


def digit_centres(count: int) -> NDArray[np.float64]:
    """Centres of the ``count`` (6, 8 or 12) drawn digits, as fractions of the code's width."""
    if count == 6:
        return np.asarray((3 + 7 * np.arange(6) + 3.5) / MODULES["UPCE"])
    half = count // 2
    left = 3 + 7 * np.arange(half) + 3.5
    return np.asarray(np.concatenate([left, left + 7 * half + 5]) / (7 * count + 11))


def upside_down(log_probs: LogProbabilities) -> LogProbabilities:
    """The classes (40, count) of a strip read from the other end."""
    order = [10 * SETS.index(_TURNED[name]) + digit for name in SETS for digit in range(10)]
    return np.ascontiguousarray(log_probs[order, ::-1])


def spell(log_probs: LogProbabilities) -> tuple[str, str, float]:
    """The likeliest number that fits its check digit, given each symbol's log probability.

    Args:
        drawn: (40, count) log probabilities of an upright strip's symbols; count 12, 8 or 6.
    Returns:
        (kind, text, log probability): the sum over the symbols. An EAN-13 with a leading zero is a UPC-A.
    """
    count = log_probs.shape[1]
    if count == 6:
        return _spell_upce(log_probs)
    patterns = [pattern + "R" * (count // 2) for pattern in (_PARITY if count == 12 else ("LLLL",))]
    weights = tuple(3 if place % 2 == 0 else 1 for place in range(count))
    sums = _Sums(_by_pattern(log_probs, patterns))
    numbers = _ALL[: len(patterns)]
    scores = sums.after(weights)[-numbers % 10, numbers]  # the first digit weighs 1
    first = int(scores.argmax())
    text = sums.digits(weights, first, -first % 10)
    kind = "EAN8" if count == 8 else "UPCA" if first == 0 else "EAN13"
    return kind, f"{first}{text}" if kind == "EAN13" else text, float(scores[first])


def _spell_upce(log_probs: LogProbabilities) -> tuple[str, str, float]:
    """All 20 parity patterns; the last digit decides how the number is expanded, so it is tried apart."""
    columns = _by_pattern(log_probs, [_upce_sets(system, str(check)) for system, check in _UPCE_SPELLED])
    sums = _Sums(columns[:5])
    spelled = np.array([3 * int(system) + check for system, check in _UPCE_SPELLED])
    best: tuple[str, str, float] = ("UPCE", "", -np.inf)
    for last, (weights, own_weight) in enumerate(_UPCE_WEIGHTS):
        targets = -(spelled + own_weight * last) % 10
        scores = sums.after(weights)[targets, np.arange(len(targets))] + columns[5, last]
        pattern = int(scores.argmax())
        if scores[pattern] > best[2]:
            system, check = _UPCE_SPELLED[pattern]
            digits = sums.digits(weights, pattern, int(targets[pattern]))
            best = ("UPCE", f"{system}{digits}{last}{check}", float(scores[pattern]))
    return best


def _by_pattern(log_probs: LogProbabilities, patterns: Sequence[str]) -> NDArray[np.float32]:
    """Each digit's log probability at each place, if its set is the pattern's: (count, 10, patterns)."""
    sets = _sets_of(tuple(patterns))
    places = np.arange(sets.shape[1])[:, None, None]
    return log_probs.reshape(4, 10, -1)[sets.T[:, None], _ALL[:, None], places]


@lru_cache(maxsize=8)
def _sets_of(patterns: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([[SETS.index(name) for name in pattern] for pattern in patterns])


class _Sums:
    """The likeliest digits by their weighted sum modulo 10: dynamic programming over the sum so far.

    Args:
        columns: log probabilities (count, 10, patterns) of the digits at each place.
    """

    def __init__(self, columns: NDArray[np.float32]) -> None:
        self._columns = columns
        start = np.full((10, columns.shape[2]), -np.inf)
        start[0] = 0.0
        self._totals: dict[tuple[int, ...], NDArray[np.float64]] = {(): start}

    def after(self, weights: tuple[int, ...]) -> NDArray[np.float64]:
        """The highest total of the first digits, which weigh so much, for each sum: (10, patterns)."""
        if weights not in self._totals:
            before = self.after(weights[:-1]).take(_SUMS_BEFORE[weights[-1]], axis=0)
            options = before + self._columns[len(weights) - 1][:, None]
            self._totals[weights] = options.max(axis=0)
        return self._totals[weights]

    def digits(self, weights: tuple[int, ...], pattern: int, state: int) -> str:
        """The digits that lead to the sum ``state``, followed back from the last."""
        digits: list[int] = []
        for place in reversed(range(len(weights))):
            before = _SUMS_BEFORE[weights[place]][:, state]
            options = self._totals[weights[:place]][before, pattern] + self._columns[place, :, pattern]
            digits.append(int(options.argmax()))
            state = int(before[digits[-1]])
        return "".join(map(str, reversed(digits)))


_ALL: Final = np.arange(10)
# Weight -> (10, 10): the sum before a digit, by the digit and the sum after it.
_SUMS_BEFORE: Final = {weight: (_ALL[None] - weight * _ALL[:, None]) % 10 for weight in (1, 3)}
# What parity patterns spell: number system and check digit.
_UPCE_SPELLED: Final = [(system, check) for system in "01" for check in range(10)]
# By the last of the six digits: weights of the first five, and of itself, in the UPC-A that they stand for.
_UPCE_WEIGHTS: Final = (
    *[((1, 3, 3, 1, 3), 1)] * 3,
    ((1, 3, 1, 1, 3), 0),
    ((1, 3, 1, 3, 3), 0),
    *[((1, 3, 1, 3, 1), 3)] * 5,
)
