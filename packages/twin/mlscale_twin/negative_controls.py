"""Deliberately wrong twins (METHOD §8): a comparison that accepts them would accept anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlscale_twin.durations import Number, scale_duration
from mlscale_twin.profile import Profile, StartStep

Scaling = dict[str, Any]
Altered = tuple[Profile, Scaling]
# Share of resamples in which a wrong twin has to be found different.
NOTICED_SHARE: Final = 0.8


@dataclass(frozen=True, slots=True)
class Control:
    """``alter``: turns the profile and one component's settings into wrong ones. ``figures``: those of
    `mlscale_twin.likeness` that depend on what it gets wrong, and are not claimed if it goes unnoticed."""

    name: str
    alter: Callable[[Profile, Mapping[str, Any]], Altered]
    figures: tuple[str, ...]


def _slow_service(profile: Profile, scaling: Mapping[str, Any]) -> Altered:
    work = {
        name: work.model_copy(update={"mean_s": work.mean_s.model_copy(update={"value": work.mean_s.value * 1.15})})
        for name, work in profile.work.items()
    }
    return profile.model_copy(update={"work": work}), dict(scaling)


def _slow_start(profile: Profile, scaling: Mapping[str, Any]) -> Altered:
    def slowed(step: StartStep) -> StartStep:
        return step.model_copy(update={"takes": scale_duration(step.takes, 1.5)})

    steps = tuple(slowed(step) for step in profile.starts.steps)
    return profile.model_copy(update={"starts": profile.starts.model_copy(update={"steps": steps})}), dict(scaling)


def _wrong_routing(profile: Profile, scaling: Mapping[str, Any]) -> Altered:
    other = "random" if profile.requests.routing == "shared-queue" else "shared-queue"
    return profile.model_copy(update={"requests": profile.requests.model_copy(update={"routing": other})}), dict(
        scaling
    )


def _no_periods(profile: Profile, scaling: Mapping[str, Any]) -> Altered:
    return profile, {**scaling, "cpu_period_s": 0.001}


def _no_lag(profile: Profile, scaling: Mapping[str, Any]) -> Altered:
    """The autoscaler sees the current state at all times."""
    no_delay = {"sync_period_s": 1.0, "metric_resolution_s": 1.0, "report_delay_s": 0.0}
    no_delay |= {"metric_delay_60s": 0.0, "metric_delay_20s": 0.0}
    loop: dict[str, Number] = {
        name: number.model_copy(update={"value": no_delay.get(name, number.value)})
        for name, number in profile.loop.items()
    }
    short_periods = {"metric_window_s": 0.5, "look_back_s": 0.05, "sample_interval_s": 0.05, "period_s": 0.05}
    short_periods |= {"metrics_interval_s": 0.05, "look_back_period_s": 0.1, "upscale_delay_s": 0.0}
    changed = {name: value for name, value in short_periods.items() if name in scaling}
    return profile.model_copy(update={"loop": loop}), {**scaling, **changed}


_RESPONSES: Final = ("mean_response_s", "sd_response_s", "p95_response_s")
CONTROLS: Final = (
    Control("service x 1.15", _slow_service, (*_RESPONSES, "light_response_s", "service_s")),
    Control("start-up x 1.5", _slow_start, ("ready_first_s", "ready_last_s", "t_slo_s")),
    Control("wrong routing", _wrong_routing, ("overlooked_share",)),
    Control("no CFS periods", _no_periods, ("light_response_s", "sd_response_s")),
    Control("no metric lag", _no_lag, ("detection_s",)),
)
