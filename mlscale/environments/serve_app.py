"""Call a component's entry as a server does: bytes in; status, JSON body and the X-Mlscale-* headers out.

Standard library alone, and it runs as a module of this package or as a lone file in a model archive: what a replica
imports is paid inside its CPU quota.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[[bytes], Mapping[str, Any]]


@dataclass(frozen=True)
class Reply:
    """What goes back to the client. ``error`` is the exception behind a status of 500, for the log."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    error: BaseException | None = None


def load_entry(entry: str) -> Answer:
    """The callable that the factory named by ``entry`` ("package.module:factory") makes.

    Raises:
        ImportError, AttributeError, ValueError: there is no such factory; or whatever the factory raises.
    """
    module, _, factory = entry.partition(":")
    if not module or not factory:
        raise ValueError(f'entry {entry!r} is not of the form "package.module:factory"')
    answer: Answer = getattr(importlib.import_module(module), factory)()
    return answer


def reply_to(answer: Answer, body: bytes, replica: str) -> Reply:
    """Answer one request.

    A ValueError is the sender's fault: its ``http_status`` where that is a 4xx, else 400, with {"error": reason}.
    Anything else raised is 500.

    Headers: X-Mlscale-Replica; X-Mlscale-Started-S (time.monotonic() when inference began); X-Mlscale-Inference-S
    (wall s); X-Mlscale-Cpu-S (CPU s of the calling thread).
    """
    started, cpu = time.monotonic(), time.thread_time()
    error: BaseException | None = None
    try:
        status, content = 200, dict(answer(body))
    except ValueError as fault:
        code = getattr(fault, "http_status", 400)
        status = code if isinstance(code, int) and 400 <= code < 500 else 400
        content = {"error": str(getattr(fault, "reason", None) or fault)}
    except Exception as failure:  # a server answers whatever its model does
        status, content, error = 500, {"error": f"{type(failure).__name__}: {failure}"}, failure
    headers = {
        "X-Mlscale-Replica": replica,
        "X-Mlscale-Started-S": f"{started:.6f}",
        "X-Mlscale-Inference-S": f"{time.monotonic() - started:.6f}",
        "X-Mlscale-Cpu-S": f"{time.thread_time() - cpu:.6f}",
    }
    return Reply(status, json.dumps(content).encode(), headers, error)
