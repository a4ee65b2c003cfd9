"""Whether an answer is right: it has the label's codes and no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def same_codes(label: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether the "codes" of both have the same set of kinds and texts; positions are ignored.

    Raises:
        LookupError, TypeError: one of them has no codes.
    """
    expected, read = ({(code["kind"], code["text"]) for code in side["codes"]} for side in (label, answer))
    return expected == read
