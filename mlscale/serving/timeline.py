"""Where the time of a server's start goes: process, import, weights, first answer. Standard library alone."""

from __future__ import annotations

import builtins
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What stands before the JSON in the log line of `Timeline.line`.
MARK = "timeline "


@dataclass
class Timeline:
    """Phases of one start, s, and the moments between which they lie.

    ``python_s``: from the process's start (as the kernel knows it) to the server's first own instruction, its imports
    with it. ``import_s``: importing what the model needs, also where its factory does that. ``weights_s``: the rest of
    the factory. ``first_s``: its first answer. What is missing was not reached.
    """

    began_s: float = field(default_factory=lambda: process_start_s())
    """time.monotonic() of the process's start."""
    phases: dict[str, float] = field(default_factory=dict)

    def at_main(self) -> None:
        """The server's own code begins now."""
        self.phases["python_s"] = time.monotonic() - self.began_s

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what the block takes, less what was spent on imports in it, which counts as ``import_s``."""
        begin = time.monotonic()
        with counted_imports() as imported:
            yield
        self.phases[name] = self.phases.get(name, 0.0) + time.monotonic() - begin - imported()
        self.phases["import_s"] = self.phases.get("import_s", 0.0) + imported()

    def line(self) -> str:
        """One line for the log: MARK, then JSON: the phases, ``began_monotonic_s``, ``ready_monotonic_s`` and
        ``ready_wall_s`` (Unix time)."""
        moments = {
            "began_monotonic_s": self.began_s,
            "ready_monotonic_s": time.monotonic(),
            "ready_wall_s": time.time(),
        }
        return MARK + json.dumps({name: round(value, 4) for name, value in (self.phases | moments).items()})


def process_start_s() -> float:
    """time.monotonic() at which the kernel started this process (10 ms steps); now where it does not tell."""
    now = time.monotonic()
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return now - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError):
        return now


@contextmanager
def counted_imports() -> Iterator[Callable[[], float]]:
    """Within the block, ``import`` statements of this thread are timed; the callable gives their sum, s."""
    plain, owner = builtins.__import__, threading.get_ident()
    depth, total = 0, 0.0

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal depth, total
        if depth or threading.get_ident() != owner:
            return plain(*args, **kwargs)
        begin = time.monotonic()
        depth += 1
        try:
            return plain(*args, **kwargs)
        finally:
            depth -= 1
            total += time.monotonic() - begin

    builtins.__import__ = timed
    try:
        yield lambda: total
    finally:
        builtins.__import__ = plain
