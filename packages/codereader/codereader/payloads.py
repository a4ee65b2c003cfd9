"""Payloads of generated codes: product numbers, and QR texts of every encoding, version and correction level."""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np

from codereader import ean, qr

_ALNUM = list(string.digits + string.ascii_uppercase + " $%*+-./:")
_BYTES = list(string.ascii_letters + string.digits + ".-_~:/?#[]@!&'()*+,;= ")
_WIDE = list("äöüßéèñçøåžłığ€日本語写真漢字東京Привет")
_NAMES = ("Ada", "Grace", "Søren", "Zoë", "Иван", "花子", "Nguyễn", "O'Neill")


@dataclass(frozen=True)
class QRCode:
    """A QR code to be printed: its text, version 1 to 40, correction level (L, M, Q, H) and module matrix."""

    text: str
    version: int
    level: str
    matrix: qr.Matrix


def number(rng: np.random.Generator, kind: str) -> str:
    """A number of ``kind`` EAN13 (no leading zero: that is a UPC-A), EAN8, UPCA or UPCE, with its check digit."""
    if kind == "UPCE":
        text = f"{rng.integers(0, 2)}" + "".join(str(digit) for digit in rng.integers(0, 10, 6))
        return text + ean.check_digit(ean.expanded(text + "0")[:-1])
    digits = rng.integers(0, 10, {"EAN13": 13, "EAN8": 8, "UPCA": 12}[kind] - 1)
    if kind == "EAN13":
        digits[0] = rng.integers(1, 10)
    text = "".join(str(digit) for digit in digits)
    return text + ean.check_digit(text)


def qr_text(rng: np.random.Generator, length: int) -> str:
    """A text of about ``length`` characters: numeric, alphanumeric, URL, bytes, non-ASCII or a vCard."""
    match int(rng.integers(0, 8)):
        case 0:
            return "".join(rng.choice(list(string.digits), length))
        case 1:
            return "".join(rng.choice(_ALNUM, length)).strip() or "A"
        case 2 | 3:
            tail = "".join(rng.choice(list(string.ascii_lowercase + string.digits + "-/"), max(3, length - 12)))
            return "https://" + tail
        case 4 | 5:
            return ("".join(rng.choice(_BYTES, length))).strip() or "b"
        case 6:
            return "".join(rng.choice(_BYTES[:62] + _WIDE, max(2, length // 2))).strip() or "c"
        case _:
            return _in_lines(rng, length)


def _in_lines(rng: np.random.Generator, length: int) -> str:
    """A contact in lines, each ended by carriage return and line feed, as address books write them."""
    name = str(rng.choice(_NAMES))
    phone = "".join(rng.choice(list(string.digits), 9))
    lines = ["BEGIN:VCARD", f"N:{name}", f"TEL:+{phone}"]
    while len("\r\n".join(lines)) < length - 20:
        lines.append("NOTE:" + "".join(rng.choice(_BYTES[:62], min(40, length))))
    return "\r\n".join([*lines, "END:VCARD"])


def qr_code(rng: np.random.Generator, version: int | None = None, level: str | None = None) -> QRCode:
    """A QR code of ``version`` (by default 1 to `qr.MAX_VERSION`, small ones more often) and correction ``level`` (by
    default any)."""
    if version is None:
        version = int(qr.MAX_VERSION * rng.random() ** 2.2) + 1
    if level is None:
        level = str(rng.choice(list("LMQH")))
    room = (version * version * 2 + 9 * version + 6) * {"L": 1.0, "M": 0.8, "Q": 0.55, "H": 0.42}[level]
    length = max(2, int(room * rng.uniform(0.3, 1)))
    while True:
        text = qr_text(rng, length)
        try:
            return QRCode(text, version, level, qr.encode(text, level, version))
        except ValueError:
            length = max(1, int(length * 0.7))
            if length < 60:  # a vCard has a minimum length
                text = "".join(rng.choice(_ALNUM, max(1, min(length, 2 * version)))).strip() or "A"
                try:
                    return QRCode(text, version, level, qr.encode(text, level, version))
                except ValueError:
                    continue
