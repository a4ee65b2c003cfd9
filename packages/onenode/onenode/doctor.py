"""The cluster's part of ``mlscale doctor``."""

from __future__ import annotations

from collections.abc import Iterable

from mlscale.commands.doctor import Finding
from mlscale.runs import MlscaleError


def check_cluster() -> Iterable[Finding]:
    """Whether the one-node cluster runs, or could run."""
    from onenode.cache import default_cache
    from onenode.layout import default_layout
    from onenode.preflight import check_host, check_sources
    from onenode.settings import extras
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
        remedy = "make cluster, for k3s and keda; with MACHINES=1 for rehearsals of eks, with ZERO=1 for zero replicas"
        yield Finding("cluster", "ok", f"can be started here{building}", remedy)
    else:
        state, remedy = summary(status)
        kept = extras(default_layout().settings)
        machines = f"with{'' if kept.machines else 'out'} machines that scale"
        yield Finding("cluster", "ok" if status.whole else "limited", f"{state}; {machines}", remedy)
