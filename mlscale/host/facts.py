"""A description of the host for run.json: no host name, user name or path."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import psutil

from mlscale.host.cgroups import find_hierarchy


def host_facts(root: Path = Path("/")) -> dict[str, Any]:
    """cpu_model, cores (this process may use), cores_online, memory_bytes, kernel, distribution, python, architecture,
    cgroup_version (None: no CPU quota, and cgroup_reason says why), psi (pressure stall information), virtualisation.

    Unknown values are None. ``root`` is for tests.
    """
    proc = root / "proc"
    hierarchy = find_hierarchy()
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu_model": _match(r"^model name\s*:\s*(.+)$", _read(proc / "cpuinfo")) or platform.processor() or None,
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "cores_online": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": f"{platform.system()} {platform.release()}",
        "distribution": _distribution(root),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "architecture": platform.machine(),
        "cgroup_version": None if isinstance(hierarchy, str) else hierarchy.version,
        "cgroup_reason": hierarchy if isinstance(hierarchy, str) else None,
        "psi": (proc / "pressure/cpu").exists(),
        "virtualisation": _virtualisation(root),
    }


def _distribution(root: Path) -> str | None:
    name = _match(r'^PRETTY_NAME="?([^"\n]+)"?$', _read(root / "etc/os-release"))
    return name or (f"macOS {platform.mac_ver()[0]}" if platform.mac_ver()[0] else None)


def _virtualisation(root: Path) -> str | None:
    """The hypervisor's or container's kind, "none" on bare metal, None if unknown."""
    if (root / ".dockerenv").exists():
        return "docker"
    cpuinfo = _read(root / "proc/cpuinfo")
    if not cpuinfo:
        return None
    hypervisor = _read(root / "sys/hypervisor/type").strip()
    vendor = _read(root / "sys/class/dmi/id/sys_vendor").strip()
    known = re.search(r"QEMU|VMware|Xen|Amazon EC2|Google|Microsoft|innotek|Parallels", vendor)
    if hypervisor or known:
        return hypervisor or (known[0] if known else None)
    return "virtual machine" if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) else "none"


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _match(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else None
