"""Load schedules as data. `mlscale.loadgen` derives from them when to send each request.

Times are seconds since the schedule's start. Two loops (METHOD §1): *closed* (n clients, each sends, waits for the
answer, thinks) and *open* (send times are drawn beforehand and don't depend on the server).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

MAX_RATE_RPS: Final = 1_000_000.0
"""More than any load generator sends from one machine (assumed). A schedule that asks for more is refused."""
MAX_DURATION_S: Final = 1e8
"""Three years."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClosedStage(_Data):
    """From ``start_s`` on, ``clients`` clients are active."""

    start_s: float = Field(ge=0)
    clients: int = Field(ge=0, le=100_000)


class ClosedLoop(_Data):
    """Clients that send, wait for the answer and think before they send again."""

    loop: Literal["closed"] = "closed"
    duration_s: float = Field(gt=0, le=MAX_DURATION_S)
    stages: tuple[ClosedStage, ...] = Field(min_length=1)
    think_mean_s: float = Field(default=0.0, ge=0, description="mean think time between done and next intended, s")
    think: Literal["exponential", "constant"] = "exponential"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_starts([stage.start_s for stage in self.stages], self.duration_s)
        return self

    @property
    def boundaries_s(self) -> tuple[float, ...]:
        """Start of each load stage, s."""
        return tuple(stage.start_s for stage in self.stages)

    @property
    def levels(self) -> tuple[float, ...]:
        """Clients of each load stage."""
        return tuple(float(stage.clients) for stage in self.stages)


class Constant(_Data):
    """rate(t) = rate_rps."""

    shape: Literal["constant"] = "constant"
    rate_rps: float = Field(ge=0, le=MAX_RATE_RPS)


class Step(_Data):
    """From ``start_s`` on, ``rate_rps``."""

    start_s: float = Field(ge=0)
    rate_rps: float = Field(ge=0, le=MAX_RATE_RPS)


class Staircase(_Data):
    """Piecewise constant rate."""

    shape: Literal["staircase"] = "staircase"
    steps: tuple[Step, ...] = Field(min_length=1)


class Ramp(_Data):
    """Linear from ``from_rps`` at 0 to ``to_rps`` at the schedule's end."""

    shape: Literal["ramp"] = "ramp"
    from_rps: float = Field(ge=0, le=MAX_RATE_RPS)
    to_rps: float = Field(ge=0, le=MAX_RATE_RPS)


class Sine(_Data):
    """rate(t) = mean_rps + amplitude_rps * sin(2 pi (t / period_s) + phase_rad)."""

    shape: Literal["sine"] = "sine"
    mean_rps: float = Field(ge=0, le=MAX_RATE_RPS)
    amplitude_rps: float = Field(ge=0)
    period_s: float = Field(gt=0)
    phase_rad: float = 0.0

    @model_validator(mode="after")
    def _non_negative(self) -> Self:
        if self.amplitude_rps > self.mean_rps:
            raise ValueError("amplitude_rps is above mean_rps: the rate would be negative")
        return self


class Spike(_Data):
    """``base_rps``, but ``spike_rps`` in [at_s, at_s + width_s)."""

    shape: Literal["spike"] = "spike"
    base_rps: float = Field(ge=0, le=MAX_RATE_RPS)
    spike_rps: float = Field(ge=0, le=MAX_RATE_RPS)
    at_s: float = Field(ge=0)
    width_s: float = Field(gt=0)


class Trace(_Data):
    """A recorded arrival trace.

    ``file`` is in one of the formats of docs/strategy.md: CSV with a ``TIMESTAMP`` column (date-times, as in
    AzurePublicDataset's LLM traces) or ``time_s`` (seconds), of arrivals, or of rates beside either (``rate_rps``: each
    holds until the next row); or JSON of Prometheus or CloudWatch. Times count from the first row. ``speed``
    divides them (2 = twice as fast); ``keep`` is the share of arrivals kept (drawn from the seed) or the factor on the
    rates.
    """

    shape: Literal["trace"] = "trace"
    file: str
    sha256: str = Field(default="", description="of the file; filled in when the schedule is read")
    speed: float = Field(default=1.0, gt=0)
    keep: float = Field(default=1.0, gt=0)


RateShape = Annotated[Constant | Staircase | Ramp | Sine | Spike | Trace, Field(discriminator="shape")]


class OpenLoop(_Data):
    """Requests sent at times drawn beforehand from ``rate``: evenly spaced, or a Poisson process of that rate."""

    loop: Literal["open"] = "open"
    duration_s: float = Field(gt=0, le=MAX_DURATION_S)
    rate: RateShape
    arrivals: Literal["even", "poisson"] = "poisson"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_starts(list(self.boundaries_s), self.duration_s)
        return self

    @property
    def boundaries_s(self) -> tuple[float, ...]:
        """Start of each load stage, s: the steps of a staircase; before, in and after a spike; otherwise one stage."""
        match self.rate:
            case Staircase(steps=steps):
                return tuple(step.start_s for step in steps)
            case Spike(at_s=at_s, width_s=width_s) if at_s > 0:
                return (0.0, at_s, at_s + width_s) if at_s + width_s < self.duration_s else (0.0, at_s)
            case _:
                return (0.0,)

    @property
    def levels(self) -> tuple[float, ...]:
        """Requests/s of each load stage; NaN where a stage has no constant rate."""
        match self.rate:
            case Staircase(steps=steps):
                return tuple(step.rate_rps for step in steps)
            case Constant(rate_rps=rate_rps):
                return (rate_rps,)
            case Spike(base_rps=base_rps, spike_rps=spike_rps):
                return (base_rps, spike_rps, base_rps)[: len(self.boundaries_s)]
            case _:
                return (float("nan"),)


Schedule = Annotated[ClosedLoop | OpenLoop, Field(discriminator="loop")]
# Reads a schedule from JSON or Python data: ``SCHEDULE.validate_json(text)``.
SCHEDULE: TypeAdapter[ClosedLoop | OpenLoop] = TypeAdapter(Schedule)


def _check_starts(starts_s: list[float], duration_s: float) -> None:
    if starts_s[0] != 0:
        raise ValueError(f"the first stage starts at {starts_s[0]} s, not at 0")
    if any(later <= earlier for earlier, later in pairwise(starts_s)):
        raise ValueError("stages are not in order of their start")
    if starts_s[-1] >= duration_s:
        raise ValueError(f"the last stage starts at {starts_s[-1]} s, after the schedule's end at {duration_s} s")
