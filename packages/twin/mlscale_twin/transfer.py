"""Transfers a profile to another host, by that host's speed in a few runs.

Recalibrating would take ten runs or more, since starts vary between runs. The ratios between the hosts vary less: work
and starts are almost all CPU time, so two factors suffice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from mlscale.analysis.provisioning import lives
from mlscale.runs import EventKind, MlscaleError, Run
from mlscale_twin.calibration import calibrate
from mlscale_twin.durations import Number, scale_duration
from mlscale_twin.profile import Profile


class Speed(BaseModel):
    """Durations on a host relative to the profile's host: CPU of an answer (``work``), time to start (``starts``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    work: float = Field(gt=0)
    starts: float = Field(gt=0)


def speed_of(here: Sequence[Run], there: Sequence[Run], profile: Profile) -> Speed:
    """Speed of the host of the runs ``here``, relative to the runs ``there`` of the same setup, to which the profile
    was fitted.

    Raises:
        MlscaleError: the runs can't be used for calibration, or no replica was started in them.
    """
    component = here[0].info.components[0]
    work = calibrate(here, profile).work[component].mean_s.value / profile.work[component].mean_s.value
    return Speed(work=round(work, 4), starts=round(_mean_start_s(here, profile) / _mean_start_s(there, profile), 4))


def _mean_start_s(runs: Sequence[Run], profile: Profile) -> float:
    """Mean over the runs of the mean time from a replica's creation (on machines: placement) until it is ready."""
    begin: EventKind = "replica_created" if profile.machines is None else "replica_scheduled"
    means = []
    for run in runs:
        took = lives(run, run.info.step_s or 0.0, run.info.schedule.duration_s, begin, "replica_ready")["took_s"]
        if took.notna().any():
            means.append(float(took.mean()))
    if not means:
        raise MlscaleError(
            "no replica was started in these runs", f"runs of {profile.environment}", "name runs with a step"
        )
    return float(np.mean(means))


def pool_speeds(speeds: Sequence[Speed]) -> Speed:
    """The speed of one host from several environments: geometric means. All of them run and import the same program,
    and a single run's work and starts vary by about a tenth."""
    factors = {name: [getattr(speed, name) for speed in speeds] for name in ("work", "starts")}
    return Speed(**{name: round(float(stats.gmean(values)), 4) for name, values in factors.items()})


def at_speed(profile: Profile, speed: Speed) -> Profile:
    """The profile on a host of this speed."""
    work = {
        name: work.model_copy(update={"mean_s": _multiplied(work.mean_s, speed.work)})
        for name, work in profile.work.items()
    }
    steps = tuple(
        step.model_copy(update={"takes": scale_duration(step.takes, speed.starts)}) for step in profile.starts.steps
    )
    return profile.model_copy(update={"work": work, "starts": profile.starts.model_copy(update={"steps": steps})})


def _multiplied(number: Number, factor: float) -> Number:
    return number.model_copy(update={"value": number.value * factor})
