"""What ``mlscale cluster ...`` does, without the parsing of options."""

from __future__ import annotations

import os
import sys
import time

from mlscale.cluster.cache import default_cache
from mlscale.cluster.layout import default_layout
from mlscale.cluster.lifecycle import down, require, stop, up
from mlscale.cluster.programs import ensure_programs
from mlscale.cluster.progress import Reporter
from mlscale.cluster.settings import parse_period_s
from mlscale.cluster.status import read_status, to_json, to_text
from mlscale.runs import MlscaleError


def up_command(cfs_period: str | None) -> str:
    """Build what is missing, make or repair the cluster; returns what to know of it."""
    reporter, layout = Reporter(), default_layout()
    _check_host()
    period_s = None if cfs_period is None else parse_period_s(cfs_period)
    everything = ensure_programs(default_cache(), reporter)
    begun_s = time.monotonic()
    up(layout, everything, period_s, reporter)
    return f"the cluster is up ({time.monotonic() - begun_s:.1f} s): export KUBECONFIG={layout.kubeconfig}"


def start_command() -> str:
    """`up_command` for a cluster that was stopped."""
    require(default_layout())
    return up_command(None)


def stop_command() -> str:
    """End its processes, keep its state."""
    _check_host()
    begun_s = time.monotonic()
    stop(default_layout(), Reporter())
    return f"the cluster is stopped ({time.monotonic() - begun_s:.1f} s), its state is kept: mlscale cluster start"


def down_command() -> str:
    """Remove it."""
    _check_host()
    begun_s = time.monotonic()
    down(default_layout(), Reporter())
    return f"nothing of the cluster is left ({time.monotonic() - begun_s:.1f} s)"


def status_command(as_json: bool) -> tuple[str, bool]:
    """The text, and whether every part is up."""
    status = read_status(default_layout())
    return to_json(status) if as_json else to_text(status), status.whole


def _check_host() -> None:
    """Raises MlscaleError where a cluster can't be."""
    if sys.platform != "linux":
        raise MlscaleError(
            f"no cluster on {sys.platform}", "make cluster", "use Linux, or name another cluster's kubeconfig"
        )
    if os.geteuid() != 0:
        raise MlscaleError("it takes root", "make cluster", "sudo make cluster, or name another cluster's kubeconfig")
