"""Profiles of the twin fitted to an experiment's own runs, each with the error that these runs show (METHOD §8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd

from mlscale.runs import MlscaleError, Run
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.settings import Settings
from mlscale_twin.calibration import calibrate
from mlscale_twin.likeness import differences
from mlscale_twin.profile import Profile
from mlscale_twin.profile_files import read_profile, write_profile
from mlscale_twin.strategy.measured import FOLDER, Measured, write_measured
from mlscale_twin.studies.validation import ProfileOf, compared_by, live_rows, twin_rows

# With fewer, nothing is said of the error.
LEAST_BLOCKS: Final = 3
# Clouds are composed of documents and of how the model runs in a container.
_CLOUDS: Final = ("eks", "ecs")
CONTAINER: Final = "k3s"
_DRAWS: Final = 4
_RESERVE, _STEP_MIB = 1.25, 64


@dataclass(frozen=True)
class Calibrated:
    """``profiles``: by environment, compared with blocks that they were not fitted to; ``contrasts``: a row for each
    pair of environments (`contrasts_of`); ``left_out``: why an environment has no profile."""

    profiles: Mapping[str, Profile]
    contrasts: pd.DataFrame
    left_out: Sequence[str]


def calibrated(experiment: Experiment, runs: Sequence[Run], say: Callable[[str], None]) -> Calibrated:
    """Fit a profile to each environment's valid runs of ``runs``; for its error, each block is simulated by a profile
    that was fitted to the other blocks.

    Args:
        say: told which environment is next.
    """
    profiles: dict[str, Profile] = {}
    left_out: list[str] = []
    live, twin = [], []
    for name in experiment.environments:
        own = [run for run in runs if run.info.environment == name and run.info.valid]
        blocks = {run.info.block for run in own}
        if len(blocks) < LEAST_BLOCKS:
            left_out.append(f"{name}: {len(blocks)} blocks have valid runs, and a simulation needs {LEAST_BLOCKS}")
            continue
        say(f"calibrating the simulation of {name}")
        base = read_profile(name)
        try:
            profile = calibrate(own, base)
            of_live, of_twin = _left_out_blocks(own, base, experiment.protocol.level_s)
        except MlscaleError as error:
            left_out.append(f"{name}: no simulation could be fitted: {error}")
            continue
        compared = compared_by(of_live, of_twin, "runs of blocks that it was not fitted to")
        profiles[name] = profile.model_copy(update={"compared": compared})
        live.append(of_live)
        twin.append(of_twin)
    contrasts = contrasts_of(pd.concat(live), pd.concat(twin)) if len(live) > 1 else pd.DataFrame()
    return Calibrated(profiles, contrasts, left_out)


def _left_out_blocks(runs: Sequence[Run], base: Profile, level_s: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Figures of each run, and of simulations of it by a profile of the other blocks."""
    live, twin = [], []
    for block in dict.fromkeys(run.info.block for run in runs):
        judged = [run for run in runs if run.info.block == block]
        profile = calibrate([run for run in runs if run.info.block != block], base)
        live.append(live_rows(judged, level_s).assign(block=block))
        twin.append(twin_rows(judged, level_s, _DRAWS, profile_of=_always(profile)))
    return pd.concat(live, ignore_index=True), pd.concat(twin, ignore_index=True)


def _always(profile: Profile) -> ProfileOf:
    return lambda run: profile


def contrasts_of(live: pd.DataFrame, twin: pd.DataFrame) -> pd.DataFrame:
    """How well the simulation tells two environments apart: ratios of the mean response, a row for each pair.

    Args:
        live: a row per run: environment, block, run_id, mean_response_s. twin: rows of simulations of these runs.

    Returns:
        Columns a, b, measured and simulated (geometric means over blocks), low and high (simulated / measured over
        blocks).
    """
    shown = live.set_index("run_id")
    logs = pd.DataFrame(
        {
            "environment": shown["environment"],
            "block": shown["block"],
            "measured": np.log(shown["mean_response_s"]),
            "off": differences(live, twin, "mean_response_s"),
        }
    )
    means = logs.groupby(["environment", "block"], sort=False).mean()
    rows = []
    for a, b in combinations(live["environment"].unique(), 2):
        gap = (means.loc[a] - means.loc[b]).dropna()
        if len(gap):
            off = np.exp(gap["off"])
            rows.append(
                {
                    "a": a,
                    "b": b,
                    "measured": math.exp(gap["measured"].mean()),
                    "simulated": math.exp((gap["measured"] + gap["off"]).mean()),
                    "low": float(off.min()),
                    "high": float(off.max()),
                }
            )
    return pd.DataFrame(rows)


def write_profiles(experiment: Experiment, settings: Settings, found: Calibrated, runs: Sequence[Run]) -> None:
    """Write the profiles, and what an advice by them needs, into the experiment's folder, for `read_measured`.

    Raises:
        MlscaleError: it can't be written.
    """
    for name in experiment.environments:
        file = settings.folder / FOLDER / f"{name}.json"
        if name in found.profiles:
            write_profile(found.profiles[name], file)
        else:
            file.unlink(missing_ok=True)
    measured = Measured(
        environments=(*found.profiles, *(_CLOUDS if CONTAINER in found.profiles else ())),
        p95_s=settings.p95_s,
        mean_s=experiment.protocol.level_s if settings.p95_s is None else None,
        cpu_cores=experiment.protocol.cpu_cores,
        memory_mib=_memory_mib(runs),
    )
    write_measured(measured, settings.folder)


def _memory_mib(runs: Sequence[Run]) -> int:
    """What a replica needs, with a reserve: of the environment where it takes least, since others add their own."""
    peaks: dict[str, float] = {}
    for run in runs:
        own = run.resources[run.resources["role"] == "replica"]["rss_bytes"].max()
        peaks[run.info.environment] = max(peaks.get(run.info.environment, 0.0), float(np.nan_to_num(own)))
    least = min((peak for peak in peaks.values() if peak > 0), default=0.0)
    return max(256, _STEP_MIB * math.ceil(_RESERVE * least / 2**20 / _STEP_MIB))
