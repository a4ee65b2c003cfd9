"""CPU and memory of pods: from metrics.k8s.io, or from their cgroups if the node runs on this host.

metrics.k8s.io gives one mean per window and no throttling; a cgroup has current values, with throttling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.hpa import quantity
from mlscale.environments.kubernetes.names import COMPONENT
from mlscale.host.cgroups import Group, pids_below
from mlscale.host.proctable import Usage
from mlscale.host.sampling import rss_bytes
from mlscale.runs import ResourceSample


class PodMetrics:
    """Turns lists of PodMetrics into samples, each measurement once."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def samples(self, listing: Json, clock: Callable[[datetime], float]) -> list[ResourceSample]:
        """Samples of new measurements. ``clock``: converts wall-clock time to the run's clock."""
        rows: list[ResourceSample] = []
        for item in listing.get("items") or ():
            name, at = str(item["metadata"]["name"]), str(item["timestamp"])
            if self._seen.get(name) == at:
                continue
            self._seen[name] = at
            used = [container["usage"] for container in item.get("containers") or ()]
            component = str((item["metadata"].get("labels") or {}).get(COMPONENT, ""))
            cores = sum(quantity(each["cpu"]) for each in used)
            memory = sum(quantity(each["memory"]) for each in used)
            t_s = clock(datetime.fromisoformat(at))
            rows.append(ResourceSample(t_s, component, name, "replica", cores, memory))
        return rows


class NodeUsage:
    """The cgroups of a node on this host: those of its pods, and of its own programs (``parts``).

    Args:
        tops: the node's group in the hierarchies of cpu and cpuacct (v1, perhaps one), or the unified one.
    """

    def __init__(self, version: Literal[1, 2], tops: tuple[Path, ...]) -> None:
        self._version, self._tops = version, tops
        self._groups: dict[str, Group] = {}
        self._machines: dict[str, float] = {}
        """CPU that the programs of each running machine had used at the last reading, s."""
        self._ended_s = 0.0
        """CPU that those of ended machines had used, s."""

    def parts(self) -> Usage | None:
        """What the node's own programs have used (API server, controllers, kubelet, container runtime, kube-proxy),
        with those of all machines since the first call, ended ones included."""
        own = Group(self._version, tuple(top / "parts" for top in self._tops))
        reading = own.read()
        if reading is None:
            return None
        cpu_s, rss = reading.cpu_s, rss_bytes(pids_below(own.folders[:1]))
        seen: dict[str, float] = {}
        for folder in self._tops[0].glob("machine-*"):
            group = Group(self._version, tuple(top / folder.name / "parts" for top in self._tops))
            used = group.read()
            if used is not None:
                seen[folder.name] = used.cpu_s
                rss += rss_bytes(pids_below(group.folders[:1]))
        restarted = {name for name, used_s in seen.items() if used_s < self._machines.get(name, 0.0)}
        self._ended_s += sum(used_s for name, used_s in self._machines.items() if name not in seen or name in restarted)
        self._machines = seen
        return Usage(replace(reading, cpu_s=cpu_s + self._ended_s + sum(seen.values())), rss)

    def pods(self, pods: Mapping[str, str]) -> dict[str, Usage]:
        """What each pod has used; ``pods``: name -> uid. Pods without a cgroup (yet) are left out."""
        for name in self._groups.keys() - pods.keys():
            del self._groups[name]
        usage: dict[str, Usage] = {}
        for name, uid in pods.items():
            group = self._groups.get(name) or self._find(uid)
            reading = group.read() if group is not None else None
            if group is None or reading is None:
                self._groups.pop(name, None)
                continue
            self._groups[name] = group
            usage[name] = Usage(reading, rss_bytes(pids_below(group.folders[:1])))
        return usage

    def _find(self, uid: str) -> Group | None:
        """The pod's own group, which has the sum of its containers' quotas."""
        folders: list[Path] = []
        for top in self._tops:
            folder = next((match for form in pod_folders(uid) if (match := next(top.glob(form), None))), None)
            if folder is None:
                return None
            folders.append(folder)
        return Group(self._version, tuple(folders))


def pod_folders(uid: str) -> Sequence[str]:
    """Patterns of a pod's cgroup below the node's, by quality of service and cgroup driver."""
    slug = uid.replace("-", "_")
    return (
        f"kubepods/pod{uid}",
        f"kubepods/*/pod{uid}",
        f"machine-*/kubepods/pod{uid}",
        f"machine-*/kubepods/*/pod{uid}",
        f"kubepods.slice/kubepods-pod{slug}.slice",
        f"kubepods.slice/kubepods-*.slice/kubepods-*-pod{slug}.slice",
    )
