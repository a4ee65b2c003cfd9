"""The environment ``ecs``: so far only simulated (``mlscale simulate ecs``); it holds the settings and their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from mlscale.environments.base import App, Deployed, Problem, Scaling
from mlscale.environments.ecs_settings import EcsScaling, arm_settings
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.runs import Level, MlscaleError, Mode

_WHY, _REMEDY = "it is only simulated in this version", "mlscale simulate ecs"


class Ecs:
    """Amazon ECS under target tracking."""

    name: ClassVar[str] = "ecs"
    level: ClassVar[Level] = "container+machine"
    modes: ClassVar[frozenset[Mode]] = frozenset()
    settings: ClassVar[type[Scaling]] = EcsScaling

    def arm(self, arm: str) -> EcsScaling:
        """shipped, matched, static-min, static-max; see `arm_settings`."""
        return arm_settings(arm)

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """It can't be measured."""
        return [Problem(_WHY, self.name, _REMEDY)]

    def deploy(
        self, app: App, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger, warm_up: Sequence[bytes]
    ) -> AbstractContextManager[Deployed]:
        """Raises MlscaleError: see `preflight`."""
        raise MlscaleError(_WHY, self.name, _REMEDY)

    def reap(self, entry: LedgerEntry) -> None:
        """Nothing is ever left."""
