"""Numbers and duration distributions with their sources: the elements of profiles."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Sourced(BaseModel):
    """A number or distribution in a profile. ``source``: a document, or the runs that it was fitted to."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: str = Field(min_length=1)
    date: str = Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$", description="when the source was true")
    note: str = ""


class Number(Sourced):
    """One value; its name in the profile has the unit. (Times, shares, counts: none is negative.)"""

    value: float = Field(ge=0)


class Distribution(Sourced):
    """Distribution of a duration, defined by its quantiles."""

    def quantile(self, share: float) -> float:
        """The duration that a ``share`` (0 to 1) of all do not exceed, s."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator) -> float:
        return self.quantile(float(rng.random()))


class Fixed(Distribution):
    """A constant."""

    kind: Literal["fixed"] = "fixed"
    value_s: float = Field(ge=0)

    @property
    def mean_s(self) -> float:
        return self.value_s

    def quantile(self, share: float) -> float:
        return self.value_s


class LogNormal(Distribution):
    """Lognormal, by the mean and standard deviation of the duration itself."""

    kind: Literal["lognormal"] = "lognormal"
    mean_s: float = Field(gt=0)
    sd_s: float = Field(ge=0)

    def quantile(self, share: float) -> float:
        variance = math.log1p((self.sd_s / self.mean_s) ** 2)
        normal = NormalDist().inv_cdf(min(max(share, 1e-12), 1 - 1e-12))
        return math.exp(math.log(self.mean_s) - variance / 2 + math.sqrt(variance) * normal)


class Uniform(Distribution):
    """Uniform between two bounds: the phase of something periodic, for instance."""

    kind: Literal["uniform"] = "uniform"
    low_s: float = Field(ge=0)
    high_s: float = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high_s < self.low_s:
            raise ValueError(f"high_s {self.high_s} is below low_s {self.low_s}")
        return self

    @property
    def mean_s(self) -> float:
        return (self.low_s + self.high_s) / 2

    def quantile(self, share: float) -> float:
        return self.low_s + share * (self.high_s - self.low_s)


class Measured(Distribution):
    """One of the measured values, all equally likely."""

    kind: Literal["measured"] = "measured"
    samples_s: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)

    @property
    def mean_s(self) -> float:
        return sum(self.samples_s) / len(self.samples_s)

    def quantile(self, share: float) -> float:
        number = len(self.samples_s)
        return sorted(self.samples_s)[min(int(share * number), number - 1)]


Duration = Annotated[Fixed | LogNormal | Uniform | Measured, Field(discriminator="kind")]


def scale_duration(duration: Duration, factor: float) -> Duration:
    """The distribution of ``factor`` times the duration."""
    match duration:
        case Fixed():
            return duration.model_copy(update={"value_s": duration.value_s * factor})
        case LogNormal():
            return duration.model_copy(update={"mean_s": duration.mean_s * factor, "sd_s": duration.sd_s * factor})
        case Uniform():
            return duration.model_copy(update={"low_s": duration.low_s * factor, "high_s": duration.high_s * factor})
        case Measured():
            return duration.model_copy(
                update={"samples_s": tuple(sample_s * factor for sample_s in duration.samples_s)}
            )
