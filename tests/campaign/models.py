"""Applications of the campaign. Standard library only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

BURN_S = 0.010
KEPT_BYTES = 30_000_000


def make() -> Callable[[bytes], Mapping[str, Any]]:
    """Burns a little CPU per request."""

    def answer(body: bytes) -> Mapping[str, Any]:
        until = time.thread_time() + BURN_S
        while time.thread_time() < until:
            continue
        return {"size": len(body)}

    return answer


def make_hungry() -> Callable[[bytes], Mapping[str, Any]]:
    """Keeps more memory with every request."""
    kept = []

    def answer(body: bytes) -> Mapping[str, Any]:
        kept.append(b"\1" * KEPT_BYTES)
        return {"kept": len(kept)}

    return answer
