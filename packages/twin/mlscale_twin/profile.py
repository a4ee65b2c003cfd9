"""Platform profiles: the platform's numbers for the twin, each with its source. Data, no code."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlscale.runs import EventKind, Level, MlscaleError
from mlscale_twin.durations import Drawn, Number, Spread, longer
from mlscale_twin.settings import Polling, Routing

FOLDER: Final = Path(__file__).parent / "profiles"
# Service times by which a photo's distribution is told: its quantiles at the middles of so many even parts.
SAMPLES: Final = 64


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Work(_Data):
    """CPU time that a component spends on an answer.

    ``mean_s``: over the photos, while nobody waits. ``ahead``, ``afterwards``: what of it passes before the clock of
    the replica's service starts, and after the answer is out, as shares of the mean. ``photos``: of each photo's mean,
    as a share of it, in the order of their names; where a run sends other photos, the n-th takes the n-th share.
    ``spread``: standard deviation of the work on one photo, as a share of its mean (lognormal). ``per_waiting``: how
    much more of it, as a share of the mean, each time that a router asks the replica at work whether it is free, for
    requests that wait, or has it reject one. ``reference_cpu_s``: what a photo was measured to take at full speed, mean
    over the set (`BodySet.facts`), by which other sets are told from this one.
    """

    mean_s: Number
    photos: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    spread: Number
    ahead: Number | None = None
    afterwards: Number | None = None
    per_waiting: Number | None = None
    reference_cpu_s: Number | None = None

    @property
    def ahead_cpu_s(self) -> float:
        """Work before the clock of a service starts, CPU s."""
        return self._share_s(self.ahead)

    @property
    def after_cpu_s(self) -> float:
        """Work after an answer is out, CPU s."""
        return self._share_s(self.afterwards)

    @property
    def ask_cpu_s(self) -> float:
        """Cost to a busy replica of being polled, CPU s."""
        return self._share_s(self.per_waiting)

    def samples_s(self, photos: int) -> npt.NDArray[np.float64]:
        """(photos, SAMPLES): quantiles of each photo's work while the clock of its service runs, s."""
        shares = np.array([self.photos[place % len(self.photos)] for place in range(photos)])
        sigma = math.sqrt(math.log1p(self.spread.value**2))
        middles = (np.arange(SAMPLES) + 0.5) / SAMPLES
        factors = np.exp(sigma * np.array([NormalDist().inv_cdf(float(each)) for each in middles]))
        clocked_s = self.mean_s.value - self.ahead_cpu_s - self.after_cpu_s
        samples: npt.NDArray[np.float64] = clocked_s * shares[:, None] * (factors / factors.mean())[None, :]
        return samples

    def _share_s(self, share: Number | None) -> float:
        return share.value * self.mean_s.value if share is not None else 0.0


class Requests(_Data):
    """``outside_s``: of a response, what passes outside queue and replica. ``queue_limit``: requests that may wait, in
    each replica where each has its own queue; None: the scaling's own setting, else any number.
    ``drops_given_up``: whether a request that its client gave up is not served any more. ``router_polls``: whether
    the shared queue is a router's that asks replicas again and again (`settings.Polling`)."""

    routing: Routing
    outside_s: Number
    queue_limit: Number | None = None
    drops_given_up: bool = False
    router_polls: bool = False
    stale_s: Number | None = None


class StartStep(_Data):
    """One part of a replica's start, and the events that its begin and its end are in a run. ``limited``: only so many
    are in it at a time (`Starts.at_once`)."""

    name: str
    takes: Spread
    ends_with: EventKind | None = None
    begins_with: EventKind | None = None
    limited: bool = False


class Starts(_Data):
    """``probe_period_s``: a loaded replica turns ready at its next probe; "readiness_period_s": the setting's.
    ``noticed``: from ready to the first request that may come. ``at_once``: so many start at a time; None: all.
    ``leaves``: from the decision until nothing is sent to a replica any more. ``one_by_one``: they leave so.
    ``alike``: share of a start's variation that replicas have in common which were asked for together. ``crowding``:
    how much longer a step takes, as a share, for each other replica that is starting then."""

    steps: tuple[StartStep, ...]
    noticed: Spread
    leaves: Spread
    probe_period_s: Number | Literal["readiness_period_s"] | None = None
    at_once: Number | None = None
    one_by_one: bool = False
    alike: Number | None = None
    crowding: Number | None = None


class Machines(_Data):
    """From asked for to ready: ``boot`` (None: as the scaling's setting says), ``boot_overhead`` on top of it,
    ``registers``, ``turns_ready``. ``apart``: what lies between machines that are due together (None: nothing), s."""

    by: Literal["karpenter", "capacity-provider"]
    registers: Spread
    turns_ready: Spread
    boot_overhead: Spread
    boot: Spread | None = None
    apart: Number | None = None


class Profile(_Data):
    """One environment's profile. ``scales_by``: its control loop; ``loop``: the loop's periods and delays, by name."""

    environment: str
    level: Level
    scales_by: Literal["worker-controller", "ray-serve", "hpa", "target-tracking"]
    what: str = Field(description="where it holds: host, versions")
    validated: str = Field(default="not validated", description="against which live runs, and with what verdict")
    work: dict[str, Work] = Field(min_length=1)
    calls: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="calls of the second component by a request, each as likely"
    )
    requests: Requests
    starts: Starts
    machines: Machines | None = None
    loop: dict[str, Number] = Field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hash of everything but the verdict: what a validation freezes."""
        return hashlib.sha256(self.model_dump_json(exclude={"validated"}).encode()).hexdigest()

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

    def loop_value(self, name: str) -> float:
        """Raises MlscaleError if the profile lacks it."""
        if name not in self.loop:
            raise MlscaleError(f"it lacks loop.{name}", f"profile {self.environment}", "add it, with its source")
        return self.loop[name].value


def profile_names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def read_profile(which: str | Path) -> Profile:
    """The profile of an environment, or of a file.

    Raises:
        MlscaleError: it is missing or invalid.
    """
    file = which if isinstance(which, Path) else FOLDER / f"{which}.json"
    try:
        return Profile.model_validate_json(file.read_text())
    except FileNotFoundError:
        raise MlscaleError("no such profile", str(which), f"choose one of: {', '.join(profile_names())}") from None
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(file), "name a file that can be read") from error
    except ValidationError as error:
        raise MlscaleError(_first(error), str(file), "fix it, or calibrate a new one") from None


def changed(profile: Profile, changes: Sequence[tuple[str, Any]]) -> Profile:
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
        raise MlscaleError(_first(error), f"profile {profile.environment}", "choose another value") from None


def scaled(profile: Profile, path: str, factor: float) -> Profile:
    """The profile with one number or duration, by dotted path (such as "starts.noticed"), multiplied by ``factor``.

    Raises:
        MlscaleError: the path is not a number or duration.
    """
    found = number_at(profile, path)
    if isinstance(found, Number):
        return changed(profile, [(f"{path}.value", found.value * factor)])
    return changed(profile, [(path, longer(found, factor).model_dump())])


def numbers_in(profile: Profile) -> list[tuple[str, Number | Spread]]:
    """Every number and duration of a profile, with its dotted path."""
    found: list[tuple[str, Number | Spread]] = []

    def walk(place: Any, path: str) -> None:
        if isinstance(place, Number | Drawn):
            found.append((path, place))  # type: ignore[arg-type]
        elif isinstance(place, BaseModel):
            for name in type(place).model_fields:
                walk(getattr(place, name), f"{path}.{name}".lstrip("."))
        elif isinstance(place, dict):
            for name, each in place.items():
                walk(each, f"{path}.{name}")
        elif isinstance(place, tuple):
            for number, each in enumerate(place):
                walk(each, f"{path}.{number}")

    walk(profile, "")
    return found


def number_at(profile: Profile, path: str) -> Number | Spread:
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
    if not isinstance(place, Number | Drawn):
        raise MlscaleError(f"no number at {path!r}", f"profile {profile.environment}", "see its file")
    return place  # type: ignore[return-value]


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
