"""An application and a load for tests that name none."""

from __future__ import annotations

from mlscale.defaults import Defaults
from mlscale.environments import App, Component
from mlscale.runs import ClosedLoop
from mlscale.runs.schedule import ClosedStage


class TwinTestDefaults(Defaults):
    def application(self, *, partitioned: bool = False) -> App:
        names = ("localiser", "readers") if partitioned else ("app",)
        components = tuple(Component(name=name, entry="nothing:runs") for name in names)
        return App(name="test", version="1", components=components, front=names[0])

    def quick_schedule(self) -> ClosedLoop:
        return ClosedLoop(
            duration_s=60.0,
            stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=15, clients=14)),
            think_mean_s=0.87,
        )

    @property
    def level_s(self) -> float:
        return 0.45
