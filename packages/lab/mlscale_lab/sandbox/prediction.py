"""What the twin predicts for one setting: the curves and numbers that the sandbox shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from mlscale.environments import Scaling
from mlscale.runs import OpenLoop
from mlscale_twin.layout import OK
from mlscale_twin.profile import Profile
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import machines_of
from mlscale_twin.twin import Setup, Twin, TwinResult

Floats = npt.NDArray[np.float64]

# Points of a curve.
POINTS: Final = 120
TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Prediction:
    """One simulated run. ``response_s``: the mean over the requests intended in each of `POINTS` equal parts, failures
    as the timeout, NaN where there are none; ``ready``, ``desired``: replicas at ``counted_s``."""

    response_s: Floats
    counted_s: Floats
    ready: Floats
    desired: Floats
    mean_s: float
    p95_s: float
    failed: float
    replica_min: float
    decisions: int
    machines: int | None


def predict(environment: str, scaling: Scaling, schedule: OpenLoop, draw: int = 0) -> Prediction:
    """Simulate one run; the same ``draw`` has the same arrivals.

    Raises:
        MlscaleError: a setting that the twin does not support.
    """
    profile = profile_of(environment)
    component = next(iter(profile.work))
    scalings = {component: scaling.model_dump()}
    types, boot = machines_of(scalings)
    photos = tuple(f"photo-{place}" for place in range(len(profile.work[component].photos)))
    setup = Setup(
        profile=profile, schedule=schedule, scalings=scalings, photos=photos, types=types, boot=boot,
        timeout_s=TIMEOUT_S, seed=draw, draw=draw, usage=False,
    )  # fmt: skip
    return _prediction(Twin(setup).run(), schedule.duration_s)


@cache
def profile_of(environment: str) -> Profile:
    """The environment's own profile."""
    return read_profile(environment)


def error_of(environment: str) -> str:
    """How far the profile's simulations were from live runs."""
    profile = profile_of(environment)
    if profile.compared is None:
        return f"{environment}: never compared with a live run ({profile.validated}); its numbers are from documents"
    low, high = profile.compared.ratios["mean_response_s"]
    return (
        f"{environment}: the simulated mean response was {low:.2f} to {high:.2f} times the measured one "
        f"({profile.compared.runs} {profile.compared.what}; notebook 09)"
    )


def _prediction(outcome: TwinResult, duration_s: float) -> Prediction:
    rows = outcome.rows
    intended_s = rows["intended_s"]
    response_s = np.where(rows["status"] == OK, rows["done_s"] - intended_s, TIMEOUT_S)
    place = np.minimum((intended_s / duration_s * POINTS).astype(np.int64), POINTS - 1)
    counts = np.bincount(place, minlength=POINTS)
    sums = np.bincount(place, response_s, POINTS)
    samples = [sample for sample in outcome.samples if sample.t_s <= duration_s]
    desired = np.array([sample.desired for sample in samples], dtype=float)
    ready = np.array([sample.ready for sample in samples], dtype=float)
    existing = np.array([sample.ready + sample.starting for sample in samples], dtype=float)
    machines = [sample.machines_ready for sample in samples if sample.machines_ready is not None]
    return Prediction(
        response_s=np.where(counts > 0, sums / np.maximum(counts, 1), np.nan),
        counted_s=np.array([sample.t_s for sample in samples]),
        ready=ready,
        desired=desired,
        mean_s=float(response_s.mean()) if len(rows) else float("nan"),
        p95_s=float(np.quantile(response_s, 0.95)) if len(rows) else float("nan"),
        failed=float((rows["status"] != OK).mean()) if len(rows) else 0.0,
        replica_min=float(existing.mean()) * duration_s / 60 if samples else 0.0,
        decisions=int(np.count_nonzero(np.diff(desired))),
        machines=max(machines, default=None),
    )
