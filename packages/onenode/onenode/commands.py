"""What the commands ``mlscale cluster ...`` (`onenode.cli`) do; each returns what to print."""

from __future__ import annotations

import time

from onenode.cache import default_cache
from onenode.layout import default_layout
from onenode.lifecycle import down, require_cluster, stop, up
from onenode.preflight import check_host
from onenode.programs import ensure_programs
from onenode.progress import Reporter
from onenode.settings import extras, parse_period_s
from onenode.status import read_status, to_json, to_text


def up_command(
    cfs_period: str | None = None, hpa_sync: str | None = None, *, machines: bool = False, zero: bool = False
) -> str:
    """Build what is missing, start or repair the cluster; returns a line for the user."""
    reporter, layout = Reporter(), default_layout()
    check_host()
    period_s, sync_s = parse_period_s(cfs_period, "--cfs-period"), parse_period_s(hpa_sync, "--hpa-sync")
    kept = extras(layout.settings)
    built = ensure_programs(default_cache(), reporter, machines=machines or kept.machines, zero=zero or kept.zero)
    begun_s = time.monotonic()
    up(layout, built, reporter, cfs_period_s=period_s, hpa_sync_s=sync_s, machines=machines, zero=zero)
    return f"the cluster is up ({time.monotonic() - begun_s:.1f} s): export KUBECONFIG={layout.kubeconfig}"


def start_command() -> str:
    """`up_command` for a cluster that was stopped."""
    require_cluster(default_layout())
    return up_command()


def stop_command() -> str:
    """End its processes; keep its state."""
    check_host()
    begun_s = time.monotonic()
    stop(default_layout(), Reporter())
    return f"the cluster is stopped ({time.monotonic() - begun_s:.1f} s), its state is kept: mlscale cluster start"


def down_command() -> str:
    """Remove it."""
    check_host()
    begun_s = time.monotonic()
    down(default_layout(), Reporter())
    return f"the cluster is removed ({time.monotonic() - begun_s:.1f} s)"


def status_command(as_json: bool) -> tuple[str, bool]:
    """The text, and whether every part is up."""
    status = read_status(default_layout())
    return to_json(status) if as_json else to_text(status), status.whole
