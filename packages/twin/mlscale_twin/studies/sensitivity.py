"""Which numbers of a profile matter: each halved and doubled, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from mlscale.analysis.response import upscaling_response
from mlscale.runs import Arm, ClosedLoop, OpenLoop
from mlscale_twin.profile import Profile, read_profile, scaled
from mlscale_twin.simulate import SimulateOptions, simulate

FACTORS: Final = (0.5, 2.0)


def numbers_of(profile: Profile) -> dict[str, str]:
    """Dotted path -> what it is, of the numbers that shape the response to a step."""
    found = {f"work.{name}.mean_s": f"work of an answer ({name})" for name in profile.work}
    found |= {"requests.outside_s": "outside queue and replica"}
    found |= {f"starts.steps.{place}.takes": step.name for place, step in enumerate(profile.starts.steps)}
    found |= {"starts.noticed": "ready, until requests come"}
    if profile.machines is not None and profile.machines.boot is not None:
        found |= {"machines.boot": "machine: boot"}
    if profile.machines is not None:
        found |= {"machines.registers": "machine: registers"}
    return found | {f"loop.{name}": name.removesuffix("_s").replace("_", " ") for name in _LOOPS & set(profile.loop)}


_LOOPS: Final = {"metric_delay_60s", "metric_delay_20s", "sync_period_s", "report_delay_s"}


def swings(
    environment: str,
    schedule: ClosedLoop | OpenLoop,
    level_s: float,
    *,
    arm: Arm = "matched",
    scaling: Mapping[str, Any] | None = None,
    draws: int = 4,
) -> pd.DataFrame:
    """T_slo's mean over draws as the profile is, and with each number halved and doubled, s: number, what, ``half``,
    ``double``, ``as_it_is``, and how many of the draws were censored, so that the mean is a lower bound:
    ``half_censored``, ``double_censored``; the widest first."""
    profile = read_profile(environment)

    def drawn(used: Profile) -> tuple[float, int]:
        wanted: dict[str, Any] = {"schedule": schedule, "scaling": scaling, "arm": arm, "profile": used}
        runs = (simulate(environment, options=SimulateOptions(draw=draw), **wanted) for draw in range(draws))
        found = [upscaling_response(run, level_s) for run in runs]
        return sum(each.t_slo_s for each in found) / draws, sum(each.t_slo_censored for each in found)

    as_it_is, _ = drawn(profile)
    rows = []
    for path, what in numbers_of(profile).items():
        (half, half_late), (double, double_late) = (drawn(scaled(profile, path, factor)) for factor in FACTORS)
        late = {"half_censored": half_late, "double_censored": double_late}
        rows.append({"number": path, "what": what, "half": half, "double": double, "as_it_is": as_it_is, **late})
    table = pd.DataFrame(rows)
    widest: Sequence[int] = (table["double"] - table["half"]).abs().sort_values(ascending=False).index
    return table.loc[widest].reset_index(drop=True)
