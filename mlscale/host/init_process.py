"""Starting and ending process 1 of a sandbox (the program is sandbox_init.py)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from mlscale.host.processes import MARKER_VARIABLE, process_start

# Runs sandbox_init.py and sandbox_enter.py: standard library alone, so that it starts in 10 ms.
PROGRAM: Final = (sys.executable, "-I", "-S")
HERE: Final = Path(__file__).parent
# Folders in /tmp that are hidden in a sandbox: other programs' state, which a framework might pick up.
HIDDEN: Final = (
    "ray",
    "hsperfdata_*",
    "mls-*",
    "torchinductor_*",
    "pymp-*",
    ".X11-unix",
    "systemd-private-*",
    "snap-*",
)
_START_AT_MOST_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class FirstProcess:
    """The keeper (our child; its stdin is the pipe) and process 1 of the sandbox, by its pid here."""

    keeper: subprocess.Popen[bytes]
    pid: int
    start: str
    user_namespace: bool

    def end(self, grace_s: float) -> None:
        """SIGTERM everything inside, wait at most ``grace_s``, then end process 1 and so all the rest. Idempotent."""
        assert self.keeper.stdin is not None
        if self.keeper.stdin.closed:
            return
        with contextlib.suppress(OSError):  # it has already ended
            self.keeper.stdin.write(b"end\n")
            self.keeper.stdin.flush()
        try:
            self.keeper.wait(grace_s + 2)
        except subprocess.TimeoutExpired:
            self.keeper.kill()
            self.keeper.wait()
        with contextlib.suppress(OSError):
            self.keeper.stdin.close()

    def kill(self) -> None:
        """End it and everything inside at once."""
        self.keeper.kill()
        self.keeper.wait()


def start_first_process(grace_s: float, needed: Iterable[Path], marker: str = "") -> FirstProcess | str:
    """Start process 1 of new namespaces, or return the reason why not.

    Args:
        needed: names of folders that stay visible in /tmp.
        marker: lets cleanup find both processes if they are stopped (SIGSTOP) and so miss the caller's end.
    """
    if sys.platform != "linux":
        return f"no namespaces: {sys.platform} has none"
    keeper = subprocess.Popen(
        [*PROGRAM, str(HERE / "sandbox_init.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
        env={**os.environ, MARKER_VARIABLE: marker},
    )
    try:
        reply = _set_up(keeper, {"hidden": HIDDEN, "needed": sorted(_names_in_tmp(needed)), "grace_s": grace_s})
        start = process_start(reply["pid"]) if reply["ok"] else None
        if start is not None:
            return FirstProcess(keeper, int(reply["pid"]), start, bool(reply["user_namespace"]))
    except BaseException:
        _abandon(keeper)
        raise
    detail = _abandon(keeper)
    return f"no namespaces: {reply.get('step')}: {reply.get('reason')} {detail}".strip()


def _set_up(keeper: subprocess.Popen[bytes], setup: dict[str, Any]) -> dict[str, Any]:
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    _close_in_forks(keeper.stdin)
    keeper.stdin.write(json.dumps(setup).encode() + b"\n")
    keeper.stdin.flush()
    ready, _, _ = select.select([keeper.stdout], [], [], _START_AT_MOST_S)
    line = keeper.stdout.readline() if ready else b""
    keeper.stdout.close()
    reply: dict[str, Any] = json.loads(line) if line else {"ok": False, "step": "start", "reason": "no answer"}
    return reply


def _abandon(keeper: subprocess.Popen[bytes]) -> str:
    """Kill a keeper that failed to start; returns the end of its stderr."""
    assert keeper.stderr is not None
    keeper.kill()
    keeper.wait()
    os.set_blocking(keeper.stderr.fileno(), False)  # its child may briefly hold the other end
    stderr = (keeper.stderr.read() or b"").decode(errors="replace").strip()
    for stream in (keeper.stdin, keeper.stdout, keeper.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    return stderr[-300:]


def _names_in_tmp(paths: Iterable[Path]) -> set[str]:
    """Names of the folders in /tmp that hold ``paths``."""
    top = Path("/tmp").resolve()
    resolved = (path.resolve() for path in paths)
    return {path.relative_to(top).parts[0] for path in resolved if path.is_relative_to(top) and path != top}


def _close_in_forks(pipe: IO[bytes]) -> None:
    """Close the pipe in forked children (multiprocessing): their copy would keep it open after this process dies."""
    reference = weakref.ref(pipe)

    def close() -> None:
        stream = reference()
        if stream is not None and not stream.closed:
            os.close(stream.fileno())

    os.register_at_fork(after_in_child=close)
