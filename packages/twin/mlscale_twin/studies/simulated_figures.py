"""One figure over many simulated runs that differ only in their draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlscale.runs import Arm, ClosedLoop, OpenLoop
from mlscale_twin.likeness import likeness_figures
from mlscale_twin.profile import Profile
from mlscale_twin.simulate import SimulateOptions, simulate


def figure_by_draw(
    profile: Profile,
    schedule: ClosedLoop | OpenLoop,
    level_s: float,
    draws: int,
    figure: str,
    *,
    arm: Arm,
    scaling: Mapping[str, Any] | None,
) -> npt.NDArray[np.float64]:
    """``figure`` (of `mlscale_twin.likeness`) for each draw."""
    runs = (
        simulate(
            profile.environment,
            schedule=schedule,
            scaling=scaling,
            arm=arm,
            profile=profile,
            options=SimulateOptions(draw=draw),
        )
        for draw in range(draws)
    )
    return np.array([likeness_figures(run, level_s)[figure] for run in runs], dtype=float)
