"""Trains several networks at once, each in a single-threaded process: for networks this small, two threads of one
training mostly wait for each other."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue

from codereader.errors import ApplicationError
from codereader.training.loop import Report, Training, claim, train_one
from codereader.training.tasks import TASKS

_POLL_S = 0.5
Update = tuple[str, int, int, dict[str, float]]
"""Arguments of a `Report`."""


def train_side_by_side(training: Training, jobs: int, report: Report) -> None:
    """Trains the networks that the folder lacks, ``jobs`` at a time; the weights equal those of `loop.train`.

    Raises:
        ApplicationError: the folder holds a training with other settings, or a process ended before its network was
            ready.
    """
    claim(training)
    context = multiprocessing.get_context("spawn")
    updates: multiprocessing.Queue[Update] = context.Queue()
    reasons: SimpleQueue[str] = context.SimpleQueue()
    waiting = [name for name in TASKS if not training.is_finished(name)]
    running: dict[str, BaseProcess] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                arguments = (name, training, updates, reasons, os.getpid())
                running[name] = context.Process(target=_train, args=arguments, daemon=True)
                running[name].start()
            _forward(updates, report)
            for name in [name for name, process in running.items() if not process.is_alive()]:
                code = running.pop(name).exitcode
                if code != 0:
                    reason = f"its process ended with exit code {code}" if reasons.empty() else reasons.get()
                    raise ApplicationError(reason, f"training of {name}", "start again: it resumes")
        _forward(updates, report)
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _forward(updates: multiprocessing.Queue[Update], report: Report) -> None:
    """Reports all queued updates; waits up to `_POLL_S` for the first."""
    try:
        report(*updates.get(timeout=_POLL_S))
        while True:
            report(*updates.get_nowait())
    except queue.Empty:
        return


def _train(
    name: str, training: Training, updates: multiprocessing.Queue[Update], reasons: SimpleQueue[str], parent: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process

    def send(name: str, step: int, steps: int, measures: dict[str, float]) -> None:
        if os.getppid() != parent:
            os._exit(1)  # a parent that was killed can't end this process
        updates.put((name, step, steps, measures))

    try:
        train_one(name, training, send)
    except OSError as error:
        reasons.put(f"{error.filename or training.folder}: {error.strerror or error}")
        sys.exit(1)
    except ApplicationError as error:
        reasons.put(str(error))
        sys.exit(1)
