"""The load of a run for which the user gave none: the default load, long enough to see the environment scale up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from mlscale.defaults import defaults
from mlscale.environments import App, Environment, Scaling
from mlscale.progress import duration
from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop

# How long a run continues after the time by which the first new replica should be ready, s.
_WATCHED_S: Final = 30.0


def default_load(environment: Environment, scalings: Mapping[str, Scaling]) -> ClosedLoop | OpenLoop:
    """The defaults' quick schedule, `long_enough`."""
    return long_enough(defaults().quick_schedule(), environment, scalings)


def is_for(app: App) -> bool:
    """Whether the default load is sized for ``app``: for the defaults' application alone."""
    try:
        return defaults().application().name == app.name
    except MlscaleError:
        return False


Load = TypeVar("Load", ClosedLoop, OpenLoop, ClosedLoop | OpenLoop)


def long_enough(schedule: Load, environment: Environment, scalings: Mapping[str, Scaling]) -> Load:
    """``schedule`` with a last stage that lasts at least as long as the environment's start-up (``start_up_s``, if it
    has that method) and 30 s more."""
    start_up = getattr(environment, "start_up_s", None)
    if start_up is None:
        return schedule
    needed_s = schedule.boundaries_s[-1] + max(map(start_up, scalings.values())) + _WATCHED_S
    return schedule.model_copy(update={"duration_s": max(schedule.duration_s, needed_s)})


def announcement(schedule: ClosedLoop | OpenLoop, idle_s: float) -> str:
    """A sentence, printed before a run, that says what is about to happen and how long it takes."""
    about_s = schedule.duration_s + idle_s
    if isinstance(schedule, ClosedLoop):
        what = ", then ".join(
            f"{stage.clients} client{'s' * (stage.clients != 1)} from {stage.start_s:g} s" for stage in schedule.stages
        )
    else:
        what = f"an open loop ({schedule.rate.shape})"
    return (
        f"load: {what}, {schedule.duration_s:g} s in all; with {idle_s:g} s at idle before it, that is "
        f"{duration(about_s)}, plus deploying and removing"
    )
