"""The shell script that a framework runs in place of ``python`` to start a replica."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlscale.host.cgroups import Tree, quota_files

REPLICA: Final = "replica-"

_GROUP = """\
mkdir {folders} 2>/dev/null || {{
    rmdir {folders} 2>/dev/null
    mkdir {folders} || exit 125
}}
{quota}
"""


@dataclass(frozen=True, slots=True)
class ReplicaStart:
    """What the wrapper recorded before it became the replica."""

    subject: str
    """replica-<pid inside the sandbox>."""
    pid_inside: int
    cpu_before_s: float
    """CPU time before the limit applied, s, without that of its child ``mkdir`` (under 1 ms); NaN where the kernel
    doesn't report it."""
    uptime_s: float
    """When the limit began to apply, s since boot (CLOCK_BOOTTIME, 10 ms steps); NaN if unknown."""
    component: str = ""
    """The component that the wrapper was created for; empty for none in particular."""


def wrapper_script(
    python: Path, records: Path, tree: Tree | None, cpu_cores: float, cpu_period_s: float, component: str = ""
) -> str:
    """The script: make a cgroup with the quota, enter it, record, exec ``python "$@"``.

    The shell does everything itself except ``mkdir``, so that the cost before the limit applies is 1 to 2 ms. A step
    that fails ends the replica (exit code 125): a replica without its limit would falsify the measurement.
    """
    lines = [
        "#!/bin/sh",
        "# Written by mlscale: limits a replica from its first instruction.",
        "subject=" + REPLICA + "$$",
    ]
    if tree is not None:
        folders = [f'"{folder}/$subject"' for folder in tree.replica_folders]
        quota = "\n".join(
            f'echo {text} > {folders[0][:-1]}/{name}" || exit 125'
            for name, text in quota_files(tree.version, cpu_cores, cpu_period_s)
        )
        lines.append(_GROUP.format(folders=" ".join(folders), quota=quota).rstrip())
    lines += ["cpu=nan uptime=nan rest=", "[ -r /proc/self/schedstat ] && read -r cpu rest < /proc/self/schedstat"]
    if tree is not None:
        lines += [f'echo 0 > {folder[:-1]}/cgroup.procs" || exit 125' for folder in folders]
    lines += [
        "[ -r /proc/uptime ] && read -r uptime rest < /proc/uptime",
        f'echo "$$ $cpu $uptime" {shlex.quote(component)} > {shlex.quote(str(records))}/"$subject" || exit 125',
        f'exec {shlex.quote(str(python))} "$@"',
    ]
    return "\n".join(lines) + "\n"


def read_starts(records: Path) -> tuple[ReplicaStart, ...]:
    """Every replica start recorded so far, oldest first; a record still being written is left out."""
    starts: list[ReplicaStart] = []
    for file in records.glob(f"{REPLICA}*"):
        text = file.read_text()
        fields: Sequence[str] = text.split(maxsplit=3)
        if len(fields) >= 3 and text.endswith("\n"):
            component = fields[3].strip() if len(fields) == 4 else ""
            cpu_s = float(fields[1]) / 1e9
            starts.append(ReplicaStart(file.name, int(fields[0]), cpu_s, float(fields[2]), component))
    return tuple(sorted(starts, key=lambda start: (start.uptime_s, start.pid_inside)))


def write_entry_file(folder: Path, name: str, content: Mapping[str, object]) -> Path:
    """Write what sandbox_enter.py reads; returns its path."""
    file = folder / f"enter-{name}.json"
    file.write_text(json.dumps(content))
    return file
