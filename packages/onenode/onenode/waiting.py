"""Waits for a part of a node, and reports its last log line on failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mlscale.host.log_tail import log_tail
from mlscale.runs import MlscaleError
from onenode.node import Node

_AT_MOST_S: Final = 120.0
_POLL_S: Final = 0.05


def wait_until(node: Node, part: str, what: str, ready: Callable[[], bool]) -> None:
    """Wait until ``ready``; fails at once if the part has ended.

    Args:
        what: what is waited for, in words.

    Raises:
        MlscaleError: with the part's last log line.
    """
    deadline_s = time.monotonic() + _AT_MOST_S
    while True:
        try:
            if ready():
                return
            reason = "not yet"
        except MlscaleError as error:
            reason = error.what
        record = node.record(part)
        ended = record is None or not record.alive
        if ended or time.monotonic() > deadline_s:
            how = "it has ended" if ended else f"waited {_AT_MOST_S:g} s for {what}: {reason}"
            log = node.layout.log(part)
            raise MlscaleError(f"{how}; last log line: {last_log_line(log)}", part, f"see {log}, then try again")
        time.sleep(_POLL_S)


def last_log_line(log: Path) -> str:
    """The last line of a log, at most 300 characters; "none" and why if there is none."""
    if not log.exists():
        return "none, it never started"
    lines = log_tail(log, 1)
    return lines[-1][:300] if lines else "none"
