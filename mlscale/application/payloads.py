"""What generated codes say: product numbers, and QR texts of every encoding, version and correction level."""

from __future__ import annotations

import string

import numpy as np

from mlscale.application import ean, qr

_ALNUM = list(string.digits + string.ascii_uppercase + " $%*+-./:")
_BYTES = list(string.ascii_letters + string.digits + ".-_~:/?#[]@!&'()*+,;= ")
_WIDE = list("äöüßéèñçøåžłığ€日本語写真漢字東京Привет")


def ean_text(rng: np.random.Generator, kind: str) -> str:
    """A number of ``kind`` EAN13 (no leading zero: that is a UPC-A), EAN8 or UPCA, with its check digit."""
    length = {"EAN13": 13, "EAN8": 8, "UPCA": 12}[kind]
    digits = rng.integers(0, 10, length - 1)
    if kind == "EAN13":
        digits[0] = rng.integers(1, 10)
    text = "".join(str(digit) for digit in digits)
    return text + ean.check_digit(text)


def qr_text(rng: np.random.Generator, length: int) -> str:
    """A text of about ``length`` characters: numeric, alphanumeric, address, card, or with characters beyond ASCII."""
    match int(rng.integers(0, 6)):
        case 0:
            return "".join(rng.choice(list(string.digits), length))
        case 1:
            return "".join(rng.choice(_ALNUM, length)).strip() or "A"
        case 2 | 3:
            tail = "".join(rng.choice(list(string.ascii_lowercase + string.digits + "-/"), max(3, length - 12)))
            return "https://" + tail
        case 4:
            return ("".join(rng.choice(_BYTES, length))).strip() or "b"
        case _:
            return "".join(rng.choice(_BYTES[:62] + _WIDE, max(2, length // 2))).strip() or "c"


def qr_code(rng: np.random.Generator, version: int | None = None) -> tuple[str, int, qr.Matrix]:
    """Text, version and module matrix of a QR code of ``version`` (by default 1 to `qr.MAX_VERSION`, small ones more
    often) at any correction level."""
    if version is None:
        version = int(qr.MAX_VERSION * rng.random() ** 1.5) + 1
    level = str(rng.choice(list("LMQH")))
    room = (version * version * 2 + 9 * version + 6) * {"L": 1.0, "M": 0.8, "Q": 0.55, "H": 0.42}[level]
    length = max(2, int(room * rng.uniform(0.3, 1)))
    while True:
        text = qr_text(rng, length)
        try:
            return text, version, qr.encode(text, level, version)
        except ValueError:
            length = max(1, int(length * 0.7))
