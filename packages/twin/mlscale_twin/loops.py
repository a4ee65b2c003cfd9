"""Control loops in virtual time: what each autoscaler observes, with what delay, and when it decides (by `policies`).

A loop's phase is drawn from the seed: at the step it may just have decided, or be about to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from mlscale.environments import worker_controller
from mlscale_twin.engine import Engine
from mlscale_twin.policies import hpa, keda, ray_serve, target_tracking
from mlscale_twin.replicas import Replica, Replicas
from mlscale_twin.timeline import Action, Timeline


@dataclass(frozen=True, slots=True)
class LoopContext:
    """What a loop works on: a component's replicas and the world around them. ``hpa_sync_at_s``: a known time at which
    the HPA decides."""

    timeline: Timeline
    replicas: Replicas
    component: int
    rng: np.random.Generator
    hpa_sync_at_s: float | None = None

    @property
    def engine(self) -> Engine:
        return self.timeline.engine

    @property
    def now_s(self) -> float:
        return self.timeline.now_s

    @property
    def ongoing(self) -> int:
        return self.engine.ongoing(self.component)

    @property
    def serving(self) -> list[Replica]:
        """Replicas that receive requests."""
        return [replica for replica in self.replicas.in_state("ready") if replica.slot >= 0]

    def every(self, period_s: float, action: Action) -> None:
        """Repeats at a random phase."""
        self.timeline.every(period_s, self.now_s + float(self.rng.uniform(0, period_s)), action)

    def first_sync_s(self, period_s: float) -> float:
        """Time of the HPA's first decision: from the known one, else drawn."""
        drawn = float(self.rng.uniform(0, period_s))
        return self.now_s + (drawn if self.hpa_sync_at_s is None else self.hpa_sync_at_s % period_s)

    def scale(self, number: int, rule: str, reason: str) -> None:
        wanted = max(number, self.replicas.scheduled_min)
        if wanted != self.replicas.desired:
            self.replicas.scale(wanted, {"rule": rule, "reason": reason})


class WorkerControllerLoop:
    """TorchServe's controller: samples every ``sample_interval_s``, decides every ``period_s`` on the mean of the
    look-back."""

    def __init__(
        self,
        context: LoopContext,
        settings: worker_controller.ControllerSettings,
        *,
        sample_interval_s: float,
        period_s: float,
        look_back_s: float,
    ) -> None:
        self._context, self._settings = context, settings
        self._state = worker_controller.ControllerState()
        self._look_back_s, self._interval_s = look_back_s, sample_interval_s
        self._fresh_s = max(period_s, 2 * sample_interval_s)
        self._period_s = period_s
        self._first_s = self._due_s = context.now_s + float(context.rng.uniform(0, period_s))
        self._tick, self._kept = -1, max(1, math.ceil(look_back_s / sample_interval_s + 1))
        context.engine.sample_ongoing(self._first_s, sample_interval_s, self._kept, context.component)
        self._await_due()

    def _await_due(self) -> None:
        """The live loop ticks at every sample, and decides at the first tick at which that is due."""
        ticks = math.ceil((self._due_s - _TOLERANCE_S - self._first_s) / self._interval_s)
        self._tick = max(self._tick + 1, ticks)
        self._context.timeline.at(self._first_s + self._tick * self._interval_s, self._decide)

    def _decide(self) -> None:
        now_s = self._context.now_s
        self._due_s += self._period_s
        samples = self._context.engine.last_samples(self._kept, self._context.component)
        ongoing = worker_controller.LookBack(tuple(samples)).mean(now_s, self._look_back_s, self._fresh_s)
        observation = worker_controller.WorkerObservation(now_s, ongoing, self._context.replicas.desired)
        decision = worker_controller.decide(observation, self._settings, self._state)
        self._state = decision.state
        self._context.scale(decision.desired, decision.rule, decision.reason)
        self._await_due()


_TOLERANCE_S = 1e-6
# RAY_SERVE_AUTOSCALING_METRIC_RECORD_INTERVAL_FACTOR (ray/serve/_private/constants.py, 2.60).
RECORD_INTERVAL_FACTOR: Final = 0.2


class RayServeLoop:
    """Ray Serve's autoscaler: the router records at intervals of a fifth of the look-back and reports its records every
    ``metrics_interval_s`` (ray/serve/_private/router.py); the controller has them ``delay_s`` later, and decides every
    ``period_s`` on the mean."""

    def __init__(
        self,
        context: LoopContext,
        settings: ray_serve.RayServeSettings,
        *,
        metrics_interval_s: float,
        look_back_s: float,
        period_s: float,
        delay_s: float,
    ) -> None:
        self._context, self._settings, self._delay_s = context, settings, delay_s
        self._state = ray_serve.RayServeState()
        record_s = min(look_back_s * RECORD_INTERVAL_FACTOR, metrics_interval_s)
        self._kept = max(1, round(look_back_s / record_s))
        self._reported = 0.0
        first_s = context.now_s + float(context.rng.uniform(0, record_s))
        context.engine.sample_ongoing(first_s, record_s, self._kept, context.component)
        context.every(metrics_interval_s, self._report)
        self._period_s, self._next, self._decided = period_s, 0, -1
        self._first_s = context.now_s + float(context.rng.uniform(0, period_s))
        context.replicas.on_change = self._wake
        self._await(0)

    def _report(self) -> None:
        recorded = [ongoing for _, ongoing in self._context.engine.last_samples(self._kept, self._context.component)]
        mean = sum(recorded) / len(recorded) if recorded else 0.0
        self._context.timeline.after(self._delay_s, lambda: self._receive(mean))

    def _receive(self, mean: float) -> None:
        if mean != self._reported:
            self._reported = mean
            self._wake()

    def _wake(self) -> None:
        """Something observed has changed: the next decision is not the last one again."""
        number = max(self._decided + 1, self._number_at(self._context.now_s))
        if number < self._next:
            self._await(number)

    def _number_at(self, t_s: float) -> int:
        """The number of the first decision at ``t_s`` or later."""
        if math.isinf(t_s):
            return _NEVER if t_s > 0 else 0
        return max(0, math.ceil((t_s - self._first_s) / self._period_s - _TOLERANCE_S))

    def _await(self, number: int) -> None:
        self._next = number
        self._context.timeline.at(self._first_s + number * self._period_s, lambda: self._decide(number))

    def _decide(self, number: int) -> None:
        if number != self._next:
            return  # an earlier one came in between
        self._decided = number
        now_s, replicas = self._context.now_s, self._context.replicas
        observed = (self._reported, len(replicas.in_state("ready")), replicas.desired)
        decision = ray_serve.decide(ray_serve.RayServeObservation(now_s, *observed), self._settings, self._state)
        self._state = decision.state
        self._next = max(self._number_at(decision.same_until_s), number + 1)
        if self._next < _NEVER:
            self._await(self._next)
        self._context.scale(decision.desired, decision.rule, decision.reason)


# The number of a decision that is not made unless something changes.
_NEVER: Final = 2**62


class HpaLoop:
    """Kubernetes' HPA: looks every ``sync_s``. Metric: the mean of requests in flight over ``window_s`` (0: those in
    flight now), or the CPU that was scraped last, every ``scrape_s``, and is known ``delay_s`` later."""

    def __init__(
        self,
        context: LoopContext,
        settings: hpa.HpaSettings,
        *,
        sync_s: float = 15.0,
        window_s: float = 1.6,
        scrape_s: float = 15.0,
        delay_s: float = 0.0,
    ) -> None:
        self._context, self._settings = context, settings
        self._state = hpa.History()
        self._delay_s, self._window_s = delay_s, window_s
        self._before: tuple[float, float] = (context.now_s, 0.0)
        self._cpu: dict[str, tuple[float, float]] = {}
        self._metrics: dict[str, hpa.PodMetric] = {}
        first_s = context.first_sync_s(sync_s)
        context.timeline.every(sync_s, first_s, self._decide)
        if settings.metric == "external" and window_s > 0:
            context.timeline.every(sync_s, max(context.now_s, first_s - window_s), self._open_window)
        elif settings.metric == "cpu":
            context.every(scrape_s, self._scrape)

    def _open_window(self) -> None:
        self._before = (self._context.now_s, self._context.engine.ongoing_integral(self._context.component))

    def _scrape(self) -> None:
        """CPU of each pod since the last scrape; a pod that is new since then has no value yet."""
        now_s = self._context.now_s
        used = {replica.name: self._context.engine.cpu_s(replica.slot) for replica in self._context.serving}
        metrics = {}
        for name, cpu_s in used.items():
            if name in self._cpu:
                before_s, before_cpu_s = self._cpu[name]
                milli = round(1000 * (cpu_s - before_cpu_s) / (now_s - before_s))
                metrics[name] = hpa.PodMetric(milli, now_s, now_s - before_s)
        self._cpu = {name: (now_s, cpu_s) for name, cpu_s in used.items()}
        self._context.timeline.after(self._delay_s, lambda: self._receive(metrics))

    def _receive(self, metrics: dict[str, hpa.PodMetric]) -> None:
        self._metrics = metrics

    def _decide(self) -> None:
        now_s, replicas = self._context.now_s, self._context.replicas
        if replicas.desired == 0:
            return  # the HPA leaves a Deployment without replicas alone
        active = replicas.in_state("waiting", "starting", "ready")
        pods = tuple(_pod(replica) for replica in active)
        observation = hpa.Observation(now_s, replicas.desired, len(active), pods, self._reading())
        decision = hpa.decide(observation, self._settings, self._state)
        self._state = decision.state
        self._context.scale(decision.desired, decision.scaling_active, decision.reason)

    def _reading(self) -> dict[str, hpa.PodMetric] | int:
        if self._settings.metric == "cpu":
            present = {replica.name for replica in self._context.serving}
            return {name: metric for name, metric in self._metrics.items() if name in present}
        before_s, before = self._before
        now_s = self._context.now_s
        if now_s <= before_s or not self._window_s:
            return 1000 * self._context.ongoing
        integral = self._context.engine.ongoing_integral(self._context.component)
        return round(1000 * (integral - before) / (now_s - before_s))


class KedaLoop:
    """KEDA beside its HPA, with the HTTP add-on's interceptor: it looks every ``polling_interval_s``, and whenever the
    add-on, which asks for the interceptor's requests every `keda.PING_S`, reports one."""

    def __init__(self, context: LoopContext, *, polling_interval_s: float, cooldown_s: float) -> None:
        self._context, self._cooldown_s = context, cooldown_s
        self._state = keda.KedaState()
        self._active = False
        context.every(keda.PING_S, self._ping)
        context.every(polling_interval_s, self._look)

    def _ping(self) -> None:
        self._active = self._context.ongoing > 0
        if self._active:
            self._look()

    def _look(self) -> None:
        now_s, replicas = self._context.now_s, self._context.replicas.desired
        wanted, self._state = keda.look(now_s, self._active, replicas, self._cooldown_s, self._state)
        self._context.scale(wanted, "zero" if wanted == 0 else "from-zero", "KEDA's interceptor")


def _pod(replica: Replica) -> hpa.Pod:
    ready, running = replica.state == "ready", replica.state in ("starting", "ready")
    changed_s = replica.ready_s if ready else replica.requested_s
    return hpa.Pod(replica.name, running, replica.requested_s if running else None, ready, changed_s)


class TargetTrackingLoop:
    """Target tracking of an ECS service: one datapoint per ``settings.period_s``, available ``delay_s`` after its end
    and evaluated then."""

    def __init__(
        self,
        context: LoopContext,
        settings: target_tracking.TargetTrackingSettings,
        *,
        metric: Literal["cpu", "in_flight"],
        quota_cores: float,
        delay_s: float,
    ) -> None:
        self._context, self._settings, self._metric = context, settings, metric
        self._quota_cores, self._delay_s = quota_cores, delay_s
        self._state = target_tracking.TrackingState()
        self._before: tuple[float, float, dict[str, float]] = (context.now_s, 0.0, {})
        context.every(settings.period_s, self._end_period)

    def _end_period(self) -> None:
        value = self._datapoint()
        self._context.timeline.after(self._delay_s, lambda: self._decide(value))

    def _datapoint(self) -> float | None:
        """Of the period that ends now: mean CPU in percent of the quota, or requests in flight, per task."""
        context = self._context
        serving = context.serving
        used = {replica.name: context.engine.cpu_s(replica.slot) for replica in serving}
        integral = context.engine.ongoing_integral(context.component)
        before_s, before_integral, before = self._before
        self._before = (context.now_s, integral, used)
        width_s = context.now_s - before_s
        if not serving or width_s <= 0:
            return None
        if self._metric == "in_flight":
            return (integral - before_integral) / width_s / len(serving)
        shares = [(cpu_s - before.get(name, 0.0)) / (width_s * self._quota_cores) for name, cpu_s in used.items()]
        return 100.0 * sum(shares) / len(shares)

    def _decide(self, value: float | None) -> None:
        observation = target_tracking.TrackedMetric(self._context.now_s, value, self._context.replicas.desired)
        decision = target_tracking.decide(observation, self._settings, self._state)
        self._state = decision.state
        self._context.scale(decision.desired, decision.rule, decision.reason)
