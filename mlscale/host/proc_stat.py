"""/proc/PID/stat. Standard library only: agents in a sandbox import it."""

from __future__ import annotations

from pathlib import Path


def stat_fields(pid: int, proc: Path = Path("/proc")) -> list[str] | None:
    """The fields after the command's name: [0] state, [1] parent, [11] and [12] CPU used (user, system), [19] start,
    [21] resident set; times in ticks, memory in pages. None if the process is gone."""
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def runs(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether the process is running; a zombie is not."""
    fields = stat_fields(pid, proc)
    return fields is not None and fields[0] not in "ZX"
