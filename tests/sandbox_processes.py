"""What runs inside a sandbox, for tests that look in from outside."""

from __future__ import annotations

from mlscale.host.sandbox import Sandbox


def processes(box: Sandbox) -> dict[int, int]:
    """pid inside -> pid here, of every process in the sandbox but its first."""
    groups = box._members.subjects().values()
    return {process.inside: process.outside for members in groups for process in members}
