"""The worker controller, which adds autoscaling to TorchServe: decides the number of workers.

TorchServe can start workers on request but has no autoscaler (pytorch/serve #3339, #3358), so this one is ours. Signal:
requests queued and in service, averaged over a look-back; wanted = ceil(ongoing / target_ongoing), as Ray Serve's
policy decides with a factor of 1 and no tolerance band. The latest wanted number is applied once it has stayed above
(or below) the current one for a delay (as in Ray's ``_apply_delay_logic``). No clock and no I/O, so the live loop and
the twin can call the same functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

Rule = Literal[
    "up",
    "down",
    "below-min",
    "above-max",
    "on-target",
    "at-min",
    "at-max",
    "upscale-delay",
    "downscale-delay",
    "no-signal",
]

_EPSILON: Final = 1e-9  # so that 2.0000000001 ongoing at target 1 is 2 workers, and 0.9999999999 s is a delay of 1 s


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Bounds and delays. ``target_ongoing``: target of requests queued + in service per worker."""

    min_replicas: int = 1
    max_replicas: int = 4
    target_ongoing: float = 1.0
    upscale_delay_s: float = 1.0
    downscale_delay_s: float = 30.0
    max_step_up: int = 64
    max_step_down: int = 64


@dataclass(frozen=True, slots=True)
class WorkerObservation:
    """Input at ``t_s`` (s, any monotonic clock): ``ongoing`` requests (look-back mean; None: no fresh sample) and the
    last ``desired`` number of workers."""

    t_s: float
    ongoing: float | None
    desired: int


@dataclass(frozen=True, slots=True)
class ControllerState:
    """Since when more (or fewer) workers have been wanted without interruption; None if they are not."""

    more_since_s: float | None = None
    fewer_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """``desired`` workers from now on; the observation's number means no change. ``rule`` names the branch taken,
    ``reason`` explains it with numbers."""

    desired: int
    rule: Rule
    reason: str
    state: ControllerState


def decide(observation: WorkerObservation, settings: ControllerSettings, state: ControllerState) -> Decision:
    """One decision; every hold says why."""
    current, low, high = observation.desired, settings.min_replicas, settings.max_replicas
    if current < low:
        return Decision(low, "below-min", f"{current} workers, at least {low} are set", ControllerState())
    if current > high:
        return Decision(high, "above-max", f"{current} workers, at most {high} are set", ControllerState())
    if observation.ongoing is None:
        # A gap in the samples restarts the delay, which must be observed in full.
        return Decision(current, "no-signal", "no fresh observation of the queue", ControllerState())
    raw = math.ceil(observation.ongoing / settings.target_ongoing - _EPSILON)
    wanted = min(max(raw, low), high)
    load = f"{observation.ongoing:.2f} ongoing at target {settings.target_ongoing:g} want {raw}"
    if wanted != current:
        return _change(observation, settings, state, wanted, load)
    if raw > high:
        return Decision(current, "at-max", f"{load}, at most {high} are set", ControllerState())
    if raw < low:
        return Decision(current, "at-min", f"{load}, at least {low} are set", ControllerState())
    return Decision(current, "on-target", f"{load}, there are {current}", ControllerState())


def _change(
    observation: WorkerObservation, settings: ControllerSettings, state: ControllerState, wanted: int, load: str
) -> Decision:
    """More or fewer workers, once they have been wanted for the delay."""
    current = observation.desired
    grows = wanted > current
    since = state.more_since_s if grows else state.fewer_since_s
    since = observation.t_s if since is None else since
    delay_s = settings.upscale_delay_s if grows else settings.downscale_delay_s
    held_s = observation.t_s - since
    reason = f"{load}, {'more' if grows else 'fewer'} than {current} for {held_s:.2f}"
    if held_s + _EPSILON < delay_s:
        waiting = ControllerState(more_since_s=since) if grows else ControllerState(fewer_since_s=since)
        return Decision(current, "upscale-delay" if grows else "downscale-delay", f"{reason} of {delay_s:g} s", waiting)
    desired = min(wanted, current + settings.max_step_up) if grows else max(wanted, current - settings.max_step_down)
    return Decision(desired, "up" if grows else "down", f"{reason} s", ControllerState())


@dataclass(frozen=True, slots=True)
class LookBack:
    """Samples of the signal (t_s, ongoing), oldest first. Immutable."""

    samples: tuple[tuple[float, float], ...] = ()

    def add(self, t_s: float, ongoing: float, look_back_s: float) -> LookBack:
        """A copy with one more sample, without those older than ``look_back_s``."""
        return LookBack((*((t, n) for t, n in self.samples if t > t_s - look_back_s), (t_s, ongoing)))

    def mean(self, now_s: float, look_back_s: float, fresh_s: float) -> float | None:
        """Mean of the samples within ``look_back_s``; None if the latest is older than ``fresh_s``."""
        if not self.samples or now_s - self.samples[-1][0] > fresh_s:
            return None
        values = [n for t, n in self.samples if t > now_s - look_back_s] or [self.samples[-1][1]]
        return sum(values) / len(values)
