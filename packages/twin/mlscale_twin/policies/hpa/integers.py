"""Go's numbers where Kubernetes' arithmetic depends on them: int64 sums that wrap, division towards zero, conversions.

A float64 outside an integer's range converts as on amd64, where the Go specification leaves it open.
"""

from __future__ import annotations

import math
from typing import Final

MAX_INT32: Final = 2**31 - 1
MAX_INT64: Final = 2**63 - 1
# What CVTTSD2SQ gives for what has no int64.
_INDEFINITE: Final = -(2**63)
# What CVTTSD2SL gives for what has no int32.
_INDEFINITE_32: Final = -(2**31)


def int32(number: int) -> int:
    """``int32(number)`` of an int64."""
    return (number + 2**31) % 2**32 - 2**31


def int64(number: int) -> int:
    """A result of int64 arithmetic."""
    return (number + 2**63) % 2**64 - 2**63


def int64_of(number: float) -> int:
    """``int64(number)`` of a float64, towards zero."""
    return int(number) if -(2.0**63) <= number < 2.0**63 else _INDEFINITE


def int32_of(number: float) -> int:
    """``int32(number)`` of a float64, towards zero."""
    return int(number) if -(2.0**31) - 1 < number < 2.0**31 else _INDEFINITE_32


def quotient(number: int, divisor: int) -> int:
    """``number / divisor`` of integers, towards zero.

    Raises:
        ZeroDivisionError: as Go panics.
    """
    whole = abs(number) // abs(divisor)
    return whole if (number < 0) == (divisor < 0) else -whole


def ratio(number: float, divisor: float) -> float:
    """``number / divisor`` of float64: infinite, or not a number, where Python raises."""
    if divisor != 0:
        return number / divisor
    if number == 0 or math.isnan(number):
        return math.nan
    return math.copysign(math.inf, number) * math.copysign(1.0, divisor)


def ceil(number: float) -> float:
    """``math.Ceil``, a float64 also where the result has no integer."""
    return float(math.ceil(number)) if math.isfinite(number) else number
