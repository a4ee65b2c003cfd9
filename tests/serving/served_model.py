"""A model that does what its body says, for tests of the server. Imported by the server's process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class UnreadableError(ValueError):
    http_status = 422
    reason = "nothing to read here"


def make() -> Callable[[bytes], dict[str, Any]]:
    """Blocks while the pipe named by LOAD_WAITS_FOR has no writer, as a slow model would."""
    if "LOAD_WAITS_FOR" in os.environ:
        Path(os.environ["LOAD_WAITS_FOR"]).read_bytes()
    return answer


def make_broken() -> Callable[[bytes], dict[str, Any]]:
    raise OSError("the disk is gone")


def make_allergic() -> Callable[[bytes], dict[str, Any]]:
    return lambda body: {"second": bytes([body[10**9]])}


def answer(body: bytes) -> dict[str, Any]:
    command, _, argument = body.partition(b":")
    match command:
        case b"hold":
            Path(argument.decode()).read_bytes()
        case b"unreadable":
            raise UnreadableError
        case b"bare ValueError":
            raise ValueError("only text")
        case b"strange status":
            fault = UnreadableError()
            fault.http_status = 302
            raise fault
        case b"bug":
            raise RuntimeError("a secret of the house")
        case b"exit":
            raise SystemExit(7)
        case b"nan":
            return {"value": float("nan")}
        case b"no JSON":
            return {"value": object()}
    return {"sha256": hashlib.sha256(body).hexdigest()}
