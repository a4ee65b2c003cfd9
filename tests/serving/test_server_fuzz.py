"""A short fuzzing of the real decoder behind the real server; `make proof` sends 100,000 bodies."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import bodies
from fuzzed_server import Fuzzing
from server_process import Server

from codereader.photos import photo_bytes

ENTRY = "codereader.decoder:make_decoder"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_malformed_bodies_get_a_reason_and_good_ones_fare_as_before() -> None:
    with Server(entry=ENTRY) as server:
        server.wait_for_line("ready")
        fuzzing = Fuzzing(server, [photo_bytes(3, index, "easy")[0] for index in range(3)])
        try:
            fuzzing.send(bodies(seed=1, count=600), every=200)
        finally:
            fuzzing.close()
        assert fuzzing.statuses.keys() >= {200, 400, 415}
        assert not [line for line in server.log if "failed on a body" in line], "no bug was met on the way"


def test_bodies_are_the_same_again() -> None:
    whole = list(bodies(seed=5, count=12))
    assert whole[4:] == list(bodies(seed=5, count=8, first=4))
    assert len(set(whole)) > 8
