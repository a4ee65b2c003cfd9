"""Which numbers of a profile matter: each is halved and doubled, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from mlscale.analysis.response import recovery
from mlscale.runs import Arm, ClosedLoop, OpenLoop
from mlscale_twin.profile import Profile, with_scaled_number
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import SimulateOptions, simulate

FACTORS: Final = (0.5, 2.0)


def numbers_of(profile: Profile) -> dict[str, str]:
    """Dotted path -> description, for the numbers that shape the response to a step."""
    numbers = {f"work.{name}.mean_s": f"work of an answer ({name})" for name in profile.work}
    numbers |= {"requests.outside_s": "outside queue and replica"}
    numbers |= {f"starts.steps.{index}.takes": step.name for index, step in enumerate(profile.starts.steps)}
    numbers |= {"starts.noticed": "ready, until requests come"}
    if profile.machines is not None and profile.machines.boot is not None:
        numbers |= {"machines.boot": "machine: boot"}
    if profile.machines is not None:
        numbers |= {"machines.registers": "machine: registers"}
    return numbers | {f"loop.{name}": name.removesuffix("_s").replace("_", " ") for name in _LOOPS & set(profile.loop)}


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
    """Mean T_slo over draws with the profile unchanged, and with each number halved and doubled, s: number, what,
    ``half``, ``double``, ``as_it_is``; and how many draws were censored, so that the mean is a lower bound:
    ``half_censored``, ``double_censored``. Widest swing first."""
    profile = read_profile(environment)

    def mean_t_slo(altered: Profile) -> tuple[float, int]:
        arguments: dict[str, Any] = {"schedule": schedule, "scaling": scaling, "arm": arm, "profile": altered}
        runs = (simulate(environment, options=SimulateOptions(draw=draw), **arguments) for draw in range(draws))
        responses = [recovery(run, level_s) for run in runs]
        return sum(response.t_slo_s for response in responses) / draws, sum(
            response.t_slo_censored for response in responses
        )

    as_it_is, _ = mean_t_slo(profile)
    rows = []
    for path, what in numbers_of(profile).items():
        (half, half_censored), (double, double_censored) = (
            mean_t_slo(with_scaled_number(profile, path, factor)) for factor in FACTORS
        )
        censored = {"half_censored": half_censored, "double_censored": double_censored}
        rows.append({"number": path, "what": what, "half": half, "double": double, "as_it_is": as_it_is, **censored})
    table = pd.DataFrame(rows)
    widest: Sequence[int] = (table["double"] - table["half"]).abs().sort_values(ascending=False).index
    return table.loc[widest].reset_index(drop=True)
