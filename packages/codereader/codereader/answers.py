"""When an answer is right: it names the codes of the label, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def same_codes(label: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether "codes" of both are the same set of kinds and texts; where they lie does not matter.

    Raises:
        LookupError, TypeError: one of them has no codes.
    """
    expected, read = ({(code["kind"], code["text"]) for code in each["codes"]} for each in (label, answer))
    return expected == read
