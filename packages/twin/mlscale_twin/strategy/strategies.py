"""The strategies that a search tries: an environment's settings on grids that reach as far as the traffic needs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from mlscale import environments
from mlscale.cost import paid_by
from mlscale.environments.base import Scaling
from mlscale.environments.machine_types import RESERVED_CORES, catalogue
from mlscale.errors import MlscaleError
from mlscale_twin.profile import Profile
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.minimums import Minimums, minimums

Policy = Literal["fixed", "reactive", "scheduled", "predictive"]
# The simplest first.
POLICIES: Final[Sequence[Policy]] = ("fixed", "reactive", "scheduled", "predictive")
# Where a strategy runs: the user's own machines, shared with other work or dedicated, or a cloud.
Place = Literal["local-shared", "local-dedicated", "cloud"]
# The types of machines that EKS may add: the smallest with room for a replica, and at most so many. (Auto Mode, the
# default, starts none of one core.)
MACHINES: Final = ("c7i.large", "c7i.xlarge")
_MOST_MACHINES: Final = 60
# The most replicas that `Scaling` allows.
MOST_REPLICAS: Final = 64
_TARGETS: Final = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
_PERCENT: Final = (30, 40, 50, 60, 70, 80)
_DELAYS: Final[Mapping[str, Sequence[Any]]] = {
    "upscale_delay_s": (0.0, 1.0, 5.0, 15.0, 30.0),
    "downscale_delay_s": (30.0, 60.0, 120.0, 300.0, 600.0),
}
_HPA: Final[Sequence[Mapping[str, Sequence[Any]]]] = (
    {"metric": ("in_flight",), "target_in_flight": _TARGETS, "downscale_stabilisation_s": (30, 60, 120, 300, 600)},
    {"metric": ("cpu",), "target_cpu_percent": _PERCENT, "downscale_stabilisation_s": (60, 120, 300, 600)},
)
# What is varied over the arm "matched", besides the numbers of replicas.
GRIDS: Final[Mapping[str, Sequence[Mapping[str, Sequence[Any]]]]] = {
    "torchserve": ({"target_ongoing": _TARGETS, **_DELAYS},),
    "rayserve": ({"target_ongoing_requests": _TARGETS, **_DELAYS},),
    "k3s": _HPA,
    "keda": _HPA[:1],
    "eks": tuple({**grid, "buffer_replicas": (0, 1, 2, 4)} for grid in _HPA),
    "ecs": (
        {
            "metric": ("cpu",),
            "target": tuple(map(float, _PERCENT)),
            "metric_period_s": (20, 60),
            "out_cooldown_s": (0.0, 60.0, 300.0),
            "in_cooldown_s": (30.0, 120.0, 300.0),
        },
    ),
}
# The same where nothing runs while nobody asks: one in so many of all that are tried.
_TO_ZERO_SHARE: Final = 8
_COOLDOWNS_S: Final = (60, 300, 900)
_KEDA: Final[Mapping[str, Sequence[Any]]] = {
    "metric": ("in_flight",),
    "target_in_flight": (1.0, 2.0, 3.0),
    "downscale_stabilisation_s": (30, 300),
    "cooldown_s": _COOLDOWNS_S,
}
_TO_ZERO: Final[Mapping[str, Mapping[str, Sequence[Any]]]] = {
    "rayserve": {
        "target_ongoing_requests": (1.0, 2.0, 3.0),
        "downscale_delay_s": (30.0, 300.0),
        "downscale_to_zero_delay_s": tuple(map(float, _COOLDOWNS_S)),
    },
    "keda": _KEDA,
    "eks": _KEDA,
}
# Of machines on EKS: how long one has been dispensable when Karpenter removes it.
_CONSOLIDATE_AFTER_S: Final = 60
# Minimums over the trace, and over a day after it.
_Least = tuple[Minimums, Minimums]
# Policy, settings, least and most replicas, minimums.
_Tried = tuple[Policy, Mapping[str, Any], int, int, _Least]


@dataclass(frozen=True)
class Strategy:
    """``scaling``: every setting of the environment; ``minimums``: from when of the trace on, s, there are at least how
    many replicas; ``next_minimums``: the same of a day after it, from the time of day at which the trace begins."""

    environment: str
    policy: Policy
    scaling: Mapping[str, Any]
    minimums: Minimums = ()
    next_minimums: Minimums = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """Where it can run."""
        local = paid_by(self.environment, self.scaling) == "own machines"
        return ("local-shared", "local-dedicated") if local else ("cloud",)

    @property
    def most_replicas(self) -> int:
        return int(self.scaling["max_replicas"])

    @property
    def is_constant(self) -> bool:
        """Whether the number of replicas never changes."""
        return int(self.scaling["min_replicas"]) == self.most_replicas

    @property
    def sleeps_after_s(self) -> float:
        """For how long nobody asks before nothing runs, s; infinite: one replica always does."""
        if self.scaling["min_replicas"] > 0:
            return math.inf
        names = ("cooldown_s", "downscale_to_zero_delay_s", "downscale_delay_s")  # Serve's last two in this order
        return next(float(self.scaling[name]) for name in names if self.scaling.get(name) is not None)

    def least(self, from_s: float, to_s: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Replicas at least between two times of the trace, one number after the other, and how long each holds, s."""
        edges = np.clip([-math.inf, *(at_s for at_s, _ in self.minimums), math.inf], from_s, to_s)
        numbers = np.maximum(int(self.scaling["min_replicas"]), [0, *(number for _, number in self.minimums)])
        seconds = np.diff(edges)
        return numbers[seconds > 0], seconds[seconds > 0]

    def constant(self, replicas: int) -> Strategy:
        """The same with so many replicas all the time."""
        scaling = {**self.scaling, "min_replicas": replicas, "max_replicas": replicas}
        return Strategy(self.environment, "fixed", scaling)

    def one_less(self) -> Strategy | None:
        """The same with one replica less at most; None where it is one."""
        most = self.most_replicas - 1
        if most < 1:
            return None
        scaling = {**self.scaling, "max_replicas": most, "min_replicas": min(self.scaling["min_replicas"], most)}
        over_time, next_day = (
            tuple((from_s, min(number, most)) for from_s, number in each)
            for each in (self.minimums, self.next_minimums)
        )
        return Strategy(self.environment, self.policy, scaling, over_time, next_day)

    @property
    def name(self) -> str:
        """Such as "k3s, reactive, 1 to 6 replicas"."""
        low, high = self.scaling["min_replicas"], self.scaling["max_replicas"]
        number = f"{low} to {high}" if low != high else f"{low}"
        return f"{self.environment}, {self.policy}, {number} replica{'' if number == '1' else 's'}"


def busy_s(profile: Profile, cores: float) -> float:
    """Time for which a request keeps a replica of so many cores busy, s: a replica has one thread."""
    work = next(iter(profile.work.values()))
    return work.mean_s.value / min(cores, 1.0) + work.waits_s


def strategies(
    names: Sequence[str],
    profiles: Mapping[str, Profile],
    demand: Demand,
    number: int,
    *,
    sizes: Mapping[str, Any],
    most_replicas: int = MOST_REPLICAS,
    seed: int = 0,
) -> list[Strategy]:
    """About ``number`` different strategies, evenly over the environments: the arms "shipped" and "matched", every
    constant number of replicas that may do, and a random sample of the grids, with and without a minimum that changes
    (`mlscale_twin.strategy.minimums`). A larger ``number`` adds to those of a smaller.

    Args:
        sizes: of a replica, such as {"cpu_cores": 0.3}, as far as an environment has them. most_replicas: that there is
            room for.

    Raises:
        MlscaleError: an unknown environment, or one that has no replicas of these sizes, or too few for the traffic.
    """
    share = number // len(names)
    return [
        each
        for name in names
        for each in _of_environment(
            name, profiles[name], demand, share, sizes, most_replicas, np.random.default_rng(seed)
        )
    ]


def _of_environment(
    name: str,
    profile: Profile,
    demand: Demand,
    number: int,
    sizes: Mapping[str, Any],
    most_replicas: int,
    rng: np.random.Generator,
) -> list[Strategy]:
    environment = environments.get(name)
    own = own_settings(name, sizes)
    matched = environment.arm("matched").model_copy(update=own)
    request_s = busy_s(profile, own.get("cpu_cores", matched.cpu_cores))
    # Replicas that the busiest minute, and the mean rate, keep busy.
    most_busy, usually_busy = (rate * request_s for rate in (demand.busiest_rps(), demand.mean_rps))
    if most_busy > MOST_REPLICAS:
        what = f"the busiest minute keeps {most_busy:.0f} replicas busy, at most {MOST_REPLICAS} can be set"
        raise MlscaleError(
            what, f"{name}, {own.get('cpu_cores', matched.cpu_cores):g} cores each", "give --set cpu_cores more"
        )
    clipped = partial(_clipped, most=most_replicas)
    highest = sorted({clipped(most_busy * factor) for factor in (0.8, 1.0, 1.25, 1.5, 2.0)})
    lowest = sorted({1, *(clipped(usually_busy * factor) for factor in (0.5, 1.0, 1.5))})
    # Nothing changes the worker controller's minimum while it runs.
    changing = [] if name == "torchserve" else minimums(demand, profile, matched.model_dump(), request_s, most_replicas)

    def strategy(
        policy: Policy, base: Scaling, settings: Mapping[str, Any], low: int, high: int, least: _Least = ((), ())
    ) -> Strategy:
        scaling = filled(base, {**own, **settings, "min_replicas": low, "max_replicas": max(low, high)})
        over_time, next_day = (
            tuple((from_s, min(number, scaling["max_replicas"])) for from_s, number in each) for each in least
        )
        return Strategy(name, policy, scaling, over_time, next_day)

    chosen = [strategy("reactive", environment.arm(arm), {}, 1, highest[-1]) for arm in ("shipped", "matched")]
    most = clipped(2 * highest[-1])
    constant = range(clipped(usually_busy), most + 1)
    chosen += [strategy("fixed", matched, {}, replicas, replicas) for replicas in constant]
    combinations = [combination for grid in GRIDS[name] for combination in _combinations(grid)]
    floors: list[tuple[Policy, int, _Least]] = [("reactive", low, ((), ())) for low in lowest]
    floors += [(policy, 1, least) for policy, least in changing]
    every: list[_Tried] = [
        (policy, settings, low, high, least)
        for settings in combinations
        for policy, low, least in floors
        for high in highest
        if low < high  # else it is fixed
    ]
    asleep: list[_Tried] = [
        ("reactive", settings, 0, high, ((), ()))
        for settings in (_combinations(_TO_ZERO[name]) if name in _TO_ZERO else ())
        for high in highest
    ]
    for tried, count in ((every, number - len(chosen)), (asleep, number // _TO_ZERO_SHARE)):
        for place in rng.permutation(len(tried))[: max(0, count)]:
            policy, settings, low, high, least = tried[place]
            chosen.append(strategy(policy, matched, settings, low, high, least))
    if asleep:  # what never gets to rest is the same with a replica that always runs
        rest_s = demand.longest_rest_s()
        chosen = [each for each in chosen if not rest_s <= each.sleeps_after_s < math.inf]
    return list({repr(each): each for each in chosen}.values())


def own_settings(name: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """An environment's settings for replicas of these ``sizes``, and for the machines under them.

    Raises:
        MlscaleError: an unknown environment, or one that has no machine with room for a replica.
    """
    settings = environments.get(name).settings
    own = settings.sized({key: sizes[key] for key in sizes if key in settings.model_fields})
    if name == "eks":
        own |= {"machine_types": (_machine(own["cpu_cores"]),), "consolidate_after_s": _CONSOLIDATE_AFTER_S}
    return own


def filled(base: Scaling, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting: ``base`` with ``changes``. Unless those limit machines, there may be as many as replicas: some
    might never start else.

    Raises:
        ValidationError: an unknown setting, or a value that the environment refuses.
    """
    scaling = type(base).model_validate({**base.model_dump(), **changes}).model_dump()
    if "max_machines" in scaling and "max_machines" not in changes:
        room = scaling["max_replicas"] + scaling["buffer_replicas"]
        scaling["max_machines"] = min(max(scaling["max_machines"], room), _MOST_MACHINES)
    return scaling


def _machine(cores: float) -> str:
    """The smallest of `MACHINES` with room for a replica."""
    types = catalogue().types
    fits = [name for name in MACHINES if cores <= types[name].cpu_cores - RESERVED_CORES + 1e-9]
    if not fits:
        what = f"no machine type of eks has room for {cores:g} cores"
        raise MlscaleError(what, "--set cpu_cores", "give less, or --environments without eks")
    return fits[0]


def _clipped(replicas: float, most: int) -> int:
    """Whole replicas, at least one."""
    return min(max(1, math.ceil(replicas)), most)


def _combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
