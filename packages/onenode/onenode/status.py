"""The cluster's status: which parts run and are healthy, and what they use."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mlscale.host.cgroups import Group
from mlscale.host.sampling import rss_bytes
from onenode.layout import Layout
from onenode.node import Node
from onenode.parts import Part, Programs, parts_of
from onenode.probes import admin_context, probe
from onenode.settings import Settings
from onenode.waiting import last_log_line

PartState = Literal["up", "down", "unhealthy"]
ClusterState = Literal["absent", "stopped", "down", "degraded", "up"]

_WINDOW_S: Final = 1.0
_SUMMED: Final = ("cpu_mcores", "memory_bytes")


@dataclass(frozen=True, slots=True)
class PartStatus:
    """``cpu_mcores``: mean over `_WINDOW_S`, NaN if unknown; ``memory_bytes``: resident sets of its processes (those of
    containerd include a shim for each pod); ``reason``: why it is not up."""

    name: str
    state: PartState
    pid: int | None
    cpu_mcores: float
    memory_bytes: float
    log: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """``settings``: None if there is no cluster."""

    state: ClusterState
    kubeconfig: str
    parts: tuple[PartStatus, ...] = ()
    settings: Settings | None = None

    @property
    def whole(self) -> bool:
        return self.state == "up"


def read_status(layout: Layout) -> ClusterStatus:
    """Probe every part; takes about a second if the node runs, since CPU is measured over one."""
    kubeconfig = str(layout.kubeconfig)
    if not layout.settings.exists():
        return ClusterStatus("absent", kubeconfig)
    settings = Settings.from_json(layout.settings.read_text())
    node = Node(layout)
    parts = parts_of(layout, settings, Programs({}, Path(), {}))
    init = node.init
    if init is None and any(node.record(part.name) for part in parts):
        gone = tuple(_down(layout, part, "the node has ended") for part in parts)
        return ClusterStatus("down", kubeconfig, gone, settings)
    if init is None:
        return ClusterStatus("stopped", kubeconfig, (), settings)
    measured = _measure(layout, node, init.pid, parts)
    return ClusterStatus(verdict(measured), kubeconfig, measured, settings)


def verdict(parts: Sequence[PartStatus]) -> ClusterState:
    """The state of a running node."""
    return "up" if all(part.state == "up" for part in parts) else "degraded"


def summary(status: ClusterStatus) -> tuple[str, str]:
    """The state in words, and what to do."""
    problems = ", ".join(f"{part.name} is {part.state}" for part in status.parts if part.state != "up")
    summaries: dict[ClusterState, tuple[str, str]] = {
        "absent": ("there is no cluster", "make cluster"),
        "stopped": ("the cluster is stopped, its state is kept", "mlscale cluster start"),
        "down": ("the node has ended", "make cluster brings it back"),
        "degraded": (f"the cluster is not whole: {problems}", "make cluster repairs it"),
        "up": ("the cluster is up", f"export KUBECONFIG={status.kubeconfig}"),
    }
    return summaries[status.state]


def to_text(status: ClusterStatus) -> str:
    """A table, the state, and what to do."""
    last = ": ".join(summary(status))
    if not status.parts:
        return last
    rows = [("part", "state", "pid", "CPU mcores", "memory MiB", "what is wrong"), *map(_row, status.parts)]
    total = [sum(getattr(part, name) for part in status.parts if part.state != "down") for name in _SUMMED]
    rows.append(("all", "", "", f"{total[0]:.0f}", f"{total[1] / 2**20:.0f}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_cell(row[i], widths[i], i) for i in range(len(row))).rstrip() for row in rows]
    return "\n".join((*lines, last))


def to_json(status: ClusterStatus) -> str:
    """state, kubeconfig, the settings (null without a cluster), and the parts; an unknown number is null."""
    settings = asdict(status.settings) if status.settings else dict.fromkeys(Settings.__dataclass_fields__)
    parts = [{key: _or_null(value) for key, value in asdict(part).items()} for part in status.parts]
    content = {"state": status.state, "kubeconfig": status.kubeconfig, **settings, "parts": parts}
    return json.dumps(content, indent=2)


def _measure(layout: Layout, node: Node, init_pid: int, parts: Sequence[Part]) -> tuple[PartStatus, ...]:
    groups = {part.name: node.groups.part(part.name) for part in parts}
    begun_s, before = time.monotonic(), {name: cpu_s(group) for name, group in groups.items()}
    context = admin_context(layout.pki)
    reasons = {part.name: probe(init_pid, part.probe, context) for part in parts}
    time.sleep(max(0.0, _WINDOW_S - (time.monotonic() - begun_s)))
    after, over_s = {name: cpu_s(group) for name, group in groups.items()}, time.monotonic() - begun_s
    statuses: list[PartStatus] = []
    for part in parts:
        record, name = node.record(part.name), part.name
        if record is None or not record.alive:
            statuses.append(_down(layout, part, "it does not run"))
            continue
        cores = (after[name] - before[name]) / over_s
        state: PartState = "up" if reasons[name] is None else "unhealthy"
        memory = rss_bytes(groups[name].pids())
        log = str(layout.log(name))
        statuses.append(PartStatus(name, state, record.identity.pid, 1000 * cores, memory, log, reasons[name] or ""))
    return tuple(statuses)


def cpu_s(group: Group) -> float:
    """CPU that a part has used, s; NaN if its group is gone. `Group.read` would need a quota, which parts lack."""
    try:
        if group.version == 1:
            return int((group.folders[-1] / "cpuacct.usage").read_text()) / 1e9
        lines = (group.folders[0] / "cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6
    except FileNotFoundError:
        return math.nan


def _down(layout: Layout, part: Part, reason: str) -> PartStatus:
    log = layout.log(part.name)
    return PartStatus(
        part.name, "down", None, math.nan, math.nan, str(log), f"{reason}; last log line: {last_log_line(log)}"
    )


def _row(part: PartStatus) -> tuple[str, ...]:
    pid = "" if part.pid is None else str(part.pid)
    cpu = "" if math.isnan(part.cpu_mcores) else f"{part.cpu_mcores:.0f}"
    memory = "" if math.isnan(part.memory_bytes) else f"{part.memory_bytes / 2**20:.0f}"
    return part.name, part.state, pid, cpu, memory, part.reason[:120]


def _cell(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column in (2, 3, 4) else text.ljust(width)


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
