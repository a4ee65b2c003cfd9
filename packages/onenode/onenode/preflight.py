"""Whether a cluster can run on this host, and what is missing; changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

from mlscale.runs import MlscaleError
from onenode.cache import Cache
from onenode.node_cgroups import node_groups
from onenode.packages import apt_is_here, packages_to_fetch
from onenode.programs import missing_programs

# Programs that are not fetched, and their packages.
_TOOLS: Final = {"ip": "iproute2", "mount": "mount"}
_ELSEWHERE: Final = "or set KUBECONFIG to another cluster"


def check_host() -> None:
    """Raises MlscaleError if a cluster can't run here, whatever is fetched."""
    if sys.platform != "linux":
        raise MlscaleError(f"no cluster on {sys.platform}", "make cluster", f"use Linux, {_ELSEWHERE}")
    if os.geteuid() != 0:
        raise MlscaleError("root privileges required", "make cluster", f"run it as root, {_ELSEWHERE}")
    node_groups("mlscale-node")
    for program, package in _TOOLS.items():
        if shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is None:
            raise MlscaleError(f"the program {program} is missing", "make cluster", f"apt-get install {package}")


def check_sources(cache: Cache) -> str:
    """What has to be built or fetched, in words; empty if nothing.

    Raises:
        MlscaleError: programs are missing, and there is no apt to fetch them.
    """
    packages = packages_to_fetch(cache)
    if packages and not apt_is_here():
        names = ", ".join(package.name for package in packages)
        raise MlscaleError(f"missing, and no apt to fetch them: {names}", "make cluster", f"install them, {_ELSEWHERE}")
    return ", ".join(missing_programs(cache))
