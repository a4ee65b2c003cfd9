"""``mlscale cluster ...``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from onenode.cache import default_cache
from onenode.layout import default_layout
from onenode.lifecycle import down, require_cluster, stop, up
from onenode.preflight import check_host
from onenode.programs import ensure_programs
from onenode.progress import Reporter
from onenode.settings import has_machines, parse_period_s
from onenode.status import read_status, to_json, to_text

cluster_app = typer.Typer(no_args_is_help=True, help="A real one-node Kubernetes on this machine (make cluster).")


def up_command(cfs_period: str | None = None, hpa_sync: str | None = None, *, machines: bool = False) -> str:
    """Build what is missing, start or repair the cluster; returns a line for the user."""
    reporter, layout = Reporter(), default_layout()
    check_host()
    period_s, sync_s = parse_period_s(cfs_period, "--cfs-period"), parse_period_s(hpa_sync, "--hpa-sync")
    machines = machines or has_machines(layout.settings)
    built = ensure_programs(default_cache(), reporter, machines)
    begun_s = time.monotonic()
    up(layout, built, reporter, cfs_period_s=period_s, hpa_sync_s=sync_s, machines=machines)
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


@cluster_app.command("up")
def _up(
    cfs_period: Annotated[
        str | None, typer.Option(help="the kubelet's CFS period, 1ms to 1s; kept until changed")
    ] = None,
    hpa_sync: Annotated[str | None, typer.Option(help="the HPA's sync period, 1s to 300s; kept until changed")] = None,
    machines: Annotated[
        bool,
        typer.Option("--machines", help="with Karpenter and machines that join and leave; kept from then on"),
    ] = False,
) -> None:
    """Start or repair the cluster: starts what does not run. Builds its programs the first time.

    Example: mlscale cluster up --hpa-sync 5s
    """
    print(up_command(cfs_period, hpa_sync, machines=machines))


@cluster_app.command("start")
def _start() -> None:
    """Start a stopped cluster again.

    Example: mlscale cluster start
    """
    print(start_command())


@cluster_app.command("stop")
def _stop() -> None:
    """End all processes of the cluster; keep its state.

    Example: mlscale cluster stop
    """
    print(stop_command())


@cluster_app.command("down")
def _down() -> None:
    """Remove the cluster and its state; built programs stay in the cache.

    Example: mlscale cluster down
    """
    print(down_command())


@cluster_app.command("status")
def _status(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Show its parts: state, process, CPU over a second, memory, log. Exit code 1 unless all are up.

    Example: mlscale cluster status --json
    """
    text, whole = status_command(as_json)
    print(text)
    raise SystemExit(0 if whole else 1)
