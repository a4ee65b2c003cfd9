"""Control loops in virtual time: what each autoscaler observes, how stale that is, and when it decides (by `policies`).

A loop's phase is drawn from the seed: at the step it may just have looked, or be about to.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from mlscale.environments import worker_controller
from mlscale_twin.engine import Engine
from mlscale_twin.policies import hpa, ray_serve, target_tracking
from mlscale_twin.replicas import Replica, Replicas
from mlscale_twin.timeline import Action, Timeline


@dataclass(frozen=True, slots=True)
class Scene:
    """What every loop works on: a component's replicas and the world around them. ``look_s``: a time at which the loop
    is known to look."""

    engine: Engine
    timeline: Timeline
    replicas: Replicas
    component: int
    rng: np.random.Generator
    look_s: float | None = None

    @property
    def now_s(self) -> float:
        return self.timeline.now_s

    @property
    def ongoing(self) -> int:
        return self.engine.ongoing(self.component)

    @property
    def serving(self) -> list[Replica]:
        """Replicas that receive requests."""
        return [each for each in self.replicas.there("ready") if each.place >= 0]

    def every(self, period_s: float, action: Action) -> None:
        """Repeats at a random phase."""
        self.timeline.every(period_s, self.now_s + float(self.rng.uniform(0, period_s)), action)

    def first_look_s(self, period_s: float) -> float:
        """First look of the deciding loop: the known time, else a drawn one."""
        drawn = float(self.rng.uniform(0, period_s))
        return self.now_s + (drawn if self.look_s is None else self.look_s % period_s)

    def scale(self, number: int, rule: str, reason: str) -> None:
        if number != self.replicas.desired:
            self.replicas.scale(number, {"rule": rule, "reason": reason})


class WorkerControllerLoop:
    """TorchServe's controller: samples every ``sample_interval_s``, decides every ``period_s`` on the mean of the
    look-back."""

    def __init__(
        self,
        scene: Scene,
        settings: worker_controller.ControllerSettings,
        *,
        sample_interval_s: float,
        period_s: float,
        look_back_s: float,
    ) -> None:
        self._scene, self._settings = scene, settings
        self._state, self._seen = worker_controller.ControllerState(), worker_controller.LookBack()
        self._look_back_s = look_back_s
        self._fresh_s = max(period_s, 2 * sample_interval_s)
        self._period_s = period_s
        self._due_s = scene.now_s + float(scene.rng.uniform(0, period_s))
        scene.timeline.every(sample_interval_s, self._due_s, self._look)

    def _look(self) -> None:
        """One tick of the live loop: look, then decide if due."""
        now_s = self._scene.now_s
        self._seen = self._seen.add(now_s, self._scene.ongoing, self._look_back_s)
        if now_s >= self._due_s - _EARLY_S:
            self._due_s += self._period_s
            self._decide()

    def _decide(self) -> None:
        now_s = self._scene.now_s
        ongoing = self._seen.mean(now_s, self._look_back_s, self._fresh_s)
        observation = worker_controller.WorkerObservation(now_s, ongoing, self._scene.replicas.desired)
        decision = worker_controller.decide(observation, self._settings, self._state)
        self._state = decision.state
        self._scene.scale(decision.desired, decision.rule, decision.reason)


_EARLY_S = 1e-6
# RAY_SERVE_AUTOSCALING_METRIC_RECORD_INTERVAL_FACTOR (ray/serve/_private/constants.py, 2.60).
RECORDED: Final = 0.2


class RayServeLoop:
    """Ray Serve's autoscaler: the router records at intervals of a fifth of the look-back and reports its records every
    ``metrics_interval_s`` (ray/serve/_private/router.py); the controller has them ``late_s`` later, and decides every
    ``period_s`` on the mean."""

    def __init__(
        self,
        scene: Scene,
        settings: ray_serve.RayServeSettings,
        *,
        metrics_interval_s: float,
        look_back_s: float,
        period_s: float,
        late_s: float,
    ) -> None:
        self._scene, self._settings, self._late_s = scene, settings, late_s
        self._state = ray_serve.RayServeState()
        record_s = min(look_back_s * RECORDED, metrics_interval_s)
        self._recorded: deque[int] = deque(maxlen=max(1, round(look_back_s / record_s)))
        self._known = 0.0
        scene.every(record_s, self._record)
        scene.every(metrics_interval_s, self._report)
        scene.every(period_s, self._decide)

    def _record(self) -> None:
        self._recorded.append(self._scene.ongoing)

    def _report(self) -> None:
        mean = sum(self._recorded) / len(self._recorded) if self._recorded else 0.0
        self._scene.timeline.after(self._late_s, lambda: self._learn(mean))

    def _learn(self, mean: float) -> None:
        self._known = mean

    def _decide(self) -> None:
        now_s, total = self._scene.now_s, self._known
        running = len(self._scene.replicas.there("ready"))
        observation = ray_serve.RayServeObservation(now_s, total, running, self._scene.replicas.desired)
        decision = ray_serve.decide(observation, self._settings, self._state)
        self._state = decision.state
        self._scene.scale(decision.desired, decision.rule, decision.reason)


class HpaLoop:
    """Kubernetes' HPA: looks every ``sync_s``. Metric: the mean of requests in flight over ``window_s``, or the CPU
    that metrics-server scraped last, every ``scrape_s``."""

    def __init__(
        self,
        scene: Scene,
        settings: hpa.HpaSettings,
        *,
        sync_s: float = 15.0,
        window_s: float = 1.6,
        scrape_s: float = 15.0,
        request_milli: int = 0,
    ) -> None:
        self._scene, self._settings = scene, settings
        self._state = hpa.History()
        self._request_milli = request_milli
        self._before: tuple[float, float] = (scene.now_s, 0.0)
        self._cpu: dict[str, tuple[float, float]] = {}
        self._metrics: dict[str, hpa.PodMetric] = {}
        first_s = scene.first_look_s(sync_s)
        scene.timeline.every(sync_s, first_s, self._decide)
        if any(spec.type == "External" for spec in settings.metrics):
            scene.timeline.every(sync_s, max(scene.now_s, first_s - window_s), self._remember)
        else:
            scene.every(scrape_s, self._scrape)

    def _remember(self) -> None:
        self._before = (self._scene.now_s, self._scene.engine.ongoing_integral(self._scene.component))

    def _scrape(self) -> None:
        """CPU of each pod since the last scrape; a pod that is new since then has no value yet."""
        now_s = self._scene.now_s
        used = {each.name: self._scene.engine.cpu_s(each.place) for each in self._scene.serving}
        for name, cpu_s in used.items():
            if name in self._cpu:
                before_s, before_cpu_s = self._cpu[name]
                milli = round(1000 * (cpu_s - before_cpu_s) / (now_s - before_s))
                self._metrics[name] = hpa.PodMetric(milli, now_s, now_s - before_s)
        self._cpu = {name: (now_s, cpu_s) for name, cpu_s in used.items()}
        self._metrics = {name: each for name, each in self._metrics.items() if name in used}

    def _decide(self) -> None:
        now_s, replicas = self._scene.now_s, self._scene.replicas
        living = replicas.there("waiting", "starting", "ready")
        readings = tuple(self._reading(spec) for spec in self._settings.metrics)
        pods = tuple(self._pod(each) for each in living)
        observation = hpa.Observation(now_s, replicas.desired, len(living), pods, readings)
        decision = hpa.decide(observation, self._settings, self._state)
        self._state = decision.state
        self._scene.scale(decision.desired, decision.scaling_active, decision.reason)

    def _reading(self, spec: hpa.MetricSpec) -> hpa.Reading:
        if spec.type != "External":
            return dict(self._metrics)
        before_s, before = self._before
        now_s = self._scene.now_s
        if now_s <= before_s:
            return (1000 * self._scene.ongoing,)
        integral = self._scene.engine.ongoing_integral(self._scene.component)
        return (round(1000 * (integral - before) / (now_s - before_s)),)

    def _pod(self, replica: Replica) -> hpa.Pod:
        ready = replica.state == "ready"
        since_s = replica.ready_s if ready else replica.asked_s
        condition = hpa.ReadyCondition("True" if ready else "False", since_s)
        phase: hpa.Phase = "Running" if replica.state in ("starting", "ready") else "Pending"
        containers = (hpa.Container("app", {"cpu": self._request_milli}),)
        started_s = replica.asked_s if phase == "Running" else None
        return hpa.Pod(replica.name, phase, False, started_s, condition, containers)


class TargetTrackingLoop:
    """Target tracking of an ECS service: one datapoint per ``settings.period_s``, available ``late_s`` after its end
    and evaluated then."""

    def __init__(
        self,
        scene: Scene,
        settings: target_tracking.TargetTrackingSettings,
        *,
        metric: Literal["cpu", "in_flight"],
        quota_cores: float,
        late_s: float,
    ) -> None:
        self._scene, self._settings, self._metric = scene, settings, metric
        self._quota_cores, self._late_s = quota_cores, late_s
        self._state = target_tracking.TrackingState()
        self._before: tuple[float, float, dict[str, float]] = (scene.now_s, 0.0, {})
        scene.every(settings.period_s, self._ended)

    def _ended(self) -> None:
        value = self._datapoint()
        self._scene.timeline.after(self._late_s, lambda: self._decide(value))

    def _datapoint(self) -> float | None:
        """Of the period that ends now: mean CPU in percent of the quota, or requests in flight, per task."""
        scene = self._scene
        serving = scene.serving
        used = {each.name: scene.engine.cpu_s(each.place) for each in serving}
        integral = scene.engine.ongoing_integral(scene.component)
        before_s, before_integral, before = self._before
        self._before = (scene.now_s, integral, used)
        width_s = scene.now_s - before_s
        if not serving or width_s <= 0:
            return None
        if self._metric == "in_flight":
            return (integral - before_integral) / width_s / len(serving)
        shares = [(cpu_s - before.get(name, 0.0)) / (width_s * self._quota_cores) for name, cpu_s in used.items()]
        return 100.0 * sum(shares) / len(shares)

    def _decide(self, value: float | None) -> None:
        observation = target_tracking.TrackedMetric(self._scene.now_s, value, self._scene.replicas.desired)
        decision = target_tracking.decide(observation, self._settings, self._state)
        self._state = decision.state
        self._scene.scale(decision.desired, decision.rule, decision.reason)
