"""The campaign's short form: a trial of each kind that needs no cluster, except for replicas and front ends, which the
live tests of their frameworks kill; the slower of them in ``make proof``. And the page shows the record."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import soak
from place import Place
from trials import (
    Trial,
    bad_network,
    clock_stepped,
    disk_full,
    interrupted,
    killed,
    load,
    measure,
    memory_limited,
    two_at_once,
    whole,
)

from campaign import PAGE, RECORD, REPEATED, SLOW, page, read, served

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux and root"),
]

TORCHSERVE: Final = measure("torchserve", "--scaling", "max_replicas=2")
TRIALS: Final[dict[str, Trial]] = {
    "kill -9 of mlscale": killed(TORCHSERVE),
    "kill -9 of the load generator": killed(TORCHSERVE, "load generator"),
    "Ctrl-C": interrupted(TORCHSERVE),
    "full state home": disk_full(TORCHSERVE, "state", 4, 12),
    "clock": clock_stepped(TORCHSERVE),
    "network": bad_network(TORCHSERVE, *SLOW),
    "memory": memory_limited(measure("torchserve", model="models:make_hungry"), 100_000_000),
}
IN_PROOF: Final = ("full state home", "clock", "network")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Place.open() as place:
        assert whole(place, TORCHSERVE).wrong == []
        yield place


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.proof] if name in IN_PROOF else []) for name in TRIALS]
)
def test_nothing_is_left_and_no_run_is_falsely_complete(place: Place, name: str) -> None:
    if name == "memory" and not Path("/sys/fs/cgroup/memory").is_dir():
        pytest.skip("no memory controller of cgroup v1 here")
    assert TRIALS[name](place, random.Random(name)).wrong == []


def test_faults_of_a_load_test_and_the_next_one_works(place: Place) -> None:
    with served() as url:
        assert whole(place, load(url)).wrong == []
        faults = killed(load(url)), disk_full(load(url), "runs", 16, 64), two_at_once(load(url), same_folder=True)
        for trial in faults:
            assert trial(place, random.Random(1)).wrong == []
        assert whole(place, load(url)).wrong == []


def test_the_page_shows_the_record() -> None:
    text = PAGE.read_text()
    assert page(read(RECORD), read(REPEATED)) == text
    assert soak.page() == text
