"""``mlscale cluster ...``: parses and prints; imports inside each command keep ``mlscale --help`` quick."""

from __future__ import annotations

from typing import Annotated

import typer

cluster_app = typer.Typer(no_args_is_help=True, help="A real one-node Kubernetes on this machine (make cluster).")


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
    zero: Annotated[
        bool,
        typer.Option("--zero", help="with KEDA's HTTP add-on, to scale to zero replicas; kept from then on"),
    ] = False,
) -> None:
    """Start or repair the cluster: starts what does not run. Builds its programs the first time.

    Example: mlscale cluster up --hpa-sync 5s
    """
    from onenode.commands import up_command

    print(up_command(cfs_period, hpa_sync, machines=machines, zero=zero))


@cluster_app.command("start")
def _start() -> None:
    """Start a stopped cluster again.

    Example: mlscale cluster start
    """
    from onenode.commands import start_command

    print(start_command())


@cluster_app.command("stop")
def _stop() -> None:
    """End all processes of the cluster; keep its state.

    Example: mlscale cluster stop
    """
    from onenode.commands import stop_command

    print(stop_command())


@cluster_app.command("down")
def _down() -> None:
    """Remove the cluster and its state; built programs stay in the cache.

    Example: mlscale cluster down
    """
    from onenode.commands import down_command

    print(down_command())


@cluster_app.command("status")
def _status(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Show its parts: state, process, CPU over a second, memory, log. Exit code 1 unless all are up.

    Example: mlscale cluster status --json
    """
    from onenode.commands import status_command

    text, whole = status_command(as_json)
    print(text)
    raise SystemExit(0 if whole else 1)
