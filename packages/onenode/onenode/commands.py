"""``mlscale cluster ...``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from onenode.cache import default_cache
from onenode.layout import default_layout
from onenode.lifecycle import down, require, stop, up
from onenode.preflight import check_host
from onenode.programs import ensure_programs
from onenode.progress import Reporter
from onenode.settings import has_machines, parse_period_s
from onenode.status import read_status, to_json, to_text

cluster_app = typer.Typer(no_args_is_help=True, help="A real one-node Kubernetes on this machine (make cluster).")


def up_command(cfs_period: str | None = None, hpa_sync: str | None = None, *, machines: bool = False) -> str:
    """Build what is missing, make or repair the cluster; returns what to know of it."""
    reporter, layout = Reporter(), default_layout()
    check_host()
    period_s, sync_s = parse_period_s(cfs_period, "--cfs-period"), parse_period_s(hpa_sync, "--hpa-sync")
    machines = machines or has_machines(layout.settings)
    everything = ensure_programs(default_cache(), reporter, machines)
    begun_s = time.monotonic()
    up(layout, everything, reporter, cfs_period_s=period_s, hpa_sync_s=sync_s, machines=machines)
    return f"the cluster is up ({time.monotonic() - begun_s:.1f} s): export KUBECONFIG={layout.kubeconfig}"


def start_command() -> str:
    """`up_command` for a cluster that was stopped."""
    require(default_layout())
    return up_command()


def stop_command() -> str:
    """End its processes, keep its state."""
    check_host()
    begun_s = time.monotonic()
    stop(default_layout(), Reporter())
    return f"the cluster is stopped ({time.monotonic() - begun_s:.1f} s), its state is kept: mlscale cluster start"


def down_command() -> str:
    """Remove it."""
    check_host()
    begun_s = time.monotonic()
    down(default_layout(), Reporter())
    return f"nothing of the cluster is left ({time.monotonic() - begun_s:.1f} s)"


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
        typer.Option("--machines", help="with Karpenter and machines that come and go; kept from then on"),
    ] = False,
) -> None:
    """Make the cluster, or repair it: what does not run is started, what runs is left alone. Built the first time."""
    print(up_command(cfs_period, hpa_sync, machines=machines))


@cluster_app.command("start")
def _start() -> None:
    """Bring a stopped cluster back."""
    print(start_command())


@cluster_app.command("stop")
def _stop() -> None:
    """End every process of the cluster; its state is kept."""
    print(stop_command())


@cluster_app.command("down")
def _down() -> None:
    """Remove the cluster and everything of it; what was built for it stays in the cache."""
    print(down_command())


@cluster_app.command("status")
def _status(as_json: Annotated[bool, typer.Option("--json", help="the same as JSON")] = False) -> None:
    """Its parts: up or down, process, CPU over a second, memory, log. Exit code 1 where one is not up."""
    text, whole = status_command(as_json)
    print(text)
    raise SystemExit(0 if whole else 1)
