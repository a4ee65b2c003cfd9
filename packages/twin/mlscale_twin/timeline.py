"""Scheduled events other than requests: control loops, starts, machines. Requests are simulated once looked at."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from mlscale_twin.engine import Engine

Action = Callable[[], None]


class Timeline:
    """Actions ordered by time; actions at equal times run in insertion order."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._simulated_until_s = engine.now_s
        self._heap: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()
        self.now_s = engine.now_s

    @property
    def engine(self) -> Engine:
        """The requests as they are now. (A call of the kernel takes longer than most actions, and few look at them.)"""
        if self._simulated_until_s < self.now_s:
            self._engine.advance(self.now_s)
            self._simulated_until_s = self.now_s
        return self._engine

    def at(self, t_s: float, action: Action) -> None:
        """Schedules an action at ``t_s``, or immediately if that is past."""
        heapq.heappush(self._heap, (max(t_s, self.now_s), next(self._numbers), action))

    def after(self, delay_s: float, action: Action) -> None:
        self.at(self.now_s + delay_s, action)

    def every(self, period_s: float, first_s: float, action: Action) -> None:
        """Schedules an action at ``first_s`` and every ``period_s`` after that, without drift."""

        number = 0

        def repeat() -> None:
            nonlocal number
            number += 1
            action()
            self.at(first_s + number * period_s, repeat)

        self.at(first_s, repeat)

    def run(self, until_s: float) -> None:
        """Advances to ``until_s``, running all actions due."""
        while self._heap and self._heap[0][0] <= until_s:
            t_s, _, action = heapq.heappop(self._heap)
            self.now_s = max(self.now_s, t_s)
            action()
        self.now_s = max(self.now_s, until_s)
