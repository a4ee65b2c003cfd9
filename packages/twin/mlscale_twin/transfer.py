"""A profile on another host than the one whose runs it was fitted to: how fast that host is, by a few runs there.

Calibrating anew takes ten runs and more, since starts vary from run to run. What takes how long there beside here does
not: work and starts are nearly all CPU time, so that two factors tell it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from mlscale.analysis.provisioning import lives
from mlscale.runs import EventKind, MlscaleError, Run
from mlscale_twin.calibration import calibrate
from mlscale_twin.profile import Profile
from mlscale_twin.spread import Number, longer


class Speed(BaseModel):
    """What a host takes over what the profile's host takes: CPU of an answer (``work``), time to start (``starts``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    work: float = Field(gt=0)
    starts: float = Field(gt=0)


def speed_of(here: Sequence[Run], there: Sequence[Run], profile: Profile) -> Speed:
    """Of the host of the runs ``here``, beside that of ``there``: those of the same setup that the profile was fitted
    to.

    Raises:
        MlscaleError: runs that can't be calibrated with, or in which no replica was started.
    """
    component = here[0].info.components[0]
    work = calibrate(here, profile).work[component].mean_s.value / profile.work[component].mean_s.value
    return Speed(work=round(work, 4), starts=round(_mean_start_s(here, profile) / _mean_start_s(there, profile), 4))


def _mean_start_s(runs: Sequence[Run], profile: Profile) -> float:
    """Mean over the runs of the mean time from a replica's being asked for (on machines: placed) to its being ready."""
    begin: EventKind = "replica_created" if profile.machines is None else "replica_scheduled"
    means = []
    for run in runs:
        took = lives(run, run.info.step_s or 0.0, run.info.schedule.duration_s, begin, "replica_ready")["took_s"]
        if took.notna().any():
            means.append(float(took.mean()))
    if not means:
        raise MlscaleError("no replica was started in them", f"runs of {profile.environment}", "name runs with a step")
    return float(np.mean(means))


def pooled(speeds: Sequence[Speed]) -> Speed:
    """Of one host, found in several environments: geometric means. It is the same program that works and is imported,
    and one run's work and starts have a tenth of their length in common by chance."""
    found = {name: [getattr(each, name) for each in speeds] for name in ("work", "starts")}
    return Speed(**{name: round(float(stats.gmean(factors)), 4) for name, factors in found.items()})


def at_speed(profile: Profile, speed: Speed) -> Profile:
    """The profile for a host that is so fast."""
    work = {
        name: each.model_copy(update={"mean_s": _times(each.mean_s, speed.work)}) for name, each in profile.work.items()
    }
    steps = tuple(step.model_copy(update={"takes": longer(step.takes, speed.starts)}) for step in profile.starts.steps)
    return profile.model_copy(update={"work": work, "starts": profile.starts.model_copy(update={"steps": steps})})


def _times(number: Number, factor: float) -> Number:
    return number.model_copy(update={"value": number.value * factor})
