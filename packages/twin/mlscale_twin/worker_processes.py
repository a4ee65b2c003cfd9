"""Processes that simulate side by side, one per core."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread


@contextmanager
def worker_processes() -> Iterator[ProcessPoolExecutor]:
    """An executor for the block. When the block is left early, what has not begun is cancelled; when this process is
    killed, its workers end, too."""
    # Spawned, not forked: numba and thread pools leave threads behind, which a forked process lacks.
    executor = ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=_follow_parent)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group; the parent ends its workers
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
