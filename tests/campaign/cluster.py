"""A one-node cluster for the campaign, in a state home of its own: its parts are killed while a run is measured."""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from place import Place
from trials import Command, Outcome, Trial, end, length_s, wait

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

from cluster_host import differences, read_host
from own_cluster import Cluster

__all__ = ["Cluster", "differences", "namespaces", "own_cluster", "part_killed", "read_host"]


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """A cluster with machines, removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.command("cluster", "up", "--machines")
            yield cluster
        finally:
            cluster.command("cluster", "down")


def namespaces(cluster: Cluster) -> list[str]:
    """Runs' namespaces that are left."""
    items = cluster.request("GET", "api/v1/namespaces")["items"]
    names = [item["metadata"]["name"] for item in items]
    return [f"namespace {name}" for name in names if name.startswith("mlscale-")]


def part_killed(cluster: Cluster, command: Command, part: str) -> Trial:
    """kill -9 of a part of the cluster, by its name in the arguments; ``cluster up`` repairs it before ``cleanup``."""

    def trial(place: Place, rng: random.Random) -> Outcome:
        out, begun_s = place.new_run(), time.monotonic()
        process = command.start(place, out)
        wait(process, rng.uniform(0, length_s(place, command)))
        moment_s = time.monotonic() - begun_s
        record = cluster.node.record(part)
        assert record is not None, f"{part} runs"
        os.kill(record.identity.pid, signal.SIGKILL)
        outcome = end(place, process, out, {0, 2}, cleaned_up_by_itself=False, repair=repair)
        outcome.moment_s = moment_s
        return outcome

    def repair() -> None:
        """Without its kubelet, a cluster cannot end a pod, nor a namespace that has one."""
        cluster.command("cluster", "up")
        cluster.status()

    return trial
