"""Whether a cluster can be made on this host, and what it would take; changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

from mlscale.runs import MlscaleError
from onenode.cache import Cache
from onenode.node_cgroups import node_groups
from onenode.packages import apt_is_here, packages_to_fetch
from onenode.programs import lacking

# Programs that nothing is fetched for, and the package that has them.
_TOOLS: Final = {"ip": "iproute2", "mount": "mount"}
_ELSEWHERE: Final = "or name another cluster's kubeconfig"


def check_host() -> None:
    """Raises MlscaleError where a cluster can't be made, whatever is fetched."""
    if sys.platform != "linux":
        raise MlscaleError(f"no cluster on {sys.platform}", "make cluster", f"use Linux, {_ELSEWHERE}")
    if os.geteuid() != 0:
        raise MlscaleError("it takes root", "make cluster", f"run it as root, {_ELSEWHERE}")
    node_groups("mlscale-node")
    for program, package in _TOOLS.items():
        if shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is None:
            raise MlscaleError(f"the program {program} is missing", "make cluster", f"apt-get install {package}")


def check_sources(cache: Cache) -> str:
    """What would still be built or fetched, in words; empty where nothing is missing.

    Raises:
        MlscaleError: it can't be: programs are missing and there is no apt to fetch them.
    """
    wanted = packages_to_fetch(cache)
    if wanted and not apt_is_here():
        names = ", ".join(package.name for package in wanted)
        raise MlscaleError(f"missing, and no apt to fetch them: {names}", "make cluster", f"install them, {_ELSEWHERE}")
    return ", ".join(lacking(cache))
