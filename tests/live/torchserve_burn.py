"""An application that burns a known amount of CPU. Standard library only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

BURN_S = 0.010


def make() -> Callable[[bytes], Mapping[str, Any]]:
    def answer(body: bytes) -> Mapping[str, Any]:
        if body == b"modules":
            return {"modules": sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names)}
        if not body.startswith(b"photo"):
            raise ValueError("not a photo")
        until = time.thread_time() + BURN_S
        while time.thread_time() < until:
            continue
        return {"codes": [], "size": len(body)}

    return answer


def make_broken() -> Callable[[bytes], Mapping[str, Any]]:
    raise RuntimeError("the weights are corrupt")
