"""Which numbers of a profile matter: each halved and doubled, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.experiment.draws import drawn_figures
from mlscale.runs import Arm, ClosedLoop, OpenLoop
from mlscale.simulator.profile import Profile, read_profile, scaled

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


_LOOPS: Final = {"metric_delay_s", "sync_period_s", "report_delay_s"}


def swings(
    environment: str,
    schedule: ClosedLoop | OpenLoop,
    level_s: float,
    *,
    arm: Arm = "matched",
    scaling: Mapping[str, Any] | None = None,
    draws: int = 4,
    figure: str = "t_slo_s",
) -> pd.DataFrame:
    """A figure's mean over draws as the profile is, and with each number halved and doubled: number, what, value of
    the figure at ``half`` and ``double``, and ``as_it_is``; the widest first."""
    profile = read_profile(environment)

    def mean(used: Profile) -> float:
        return float(np.mean(drawn_figures(used, schedule, level_s, draws, figure, arm=arm, scaling=scaling)))

    as_it_is = mean(profile)
    rows = []
    for path, what in numbers_of(profile).items():
        half, double = (mean(scaled(profile, path, factor)) for factor in FACTORS)
        rows.append({"number": path, "what": what, "half": half, "double": double, "as_it_is": as_it_is})
    table = pd.DataFrame(rows)
    widest: Sequence[int] = (table["double"] - table["half"]).abs().sort_values(ascending=False).index
    return table.loc[widest].reset_index(drop=True)
