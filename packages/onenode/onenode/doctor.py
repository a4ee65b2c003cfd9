"""What ``mlscale doctor`` says of the cluster."""

from __future__ import annotations

from collections.abc import Iterable

from mlscale.doctor import Finding
from mlscale.runs import MlscaleError


def check_cluster() -> Iterable[Finding]:
    """Whether the one-node cluster runs, and whether it could."""
    from onenode.cache import default_cache
    from onenode.layout import default_layout
    from onenode.preflight import check_host, check_sources
    from onenode.settings import has_machines
    from onenode.status import read_status, summary

    try:
        check_host()
        missing = check_sources(default_cache())
    except MlscaleError as error:
        yield Finding("cluster", "missing", error.what, error.remedy)
        return
    status = read_status(default_layout())
    if status.state == "absent":
        building = f"; to be built first: {missing}" if missing else ""
        remedy = "make cluster, for the environment k3s; with MACHINES=1 for eks, rehearsed, too"
        yield Finding("cluster", "ok", f"can be made here{building}", remedy)
    else:
        found, remedy = summary(status)
        machines = "machines come and go" if has_machines(default_layout().settings) else "without machines that scale"
        yield Finding("cluster", "ok" if status.whole else "limited", f"{found}; {machines}", remedy)
