"""The paper's claims about clouds, judged by the twin: whether its profiles imply them, and which of their numbers
would reverse the verdict (METHOD §8)."""

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
from mlscale_twin.profile import Profile, number_at, read_profile, with_scaled_number
from mlscale_twin.simulate import boot_duration
from mlscale_twin.studies.simulated_figures import figure_by_draw

Floats = npt.NDArray[np.float64]
Verdict = Literal["implied", "contradicted", "undecided"]
ARMS: Final[tuple[Arm, ...]] = ("matched", "shipped")
# Share of draws on one side from which on the profiles imply a claim, or contradict it.
DECISIVE_SHARE: Final = 0.95
# Largest factor by which a number is changed, either way.
MAX_FACTOR: Final = 16.0
BISECTIONS: Final = 6


@dataclass(frozen=True)
class Side:
    """One of the two sides that a claim compares."""

    environment: str
    arm: Arm = "matched"
    scaling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def profile(self) -> Profile:
        """The environment's; for `eks` with the boot times named by its settings, so that they can be changed, too."""
        profile = read_profile(self.environment)
        settings = environments.get(self.environment).arm(self.arm).model_dump() | dict(self.scaling)
        if profile.machines is None or "boot" not in settings:
            return profile
        machines = profile.machines.model_copy(update={"boot": boot_duration(settings["boot"])})
        return profile.model_copy(update={"machines": machines})


@dataclass(frozen=True)
class Claim:
    """The paper's claim that ``better`` has the smaller ``figure``."""

    name: str
    says: str
    better: Side
    worse: Side
    figure: str


def paper_claims(arm: Arm = "matched", scaling: Mapping[str, Any] | None = None) -> list[Claim]:
    """F1 to F3 for the mean and the standard deviation (F2: the time until the response recovers). ``scaling``: for all
    sides."""
    local = {name: Side(name, arm, scaling or {}) for name in ("torchserve", "k3s")}
    cloud = {name: Side(name, arm, scaling or {}) for name in ("ecs", "eks")}
    figures = {"mean": "mean_response_s", "spread": "sd_response_s"}
    claims = [
        Claim(
            f"F1, {local_name} and {cloud_name}, {word}",
            f"{local_name} is faster or steadier than {cloud_name}",
            local_side,
            cloud_side,
            figure,
        )
        for local_name, local_side in local.items()
        for cloud_name, cloud_side in cloud.items()
        for word, figure in figures.items()
    ]
    later = "waiting for machines makes the response later"
    claims.append(Claim("F2, starting machines", later, local["k3s"], cloud["eks"], "t_slo_s"))
    claims += [
        Claim(f"F3, {word}", "ECS is better than EKS", cloud["ecs"], cloud["eks"], figure)
        for word, figure in figures.items()
    ]
    return claims


def log_ratios(
    claim: Claim,
    schedule: ClosedLoop | OpenLoop,
    level_s: float,
    draws: int,
) -> Floats:
    """log(worse / better) for each draw: positive if the paper is right. Both sides have the same clients."""
    better, worse = claim.better, claim.worse
    low = _log_figures(better, better.profile, schedule, level_s, draws, claim.figure)
    return _log_figures(worse, worse.profile, schedule, level_s, draws, claim.figure) - low


def _log_figures(
    side: Side, profile: Profile, schedule: ClosedLoop | OpenLoop, level_s: float, draws: int, figure: str
) -> Floats:
    """Logarithm of the figure for each draw."""
    values = figure_by_draw(profile, schedule, level_s, draws, figure, arm=side.arm, scaling=side.scaling)
    return np.asarray(np.log(np.maximum(values, 1e-3)), dtype=float)


def verdict_of(ratios: Floats) -> Verdict:
    """Verdict by the share of positive log ratios."""
    share = float(np.mean(ratios > 0))
    return "implied" if share >= DECISIVE_SHARE else ("contradicted" if share <= 1 - DECISIVE_SHARE else "undecided")


def judge(claims: Sequence[Claim], schedule: ClosedLoop | OpenLoop, level_s: float, draws: int = 20) -> pd.DataFrame:
    """Each claim: the ratio worse / better (median, and the range of 90 % of draws), and what these profiles imply."""
    rows = []
    for claim in claims:
        ratios = log_ratios(claim, schedule, level_s, draws)
        low, middle, high = np.exp(np.quantile(ratios, [0.05, 0.5, 0.95]))
        rows.append(
            {
                "claim": claim.name,
                "figure": claim.figure,
                "ratio": float(middle),
                "low": float(low),
                "high": float(high),
                "verdict": verdict_of(ratios),
            }
        )
    return pd.DataFrame(rows)


# The least certain or most influential numbers of each profile.
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
    """For each number of both profiles: the value at which the claim's median changes sign (NaN if it does not within a
    factor of `MAX_FACTOR`), and the number's source."""
    rows = []
    sides = {"better": claim.better, "worse": claim.worse}
    logs = {
        role: _log_figures(side, side.profile, schedule, level_s, draws, claim.figure) for role, side in sides.items()
    }
    start = float(np.median(logs["worse"] - logs["better"]))
    for role, side in sides.items():

        def reverses(path: str, factor: float, role: str = role, side: Side = side) -> bool:
            moved = _log_figures(
                side, with_scaled_number(side.profile, path, factor), schedule, level_s, draws, claim.figure
            )
            gap = moved - logs["better"] if role == "worse" else logs["worse"] - moved
            return bool(np.median(gap) * start < 0)

        for path in NUMBERS.get(side.environment, ()):
            number = number_at(side.profile, path)
            value = number.value if isinstance(number, Number) else number.quantile(0.5)
            factor = _flip(partial(reverses, path))
            rows.append(
                {
                    "profile": side.environment,
                    "number": path,
                    "value": value,
                    "flips_at": value * factor,
                    "factor": factor,
                    "source": number.source,
                    "date": number.date,
                }
            )
    return pd.DataFrame(rows)


def _flip(reverses: Callable[[float], bool]) -> float:
    """The factor at which the sign reverses, by bisection on its logarithm; NaN if it does not within the limits."""
    for limit in (MAX_FACTOR, 1 / MAX_FACTOR):
        if not reverses(limit):
            continue
        near, far = 0.0, float(np.log(limit))
        for _ in range(BISECTIONS):
            middle = (near + far) / 2
            near, far = (near, middle) if reverses(float(np.exp(middle))) else (middle, far)
        return float(np.exp(far))
    return float("nan")


def judge_all(
    schedule: ClosedLoop | OpenLoop,
    level_s: float,
    *,
    draws: int = 20,
    scaling: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """The record, as data: the claims' verdicts under both arms, and what would reverse each. ``scaling``: for all
    sides."""
    arms: dict[str, Any] = {}
    for arm in ARMS:
        claims = paper_claims(arm, scaling)
        table = judge(claims, schedule, level_s, draws)
        reversals = {}
        for place, claim in enumerate(claims):
            if progress is not None:
                progress(f"{arm}: what reverses {claim.name}", place / len(claims))
            reversals[claim.name] = flips(claim, schedule, level_s, max(2, draws // 4)).to_dict("records")
        arms[arm] = {"verdicts": table.to_dict("records"), "flips": reversals}
    return {"draws": draws, "level_s": level_s, "schedule": schedule.model_dump(mode="json"), "arms": arms}
