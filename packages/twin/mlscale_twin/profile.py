"""Platform profiles: the platform's numbers for the twin, each with its source. Data, no code."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlscale.errors import first_invalid
from mlscale.runs import EventKind, Level, MlscaleError
from mlscale_twin.durations import Distribution, Duration, Number, scale_duration
from mlscale_twin.settings import Polling, Routing

FOLDER: Final = Path(__file__).parent / "profiles"
# Quantiles that represent the distribution of a photo's work, at the midpoints of as many equal parts.
SAMPLES: Final = 64
# Least values in `Profile.loop`: with shorter periods a simulation would not end.
_LEAST: Final = {
    "sync_period_s": 0.001, "metric_resolution_s": 0.001, "control_period_s": 0.001, "router_askers_each": 1.0,
}  # fmt: skip


def _within(least: float, most: float) -> AfterValidator:
    """Bounds on a number's value."""

    def check(number: Number) -> Number:
        if not least <= number.value <= most:
            raise ValueError(f"{number.value:g} is not from {least:g} to {most:g}")
        return number

    return AfterValidator(check)


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Work(_Data):
    """CPU time that a component spends on an answer.

    ``mean_s``: over the photos, without waiting requests. ``ahead``, ``afterwards``: parts of it before the replica's
    service clock starts, and after the answer is sent, relative to the mean. ``photos``: each photo's mean relative to
    ``mean_s``, in the order of their names; if a run sends other photos, the n-th takes the n-th value. ``spread``:
    standard deviation for one photo, relative to its mean (lognormal). ``per_waiting``: additional work, relative to
    the mean, each time that a router polls a busy replica or has it reject a request. ``reference_cpu_s``: CPU time of
    a photo at full speed, mean over the set (`BodySet.facts`), to convert to other photo sets. ``waits``: for how long
    an answer keeps its replica without CPU, s (None: 0).
    """

    mean_s: Number
    photos: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    spread: Number
    ahead: Number | None = None
    afterwards: Number | None = None
    per_waiting: Number | None = None
    reference_cpu_s: Number | None = None
    waits: Number | None = None

    @model_validator(mode="after")
    def _clocked(self) -> Self:
        if sum(share.value for share in (self.ahead, self.afterwards) if share is not None) >= 1:
            raise ValueError("ahead and afterwards add up to 1 or more, which leaves no work to the service clock")
        return self

    @property
    def ahead_cpu_s(self) -> float:
        """Work before the service clock starts, CPU s."""
        return self._share_s(self.ahead)

    @property
    def after_cpu_s(self) -> float:
        """Work after the answer is sent, CPU s."""
        return self._share_s(self.afterwards)

    @property
    def poll_cpu_s(self) -> float:
        """CPU time that a poll takes on a busy replica, s."""
        return self._share_s(self.per_waiting)

    @property
    def waits_s(self) -> float:
        return self.waits.value if self.waits is not None else 0.0

    def samples_s(self, photos: int) -> npt.NDArray[np.float64]:
        """(photos, SAMPLES): quantiles of each photo's work while its service clock runs, s."""
        shares = np.array([self.photos[place % len(self.photos)] for place in range(photos)])
        sigma = math.sqrt(math.log1p(self.spread.value**2))
        midpoints = (np.arange(SAMPLES) + 0.5) / SAMPLES
        factors = np.exp(sigma * np.array([NormalDist().inv_cdf(float(share)) for share in midpoints]))
        clocked_s = self.mean_s.value - self.ahead_cpu_s - self.after_cpu_s
        samples: npt.NDArray[np.float64] = clocked_s * shares[:, None] * (factors / factors.mean())[None, :]
        return samples

    def _share_s(self, share: Number | None) -> float:
        return share.value * self.mean_s.value if share is not None else 0.0


class Requests(_Data):
    """``outside_s``: part of a response outside queue and replica. ``queue_limit``: requests that may wait (per replica
    if each has its own queue); None: the scaling's setting, else no limit. ``drops_given_up``: whether the server drops
    requests that timed out at the client. ``router_polls``: whether the shared queue belongs to a router that polls
    its replicas (`settings.Polling`)."""

    routing: Routing
    outside_s: Number
    queue_limit: Number | None = None
    drops_given_up: bool = False
    router_polls: bool = False
    stale_s: Number | None = None


class StartStep(_Data):
    """One part of a replica's start, and the events that a run records at its beginning and end. ``limited``: counts
    against `Starts.at_once`; without limited steps, the whole start does."""

    name: str
    takes: Duration
    ends_with: EventKind | None = None
    begins_with: EventKind | None = None
    limited: bool = False


class Starts(_Data):
    """``probe_period_s``: a loaded replica becomes ready at its next probe; "readiness_period_s": the setting of that
    name. ``noticed``: from ready until the first request can arrive. ``at_once``: most replicas that start at a time;
    None: no limit. ``leaves``: from the decision to remove a replica until it gets no more requests. ``one_by_one``: a
    replica is removed only when the one before is gone. ``alike``: share of the variance of start times that is common
    to replicas requested together. ``crowding``: relative slow-down of a step per other replica that is starting."""

    steps: tuple[StartStep, ...]
    noticed: Duration
    leaves: Duration
    probe_period_s: Number | Literal["readiness_period_s"] | None = None
    at_once: Annotated[Number, _within(1, 1_000_000)] | None = None
    one_by_one: bool = False
    alike: Annotated[Number, _within(0, 1)] | None = None
    crowding: Number | None = None


class Machines(_Data):
    """From the request to ready: ``boot`` (None: the scaling's setting), ``boot_overhead`` on top of it, ``registers``,
    ``turns_ready``. ``apart``: minimum time between the ends of boots, s (None: 0)."""

    by: Literal["karpenter", "capacity-provider", "cluster-autoscaler"]
    registers: Duration
    turns_ready: Duration
    boot_overhead: Duration
    boot: Duration | None = None
    apart: Number | None = None


class Speed(_Data):
    """What is known of the speed of hosts (`mlscale_twin.host_speed`). ``light_cpu_s``: CPU of an answer before the
    step, geometric mean over the runs that the profile was fitted to; ``first_start_s``: the same of the start of the
    first replica. Standard deviations of their logarithms: between ``host``s; of answers also between the ``day``s of
    one and between the ``run``s of a day; and ``noise`` and ``start_noise``, which do not persist."""

    light_cpu_s: Number
    first_start_s: Number | None = None
    start_noise: Number | None = None
    noise: Number
    run: Number
    day: Number
    host: Number


class Compared(_Data):
    """How far the twin was from live runs of the same setups: twin / live, lowest and highest over ``runs`` runs, by
    figure of `mlscale_twin.likeness`; ``what``: which runs."""

    what: str
    runs: Annotated[int, Field(ge=1)]
    ratios: dict[str, tuple[float, float]]

    def lowest(self, figure: str) -> float:
        """The lowest ratio, at most 1: the live system was up to 1 / ratio times as slow."""
        return min(1.0, self.ratios[figure][0])


class Profile(_Data):
    """One environment's profile. ``scales_by``: its control loop; ``loop``: the loop's periods and delays, by name."""

    environment: str
    level: Level
    scales_by: Literal["worker-controller", "ray-serve", "hpa", "target-tracking"]
    what: str = Field(description="where it holds: host, versions")
    application: str = Field(default="", description="whose work and starts it has; empty: not said")
    fitted_to: tuple[str, ...] = Field(default=(), description="ids of the runs that it was fitted to")
    validated: str = Field(default="not validated", description="against which live runs, and with what verdict")
    compared: Compared | None = Field(default=None, description="how far the twin was from live runs")
    work: dict[str, Work] = Field(min_length=1)
    calls: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="calls of the second component by a request, each as likely"
    )
    requests: Requests
    starts: Starts
    machines: Machines | None = None
    speed: Speed | None = None
    loop: dict[str, Number] = Field(default_factory=dict)

    @field_validator("loop")
    @classmethod
    def _possible(cls, loop: dict[str, Number]) -> dict[str, Number]:
        for name, number in loop.items():
            if number.value < _LEAST.get(name, 0.0):
                raise ValueError(f"{name} {number.value:g} is below {_LEAST[name]:g}")
        return loop

    @property
    def sha256(self) -> str:
        """Hash of everything that a simulation depends on."""
        said: dict[str, Any] = dict.fromkeys(("fitted_to", "validated", "compared", "application"), True)
        without = {name: {"waits"} for name, work in self.work.items() if work.waits is None}
        return hashlib.sha256(self.model_dump_json(exclude=said | {"work": without}).encode()).hexdigest()

    def polling(self, scaling: Mapping[str, Any]) -> Polling | None:
        """The router's polling under these settings, if it polls."""
        if not self.requests.router_polls:
            return None
        return Polling(
            scaling["initial_backoff_s"],
            scaling["backoff_multiplier"],
            scaling["max_backoff_s"],
            round(self.loop_value("router_askers_each")),
        )

    def error_of(self, figure: str) -> str:
        """How far the twin was from live runs in a figure of `mlscale_twin.likeness`, and in which, in words."""
        if self.compared is None:
            return "never compared with live runs"
        if figure not in self.compared.ratios:
            return "not compared in this figure"
        low, high = self.compared.ratios[figure]
        return f"twin / live {low:.2f} to {high:.2f} ({self.compared.runs} {self.compared.what})"

    def loop_value(self, name: str) -> float:
        """Raises MlscaleError if the profile lacks it."""
        if name not in self.loop:
            raise MlscaleError(f"loop.{name} is missing", f"profile {self.environment}", "add it, with its source")
        return self.loop[name].value


def profile_names() -> list[str]:
    """Of the profiles that were fitted to runs. Others are composed (`mlscale_twin.cloud`)."""
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def fitted_profile(which: str | Path) -> Profile:
    """The shipped profile called ``which``, or the one in that file.

    Raises:
        MlscaleError: it is missing or invalid.
    """
    file = which if isinstance(which, Path) else FOLDER / f"{which}.json"
    try:
        return Profile.model_validate_json(file.read_bytes())
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(file), "choose a readable file") from error
    except ValidationError as error:
        raise MlscaleError(first_invalid(error), str(file), "fix it, or calibrate a new profile") from None


def with_changes(profile: Profile, changes: Sequence[tuple[str, Any]]) -> Profile:
    """The profile with values replaced by dotted path, such as ("work.app.mean_s.value", 0.05).

    Raises:
        MlscaleError: an unknown path, or an invalid value.
    """
    data = profile.model_dump()
    for path, value in changes:
        *parents, last = path.split(".")
        place: Any = data
        try:
            for name in parents:
                place = place[int(name)] if isinstance(place, list | tuple) else place[name]
            place[last]
            place[last] = value
        except (KeyError, IndexError, TypeError, ValueError):
            raise MlscaleError(f"no number at {path!r}", f"profile {profile.environment}", "see its file") from None
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        raise MlscaleError(first_invalid(error), f"profile {profile.environment}", "choose another value") from None


def with_scaled_number(profile: Profile, path: str, factor: float) -> Profile:
    """The profile with one number or duration, by dotted path (such as "starts.noticed"), multiplied by ``factor``.

    Raises:
        MlscaleError: the path is not a number or duration.
    """
    number = number_at(profile, path)
    if isinstance(number, Number):
        return with_changes(profile, [(f"{path}.value", number.value * factor)])
    return with_changes(profile, [(path, scale_duration(number, factor).model_dump())])


def number_at(profile: Profile, path: str) -> Number | Duration:
    """The number or duration at a dotted path.

    Raises:
        MlscaleError: there is neither.
    """
    place: Any = profile
    try:
        for name in path.split("."):
            place = (
                place[int(name)]
                if isinstance(place, tuple)
                else (place[name] if isinstance(place, dict) else getattr(place, name))
            )
    except (KeyError, IndexError, AttributeError, ValueError):
        place = None
    if not isinstance(place, Number | Distribution):
        raise MlscaleError(f"no number at {path!r}", f"profile {profile.environment}", "see its file")
    return place  # type: ignore[return-value]
