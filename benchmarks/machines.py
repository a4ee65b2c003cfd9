"""The cost of machines: the CPU of the cluster's own programs until they are ready, then idle CPU and memory, with 0,
1, 5 and 15 machines.

``python benchmarks/machines.py`` needs ``make cluster MACHINES=1``; it takes about four minutes and prints a table.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/live"))

from machine_cycles import machine_leftovers, machines_with_pods  # type: ignore[import-not-found]

from mlscale.environments.kubernetes.client import KubeContext, connect
from mlscale.environments.kubernetes.own_cluster import find_own_node
from mlscale.environments.kubernetes.usage import NodeUsage
from mlscale.host.proctable import Usage
from onenode.layout import default_layout

SETTLE_S = 20.0


def parts_of(usage: NodeUsage) -> Usage:
    """Usage of the cluster's own programs and those of its machines."""
    parts = usage.parts()
    assert parts is not None, "the cluster is not running"
    return parts


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", nargs="+", type=int, default=[0, 1, 5, 15])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each number of machines is watched")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, idle, watched for {options.seconds:g} s each")
    print("machines  until ready s  CPU s by then  CPU mcores  memory MiB")
    with closing(connect(KubeContext(str(default_layout().kubeconfig)))) as api:
        node = find_own_node(api)
        assert node is not None, "the cluster is not running"
        usage = node.usage()
        for count in options.counts:
            began_s, at_start = time.monotonic(), parts_of(usage)
            with machines_with_pods(api, "mlscale-0000bea0", count):
                ready_s, joined_s = time.monotonic() - began_s, parts_of(usage).cpu.cpu_s - at_start.cpu.cpu_s
                time.sleep(min(SETTLE_S, options.seconds))
                before, since_s = parts_of(usage), time.monotonic()
                time.sleep(options.seconds)
                after = parts_of(usage)
                cores = (after.cpu.cpu_s - before.cpu.cpu_s) / (time.monotonic() - since_s)
                idle = f"{1000 * cores:10.0f}  {after.rss_bytes / 2**20:10.0f}"
                print(f"{count:8d}  {ready_s:13.1f}  {joined_s:13.1f}  {idle}", flush=True)
            assert machine_leftovers(api) == []
    return 0


if __name__ == "__main__":
    sys.exit(main())
