"""How long the phases of a server's start take: process, imports, weights, first answer. Standard library only."""

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

# Prefix of the JSON in the log line of `Timeline.line`.
MARK = "timeline "


@dataclass
class Timeline:
    """When a start began, and the durations of its phases, s.

    ``python_s``: from the process's start (by the kernel) to the server's first instruction, including its imports.
    ``import_s``: importing what the model needs, also inside its factory. ``weights_s``: the rest of the factory.
    ``first_s``: the model's first answer. Phases that were not reached are missing.
    """

    began_s: float = field(default_factory=lambda: process_start_s())
    """time.monotonic() of the process's start."""
    phases: dict[str, float] = field(default_factory=dict)

    def at_main(self) -> None:
        """Mark the first instruction of the server's own code."""
        self.phases["python_s"] = time.monotonic() - self.began_s

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block; imports inside it count as ``import_s`` instead."""
        begin = time.monotonic()
        with timed_imports() as imported_s:
            yield
        self.phases[name] = self.phases.get(name, 0.0) + time.monotonic() - begin - imported_s()
        self.phases["import_s"] = self.phases.get("import_s", 0.0) + imported_s()

    def line(self) -> str:
        """One line for the log: MARK, then JSON of the phases, ``began_monotonic_s``, ``ready_monotonic_s`` and
        ``ready_wall_s`` (Unix time)."""
        times = {
            "began_monotonic_s": self.began_s,
            "ready_monotonic_s": time.monotonic(),
            "ready_wall_s": time.time(),
        }
        return MARK + json.dumps({name: round(value, 4) for name, value in (self.phases | times).items()})


def process_start_s() -> float:
    """time.monotonic() at which the kernel started this process (in steps of 10 ms); now, if there is no /proc."""
    now = time.monotonic()
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return now - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError):
        return now


@contextmanager
def timed_imports() -> Iterator[Callable[[], float]]:
    """Time this thread's ``import`` statements within the block; the callable returns their total, s."""
    original, owner = builtins.__import__, threading.get_ident()
    depth, total = 0, 0.0

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal depth, total
        if depth or threading.get_ident() != owner:
            return original(*args, **kwargs)
        begin = time.monotonic()
        depth += 1
        try:
            return original(*args, **kwargs)
        finally:
            depth -= 1
            total += time.monotonic() - begin

    builtins.__import__ = timed
    try:
        yield lambda: total
    finally:
        builtins.__import__ = original
