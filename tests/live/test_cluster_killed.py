"""`mlscale cluster up`, killed twenty times, at random moments of its first seconds (seeded): `make proof`."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from cluster_host import differences, read_host
from own_cluster import Cluster, kill_up

from mlscale.runs import MlscaleError
from onenode.preflight import check_host

pytestmark = pytest.mark.proof
TIMES = 20
# A cluster is up by then.
LAST_S = 9.0


def test_after_a_kill_the_next_up_succeeds_and_nothing_is_left(tmp_path: Path) -> None:
    try:
        check_host()
    except MlscaleError as error:
        pytest.skip(f"no cluster can be made here: {error}")
    host = read_host()
    moments = random.Random(5)
    for number in range(1, TIMES + 1):
        delay_s = moments.uniform(0.2, LAST_S)
        print(f"\r{number} of {TIMES}: killed after {delay_s:.1f} s ", end="", file=sys.__stderr__, flush=True)
        cluster = Cluster(tmp_path / str(number))
        kill_up(cluster, delay_s)
        if number % 2:
            cluster.command("cluster", "up")
            assert cluster.status()["state"] == "up"
            cluster.command("cluster", "down")
        else:
            cluster.command("cleanup")
        assert [str(path) for path in cluster.state.rglob("*") if path.is_file()] == [], delay_s
        assert differences(host, read_host()) == [], delay_s
