"""What machines cost that do nothing: CPU and memory of the cluster's own programs at 0, 1, 5 and 15 machines.

``python benchmarks/machines.py`` needs ``make cluster MACHINES=1``; it takes about four minutes and prints a table.
"""

from __future__ import annotations

import platform
import sys
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/live"))

from machine_cycles import held, left_of_machines

from mlscale.cluster.layout import default_layout
from mlscale.environments.kubernetes_client import Place, connect
from mlscale.environments.kubernetes_own import own_groups

COUNTS = (0, 1, 5, 15)
SETTLE_S = 20.0
WATCH_S = 30.0


def main() -> int:
    """Print the table."""
    print(f"{platform.processor() or platform.machine()}, idle, watched for {WATCH_S:g} s each")
    print("machines  until ready s  CPU mcores  memory MiB")
    with closing(connect(Place(str(default_layout().kubeconfig)))) as api:
        for count in COUNTS:
            began_s = time.monotonic()
            with held(api, "mlscale-0000bea0", count):
                ready_s = time.monotonic() - began_s
                time.sleep(SETTLE_S)
                usage = own_groups()
                before, since_s = usage.parts(), time.monotonic()
                time.sleep(WATCH_S)
                after = usage.parts()
                assert before is not None
                assert after is not None
                cores = (after.cpu.cpu_s - before.cpu.cpu_s) / (time.monotonic() - since_s)
                print(f"{count:8d}  {ready_s:13.1f}  {1000 * cores:10.0f}  {after.rss_bytes / 2**20:10.0f}", flush=True)
            assert left_of_machines(api) == []
    return 0


if __name__ == "__main__":
    sys.exit(main())
