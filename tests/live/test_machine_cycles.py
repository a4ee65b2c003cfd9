"""Thirty cycles of machines that join and leave: `make proof`, about eighteen minutes."""

from __future__ import annotations

import sys
from contextlib import closing

import pytest
from cluster_host import differences, read_host
from machine_cycles import cycle, machine_leftovers

from mlscale.environments.kubernetes.client import KubeContext, connect
from mlscale.runs import MlscaleError
from onenode.commands import down_command, up_command
from onenode.layout import default_layout
from onenode.preflight import check_host
from onenode.status import read_status

pytestmark = pytest.mark.proof
CYCLES = 30
MACHINES = 3


def test_thirty_cycles_leave_nothing_behind() -> None:
    try:
        check_host()
    except MlscaleError as error:
        pytest.skip(f"no cluster can be made here: {error}")
    absent = read_status(default_layout()).state == "absent"
    host = read_host()
    up_command(machines=True)
    try:
        with closing(connect(KubeContext(str(default_layout().kubeconfig)))) as api:
            for number in range(1, CYCLES + 1):
                print(f"\rcycle {number} of {CYCLES} ", end="", file=sys.__stderr__, flush=True)
                cycle(api, f"mlscale-{number:08x}", MACHINES)
                assert machine_leftovers(api) == []
    finally:
        if absent:
            down_command()
    if absent:
        assert differences(host, read_host()) == []
