"""The paper's claims about clouds, as far as the twin can speak to them: implied by which profiles, and which number
of theirs would turn the verdict (METHOD §8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale import environments
from mlscale.runs import Arm, ClosedLoop, OpenLoop
from mlscale_twin.durations import Number
from mlscale_twin.profile import Profile, number_at, read_profile, scaled
from mlscale_twin.simulate import boot_spread
from mlscale_twin.studies.simulated_figures import drawn_figures

Floats = npt.NDArray[np.float64]
Verdict = Literal["implied", "contradicted", "undecided"]
ARMS: Final[tuple[Arm, ...]] = ("matched", "shipped")
# Share of draws on one side from which on a profile implies a claim, or contradicts it.
SURE: Final = 0.95
# A number is moved by this factor at most, either way.
FARTHEST: Final = 16.0
STEPS: Final = 6


@dataclass(frozen=True)
class Side:
    """One of the two that a claim compares."""

    environment: str
    arm: Arm = "matched"
    scaling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def profile(self) -> Profile:
        """The environment's; for `eks` with the boot times that its settings name, so that they can be moved, too."""
        found = read_profile(self.environment)
        settings = environments.get(self.environment).arm(self.arm).model_dump() | dict(self.scaling)
        if found.machines is None or "boot" not in settings:
            return found
        machines = found.machines.model_copy(update={"boot": boot_spread(settings["boot"])})
        return found.model_copy(update={"machines": machines})


@dataclass(frozen=True)
class Claim:
    """``better`` has the smaller ``figure``, says the paper."""

    name: str
    says: str
    better: Side
    worse: Side
    figure: str


def paper_claims(arm: Arm = "matched", scaling: Mapping[str, Any] | None = None) -> list[Claim]:
    """F1 to F3 for the mean and the standard deviation (F2: the time until the response is good again); ``scaling``:
    settings that all sides have."""
    local = {name: Side(name, arm, scaling or {}) for name in ("torchserve", "k3s")}
    cloud = {name: Side(name, arm, scaling or {}) for name in ("ecs", "eks")}
    figures = {"mean": "mean_response_s", "spread": "sd_response_s"}
    found = [
        Claim(f"F1, {one} and {other}, {word}", f"{one} is faster or steadier than {other}", side, far, figure)
        for one, side in local.items()
        for other, far in cloud.items()
        for word, figure in figures.items()
    ]
    later = "waiting for machines makes the response later"
    found.append(Claim("F2, starting machines", later, local["k3s"], cloud["eks"], "t_slo_s"))
    found += [
        Claim(f"F3, {word}", "ECS is better than EKS", cloud["ecs"], cloud["eks"], figure)
        for word, figure in figures.items()
    ]
    return found


def gaps(
    claim: Claim,
    schedule: ClosedLoop | OpenLoop,
    level_s: float,
    draws: int,
) -> Floats:
    """log(worse / better) for each draw: above 0 where the paper is right. Both sides have the same clients."""
    better, worse = claim.better, claim.worse
    low = _logs(better, better.profile, schedule, level_s, draws, claim.figure)
    return _logs(worse, worse.profile, schedule, level_s, draws, claim.figure) - low


def _logs(
    side: Side, profile: Profile, schedule: ClosedLoop | OpenLoop, level_s: float, draws: int, figure: str
) -> Floats:
    """Of the figure, for each draw."""
    values = drawn_figures(profile, schedule, level_s, draws, figure, arm=side.arm, scaling=side.scaling)
    return np.asarray(np.log(np.maximum(values, 1e-3)), dtype=float)


def verdict_of(found: Floats) -> Verdict:
    """By the share of draws on either side."""
    share = float(np.mean(found > 0))
    return "implied" if share >= SURE else ("contradicted" if share <= 1 - SURE else "undecided")


def judged(claims: Sequence[Claim], schedule: ClosedLoop | OpenLoop, level_s: float, draws: int = 20) -> pd.DataFrame:
    """Each claim: the ratio worse / better (median, and where 90 % of draws lie), and what these profiles imply."""
    rows = []
    for claim in claims:
        found = gaps(claim, schedule, level_s, draws)
        low, middle, high = np.exp(np.quantile(found, [0.05, 0.5, 0.95]))
        rows.append(
            {
                "claim": claim.name,
                "figure": claim.figure,
                "ratio": float(middle),
                "low": float(low),
                "high": float(high),
                "verdict": verdict_of(found),
            }
        )
    return pd.DataFrame(rows)


# Of each profile, what is least sure or matters most.
NUMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "torchserve": ("requests.outside_s",),
    "k3s": ("requests.outside_s", "starts.steps.2.takes"),
    "ecs": (
        "requests.outside_s",
        "starts.steps.0.takes",
        "starts.noticed",
        "loop.metric_delay_60s",
        "loop.metric_delay_20s",
    ),
    "eks": ("requests.outside_s", "starts.steps.1.takes", "machines.boot", "machines.registers"),
}


def flips(claim: Claim, schedule: ClosedLoop | OpenLoop, level_s: float, draws: int = 6) -> pd.DataFrame:
    """For each number of both profiles: at which value the claim's median turns round, with the number's source; NaN
    where it does not within a factor of `FARTHEST`."""
    rows = []
    sides = {"better": claim.better, "worse": claim.worse}
    logs = {role: _logs(side, side.profile, schedule, level_s, draws, claim.figure) for role, side in sides.items()}
    start = float(np.median(logs["worse"] - logs["better"]))
    for role, side in sides.items():

        def turned(path: str, factor: float, role: str = role, side: Side = side) -> bool:
            moved = _logs(side, scaled(side.profile, path, factor), schedule, level_s, draws, claim.figure)
            gap = moved - logs["better"] if role == "worse" else logs["worse"] - moved
            return bool(np.median(gap) * start < 0)

        for path in NUMBERS.get(side.environment, ()):
            found = number_at(side.profile, path)
            value = found.value if isinstance(found, Number) else found.quantile(0.5)
            factor = _flip(partial(turned, path))
            rows.append(
                {
                    "profile": side.environment,
                    "number": path,
                    "value": value,
                    "flips_at": value * factor,
                    "factor": factor,
                    "source": found.source,
                    "date": found.date,
                }
            )
    return pd.DataFrame(rows)


def _flip(turned: Callable[[float], bool]) -> float:
    """The factor from which on the sign is turned, by bisection on its logarithm; NaN where the farthest leaves it."""
    for farthest in (FARTHEST, 1 / FARTHEST):
        if not turned(farthest):
            continue
        near, far = 0.0, float(np.log(farthest))
        for _ in range(STEPS):
            middle = (near + far) / 2
            near, far = (near, middle) if turned(float(np.exp(middle))) else (middle, far)
        return float(np.exp(far))
    return float("nan")


def judge_all(
    schedule: ClosedLoop | OpenLoop,
    level_s: float,
    *,
    draws: int = 20,
    scaling: Mapping[str, Any] | None = None,
    say: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """The record: claims under both arms with their verdicts, and what would turn each, as data; ``scaling``: settings
    that all sides have."""
    arms: dict[str, Any] = {}
    for arm in ARMS:
        claims = paper_claims(arm, scaling)
        table = judged(claims, schedule, level_s, draws)
        turns = {}
        for place, claim in enumerate(claims):
            if say is not None:
                say(f"{arm}: what turns {claim.name}", place / len(claims))
            turns[claim.name] = flips(claim, schedule, level_s, max(2, draws // 4)).to_dict("records")
        arms[arm] = {"verdicts": table.to_dict("records"), "flips": turns}
    return {"draws": draws, "level_s": level_s, "schedule": schedule.model_dump(mode="json"), "arms": arms}
