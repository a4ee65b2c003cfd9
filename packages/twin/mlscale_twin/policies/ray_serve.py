"""Ray Serve's replica autoscaler: Ray's own decision, called in virtual time.

The decision itself is not reimplemented. Ray 2.60 exports the policy; its factors and its delays are private
functions that take the time, where the wrapper that Ray puts around a policy (``_apply_autoscaling_config``) reads the
wall clock. This adds the order in which that wrapper calls them, the bounds, and the reason in words.

Importing ray.serve costs seconds of CPU, so it happens at the first decision.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

Rule = Literal["up", "down", "on-target", "upscale-delay", "downscale-delay", "from-zero", "bounded"]
# Ray takes a delay as elapsed a little before it is (autoscaling_policy._DELAY_ELAPSED_EPS_S, 1e-6); at least that.
_ELAPSED_EARLY_S: Final = 1e-3


@dataclass(frozen=True, slots=True)
class RayServeSettings:
    """``autoscaling_config`` with Ray's names and defaults (ray.serve.config.AutoscalingConfig, 2.60)."""

    min_replicas: int = 1
    max_replicas: int = 1
    target_ongoing_requests: float = 2.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class RayServeObservation:
    """What the controller knows at ``t_s`` (any monotonic clock): requests queued and running, aggregated over the
    look-back; running replicas; desired replicas."""

    t_s: float
    total_requests: float
    running: int
    target: int


@dataclass(frozen=True, slots=True)
class RayServeState:
    """Ray's ``policy_state``: in which direction it wants to scale, and since when."""

    policy: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RayServeDecision:
    """``desired`` replicas from now on. ``wanted``: before delays and bounds. ``same_until_s``: if nothing that is
    observed changes, each decision before then is the same."""

    desired: int
    wanted: int
    rule: Rule
    reason: str
    state: RayServeState
    same_until_s: float = -math.inf


def decide(observation: RayServeObservation, settings: RayServeSettings, state: RayServeState) -> RayServeDecision:
    """One decision of the control loop, about every 0.1 s; the reason for every hold is given.

    Raises:
        ImportError: Ray is not installed.
    """
    from ray.serve import autoscaling_policy as ray_policy

    context = _context(observation, settings, state)
    low, high = settings.min_replicas, settings.max_replicas
    load = f"{observation.total_requests:.2f} ongoing at target {settings.target_ongoing_requests:g} per replica"
    raw, _ = ray_policy.replica_queue_length_autoscaling_policy(context)
    wanted = ray_policy._apply_scaling_factors(raw, observation.running, context.config)
    load = f"{load}, {observation.running} running, want {wanted}"
    if observation.running == 0 and wanted > 0:  # Ray skips the delays when it scales from zero
        return RayServeDecision(min(max(wanted, low), high), wanted, "from-zero", load, state)
    delayed, policy_state = ray_policy._apply_delay_logic(
        max(0, wanted), observation.target, context.config, dict(state.policy), observation.t_s
    )
    desired = min(max(delayed, low), high)
    held_s = _since(policy_state, observation.t_s)
    rule, reason = _explain(observation, settings, wanted, delayed, desired, held_s)
    down_s = settings.downscale_delay_s
    to_zero_s = settings.downscale_to_zero_delay_s
    if observation.target == 1 and wanted <= 0 and to_zero_s is not None:
        down_s = to_zero_s
    delays_s = {"upscale-delay": settings.upscale_delay_s, "downscale-delay": down_s}
    same_for_s = math.inf if rule == "on-target" else delays_s.get(rule, -math.inf) - held_s - _ELAPSED_EARLY_S
    same_until_s = observation.t_s + same_for_s
    return RayServeDecision(desired, wanted, rule, f"{load}{reason}", RayServeState(policy_state), same_until_s)


def _context(observation: RayServeObservation, settings: RayServeSettings, state: RayServeState) -> Any:
    from ray.serve._private.common import DeploymentID
    from ray.serve.config import AutoscalingContext

    return AutoscalingContext(
        deployment_id=DeploymentID(name="app"),
        deployment_name="app",
        app_name=None,
        current_num_replicas=observation.running,
        target_num_replicas=observation.target,
        running_replicas=[],
        total_num_requests=observation.total_requests,
        total_queued_requests=None,
        aggregated_metrics=None,
        raw_metrics=None,
        capacity_adjusted_min_replicas=settings.min_replicas,
        capacity_adjusted_max_replicas=settings.max_replicas,
        policy_state=dict(state.policy),
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=observation.t_s,
        config=_config(settings),
    )


@functools.lru_cache(maxsize=8)
def _config(settings: RayServeSettings) -> Any:
    """Ray's own config object, validated by Ray."""
    from ray.serve.config import AutoscalingConfig

    return AutoscalingConfig(**asdict(settings))


def _since(policy_state: Mapping[str, Any], now_s: float) -> float:
    from ray.serve._private import constants

    stamp = policy_state.get(constants.SERVE_AUTOSCALING_DECISION_TIMESTAMP_KEY)
    return 0.0 if stamp is None else now_s - stamp


def _explain(
    observation: RayServeObservation,
    settings: RayServeSettings,
    wanted: int,
    delayed: int,
    desired: int,
    held_s: float,
) -> tuple[Rule, str]:
    target = observation.target
    if desired != delayed:
        return "bounded", f", between {settings.min_replicas} and {settings.max_replicas} are set"
    if delayed > target:
        return "up", ""
    if delayed < target:
        return "down", ""
    if wanted > target:
        return "upscale-delay", f", more than {target} for {held_s:.2f} of {settings.upscale_delay_s:g} s"
    if wanted < target:
        return "downscale-delay", f", fewer than {target} for {held_s:.2f} of {settings.downscale_delay_s:g} s"
    return "on-target", f", there are {target}"
