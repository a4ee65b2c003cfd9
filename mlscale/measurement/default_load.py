"""The load of a run for which the user gave none: the default load, long enough to see the environment scale up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlscale.defaults import defaults
from mlscale.environments import Environment, Scaling
from mlscale.progress import duration
from mlscale.runs import ClosedLoop, OpenLoop

# How long a run continues after the time by which the first new replica should be ready, s.
_WATCHED_S: Final = 30.0
# Warn if an answer takes this many times the CPU that the default load is sized for. At three times, the two clients
# before the step already made the framework scale up.
_MUCH: Final = 2.0


def default_load(environment: Environment, scalings: Mapping[str, Scaling]) -> ClosedLoop | OpenLoop:
    """The defaults' quick schedule; its last stage lasts at least as long as the environment's start-up
    (``start_up_s``, if it has that method) and 30 s more."""
    schedule = defaults().quick_schedule()
    start_up = getattr(environment, "start_up_s", None)
    if start_up is None:
        return schedule
    needed_s = schedule.boundaries_s[-1] + max(map(start_up, scalings.values())) + _WATCHED_S
    return schedule.model_copy(update={"duration_s": max(schedule.duration_s, needed_s)})


def size_warning(cpu_s: float) -> str | None:
    """A warning if an answer takes much more CPU than the default load is sized for; else None.

    Args:
        cpu_s: CPU time of one answer on a whole core, s.
    """
    sized_s = defaults().answer_cpu_s
    if sized_s is None or cpu_s < _MUCH * sized_s:
        return None
    return (
        f"the default load is sized for {1000 * sized_s:.0f} ms of CPU per answer: with {cpu_s / sized_s:.1f} times "
        "that, expect scaling before its step; give a load of your own (--schedule), with longer think times"
    )


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
