"""What pods use: from metrics.k8s.io anywhere, from their cgroups where the node runs on this host.

metrics.k8s.io gives a mean over a window, once in its resolution, and no throttling; a cgroup gives everything, now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.hpa import quantity
from mlscale.environments.kubernetes_names import COMPONENT
from mlscale.host.cgroups import Group, group_pids
from mlscale.host.proctable import Usage
from mlscale.host.sampling import rss_bytes
from mlscale.runs import ResourceSample


class PodMetrics:
    """Turns lists of PodMetrics into samples; a measurement that was seen before is no new sample."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def samples(self, listing: Json, clock: Callable[[datetime], float]) -> list[ResourceSample]:
        """Samples of what is new. ``clock``: a wall-clock moment on the run's clock."""
        made: list[ResourceSample] = []
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
            made.append(ResourceSample(t_s, component, name, "replica", cores, memory))
        return made


class NodeUsage:
    """The cgroups of a node on this host: those of its pods, and ``parts``, in which its own programs run.

    Args:
        tops: the node's group in the hierarchies of cpu and cpuacct (v1, perhaps one), or the unified one.
    """

    def __init__(self, version: Literal[1, 2], tops: tuple[Path, ...]) -> None:
        self._version, self._tops = version, tops
        self._found: dict[str, Group] = {}
        self._machines: dict[str, float] = {}
        """What the programs of each machine that runs had used when they were last seen, s."""
        self._gone_s = 0.0
        """And those of machines that are gone."""

    def parts(self) -> Usage | None:
        """What the node's own programs have used: API server, controllers, kubelet, container runtime, kube-proxy; and
        those of the machines that came and went since the first call."""
        own = Group(self._version, tuple(top / "parts" for top in self._tops))
        reading = own.read()
        if reading is None:
            return None
        cpu_s, rss = reading.cpu_s, rss_bytes(group_pids(own.folders[:1]))
        seen: dict[str, float] = {}
        for folder in self._tops[0].glob("machine-*"):
            group = Group(self._version, tuple(top / folder.name / "parts" for top in self._tops))
            used = group.read()
            if used is not None:
                seen[folder.name] = used.cpu_s
                rss += rss_bytes(group_pids(group.folders[:1]))
        anew = {name for name, used_s in seen.items() if used_s < self._machines.get(name, 0.0)}
        self._gone_s += sum(used_s for name, used_s in self._machines.items() if name not in seen or name in anew)
        self._machines = seen
        return Usage(replace(reading, cpu_s=cpu_s + self._gone_s + sum(seen.values())), rss)

    def pods(self, pods: Mapping[str, str]) -> dict[str, Usage]:
        """What each pod's groups have used; ``pods``: name -> uid. Pods without a cgroup (yet) are left out."""
        for name in self._found.keys() - pods.keys():
            del self._found[name]
        made: dict[str, Usage] = {}
        for name, uid in pods.items():
            group = self._found.get(name) or self._find(uid)
            reading = group.read() if group is not None else None
            if group is None or reading is None:
                self._found.pop(name, None)
                continue
            self._found[name] = group
            made[name] = Usage(reading, rss_bytes(group_pids(group.folders[:1])))
        return made

    def _find(self, uid: str) -> Group | None:
        """The pod's own group: it has the quota of its containers together."""
        folders: list[Path] = []
        for top in self._tops:
            folder = next((found for form in pod_folders(uid) if (found := next(top.glob(form), None))), None)
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
