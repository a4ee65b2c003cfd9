"""Hops as the server tells them: read, or left out."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from mlscale.loadgen.connection import Hop, read_hops


def test_rows_are_read_and_the_fronts_queue_is_the_requests() -> None:
    rows = [["localiser", "replica-1", 12.5, None, 0.02], ["readers", "replica-2", 12.6, 0.003, 0.03]]
    first, second = read_hops(json.dumps(rows), 0.25)
    assert first == Hop("localiser", "replica-1", 12.5, 0.25, 0.02)
    assert second == Hop("readers", "replica-2", 12.6, 0.003, 0.03)
    assert math.isnan(read_hops(json.dumps(rows), float("nan"))[0].queue_s)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no JSON",
        "3",
        "{}",
        "[3]",
        "[[]]",
        '[["a", "r", 1, 2]]',
        '[["a", "r", "1", 2, 3]]',
        '[["a", "r", true, 2, 3]]',
        '[["a", "r", Infinity, 2, 3]]',
        '[[1, "r", 1, 2, 3]]',
        "[" * 100_000,
        f'[["a", "r", 1{"0" * 400}, 2, 3]]',
        r'[["a", "\ud800", 1, 2, 3]]',
        '[["a", "r", 1, 2, 3], ["b"]]',
    ],
)
def test_what_makes_no_sense_has_no_rows(text: Any) -> None:
    assert read_hops(text, 0.0) == ()


def test_never_more_rows_than_a_request_can_have() -> None:
    assert len(read_hops(json.dumps([["a", "r", 1, 2, 3]] * 10_000), 0.0)) == 64
