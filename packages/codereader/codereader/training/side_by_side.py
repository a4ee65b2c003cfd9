"""Several networks trained at the same time, each in a process of one thread: for networks of this size two threads of
one training mostly wait for each other."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from multiprocessing.process import BaseProcess

from codereader.errors import ApplicationError
from codereader.training.loop import Report, Training, claim, train_one
from codereader.training.tasks import TASKS

_LOOK_S = 0.5
Told = tuple[str, int, int, dict[str, float]]
"""Arguments of a `Report`."""


def train_side_by_side(training: Training, jobs: int, report: Report) -> None:
    """Trains what is missing in the folder, ``jobs`` networks at a time; the weights are those of `loop.train`.

    Raises:
        ApplicationError: the folder holds a training with other settings, or a process ended before its network was
            ready.
    """
    claim(training)
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[Told] = context.Queue()
    waiting = [name for name in TASKS if not training.is_finished(name)]
    running: dict[str, BaseProcess] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                running[name] = context.Process(target=_train, args=(name, training, told, os.getpid()), daemon=True)
                running[name].start()
            _pass_on(told, report)
            for name in [name for name, process in running.items() if not process.is_alive()]:
                code = running.pop(name).exitcode
                if code != 0:
                    raise ApplicationError(
                        f"its process ended with {code}", f"training of {name}", "start again: it goes on from there"
                    )
        _pass_on(told, report)
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _pass_on(told: multiprocessing.Queue[Told], report: Report) -> None:
    """Reports what has been told; waits a moment where nothing has."""
    try:
        report(*told.get(timeout=_LOOK_S))
        while True:
            report(*told.get_nowait())
    except queue.Empty:
        return


def _train(name: str, training: Training, told: multiprocessing.Queue[Told], parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process

    def tell(name: str, step: int, steps: int, measures: dict[str, float]) -> None:
        if os.getppid() != parent:
            os._exit(1)  # a parent that was killed can't end this process
        told.put((name, step, steps, measures))

    train_one(name, training, tell)
