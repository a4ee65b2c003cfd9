"""Runs on ECS for tests: an application, settings, and ways for a run to end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any, Final

from aws_account import ACCOUNT, REGION, Killed, MemoryAccount, Time

from mlscale.environments import App, Component
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.reap import TargetUnreachable
from mlscale_aws.environment import Ecs
from mlscale_aws.settings import EcsScaling

IMAGE: Final = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mlscale-app:1"
APP: Final = App("code-reader", "1", (Component("app", "codereader.decoder:make_decoder"),), "app", image=IMAGE)
SCALING: Final = EcsScaling(max_replicas=3, budget_usd=1.0, metric_period_s=20, lifetime_min=60)


def deployed(ledger: Ledger, said: list[str] | None = None, scaling: EcsScaling = SCALING) -> Any:
    say = said.append if said is not None else lambda text: None
    return Ecs(say).deploy(APP, {"app": scaling}, "live", ledger, ())


def reaped(entry: LedgerEntry, clock: Time) -> None:
    """The deletion is requested; five minutes later the stack is gone."""
    with contextlib.suppress(TargetUnreachable):
        Ecs().reap(entry)
    clock.sleep(300)
    Ecs().reap(entry)


def killed_run(account: MemoryAccount, ledger: Ledger) -> str:
    """The stack of a run whose process was killed."""
    names = []
    with contextlib.suppress(Killed), deployed(ledger) as found:
        names.append(found.stack)
        account.fault = Kill(1)
        raise Killed
    account.fault = lambda service, operation, parameters: None
    return str(names[0])


class Stop(threading.Event):
    """Ends observation after some virtual seconds; waiting for it moves the time."""

    def __init__(self, clock: Time, after_s: float) -> None:
        super().__init__()
        self._clock, self._ends = clock, clock.s + after_s

    def is_set(self) -> bool:
        return self._clock.s >= self._ends

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.sleep(max(timeout or 0.0, 0.01))
        return self.is_set()


class Kill:
    """From the n-th call on there is no process any more."""

    def __init__(self, number: int) -> None:
        self._left, self.at = number, ""

    def __call__(self, service: str, operation: str, parameters: Mapping[str, Any]) -> None:
        self._left -= 1
        if self._left <= 0:
            self.at = self.at or f"{service} {operation}"
            raise Killed
