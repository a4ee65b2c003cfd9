"""Malformed bodies against the real decoder behind the real server: some hundred, and in `make proof` 100,000."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fuzz import bodies
from fuzzed_server import Fuzzing
from server_process import Server

from codereader.photos import photo_bytes

ENTRY = "codereader.decoder:make_decoder"
reads_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")


@contextmanager
def fuzzed() -> Iterator[Fuzzing]:
    with Server(entry=ENTRY) as server:
        server.wait_for_line("INFO ready")
        fuzzing = Fuzzing(server, [photo_bytes(3, index, "easy")[0] for index in range(3)])
        try:
            yield fuzzing
        finally:
            fuzzing.close()
        assert fuzzing.statuses.keys() >= {200, 400, 415}
        assert [line for line in server.log if "failed on a body" in line][:10] == [], "no bug was met on the way"


@reads_proc
def test_malformed_bodies_get_a_reason_and_good_ones_fare_as_before() -> None:
    with fuzzed() as fuzzing:
        fuzzing.send(bodies(seed=1, count=600), every=200)


@pytest.mark.proof
@reads_proc
def test_100_000_malformed_bodies() -> None:
    """About half an hour."""
    count, every = 100_000, 1_000
    with fuzzed() as fuzzing:
        began = time.monotonic()
        for first in range(0, count, every):
            fuzzing.send(bodies(seed=2, count=every, first=first), every=every)
            left_s = (time.monotonic() - began) / (first + every) * (count - first - every)
            told = f"\r{first + every} of {count} bodies, {left_s / 60:.0f} min left "
            print(told, end="", file=sys.__stderr__, flush=True)
        print(f"\nstatuses: {dict(sorted(fuzzing.statuses.items()))}", file=sys.__stderr__)


def test_bodies_are_the_same_again() -> None:
    whole = list(bodies(seed=5, count=12))
    assert whole[4:] == list(bodies(seed=5, count=8, first=4))
    assert len(set(whole)) > 8
