"""Compares the twin with live runs of the same setups: rows for `mlscale_twin.likeness`, and the validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.measurement.labels import Labels
from mlscale.measurement.measure import Progress
from mlscale.runs import MlscaleError, Run
from mlscale_twin.host_speed import at_own_speed
from mlscale_twin.likeness import (
    differences,
    likeness,
    likeness_figures,
    rejected_share,
    trajectory_errors,
)
from mlscale_twin.negative_controls import CONTROLS, NOTICED_SHARE, Control
from mlscale_twin.profile import Compared, Profile
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import SimulateOptions, simulate
from mlscale_twin.studies.rivals import Regression, markov_response_s, previous_response_s

ProfileOf = Callable[[Run], Profile]
"""Maps a live run to the profile of its twins: the shipped one, or one adapted to the run's host."""
# Simulated runs per live run.
DRAWS: Final = 24


def shipped(run: Run) -> Profile:
    """The profile of the run's environment."""
    return read_profile(run.info.environment)


def setup_of(run: Run) -> str:
    """The setup that live runs repeat: environment, and the hold-out's variant (or the cell)."""
    return f"{run.info.environment}/{(run.info.cell or 'run').rpartition('/')[2]}"


def twins_of(run: Run, draws: int, control: Control | None = None, profile_of: ProfileOf = shipped) -> list[Run]:
    """Simulated runs of a live run's setup: same schedule, think times, photos and settings, and the same phase of the
    HPA, which was known before the step. Everything else is drawn."""
    info = run.info
    if len(info.scaling) != 1:
        raise MlscaleError("partitioned runs are not simulated yet", str(run.path), "exclude it")
    profile, scaling = profile_of(run), dict(next(iter(info.scaling.values())))
    if control is not None:
        profile, scaling = control.alter(profile, scaling)
    return [
        simulate(
            info.environment,
            schedule=info.schedule,
            scaling=scaling,
            arm=info.arm,
            profile=profile,
            options=SimulateOptions(
                seed=info.seed,
                draw=draw,
                hpa_sync_at_s=_hpa_sync_at_s(run),
                timeout_s=info.timeout_s,
                labels=Labels(cell=info.cell, block=info.block),
            ),
        )
        for draw in range(draws)
    ]


def _hpa_sync_at_s(run: Run) -> float | None:
    """A time before the step at which the HPA decided, if it has one."""
    if run.info.environment not in ("k3s", "eks"):
        return None
    before = run.events[(run.events["kind"] == "scale_decision") & (run.events["t_s"] < (run.info.step_s or 0.0))]
    return float(before["t_s"].iloc[-1]) if len(before) else None


def live_rows(runs: Iterable[Run], level_s: float) -> pd.DataFrame:
    """One row per run: environment, setup, run_id, and its figures."""
    return pd.DataFrame([_row(run, run, level_s) for run in runs])


def twin_rows(
    runs: Sequence[Run],
    level_s: float,
    draws: int = DRAWS,
    control: Control | None = None,
    progress: Progress | None = None,
    profile_of: ProfileOf = shipped,
) -> pd.DataFrame:
    """``draws`` rows for each live run, with its run_id."""
    rows = []
    for index, run in enumerate(runs):
        if progress is not None:
            progress(control.name if control is not None else "as it is", index / len(runs))
        rows += [_row(run, twin, level_s) for twin in twins_of(run, draws, control, profile_of)]
    return pd.DataFrame(rows)


def _row(live: Run, run: Run, level_s: float) -> dict[str, Any]:
    labels = {"environment": live.info.environment, "setup": setup_of(live), "run_id": live.info.run_id}
    return labels | likeness_figures(run, level_s)


@dataclass(frozen=True)
class Comparison:
    """Live runs, the twins of each, and the figures of both."""

    runs: Sequence[Run]
    twins: Mapping[str, Sequence[Run]]
    live: pd.DataFrame
    twin: pd.DataFrame
    profile_of: ProfileOf = shipped

    def trajectories(self) -> pd.DataFrame:
        """Relative deviation of m_t in each setup, of the twin and of live runs among themselves."""
        setups: dict[str, list[Run]] = {}
        for run in self.runs:
            setups.setdefault(setup_of(run), []).append(run)
        rows = []
        for name, runs in setups.items():
            error, noise = trajectory_errors(runs, [self.twins[run.info.run_id] for run in runs])
            rows.append({"setup": name, "twin": error, "live runs among themselves": noise})
        return pd.DataFrame(rows)

    def rivals(self, published: Sequence[Run]) -> pd.DataFrame:
        """Mean absolute log ratio of predicted to live mean response, by environment, of the twin and its rivals
        (`mlscale_twin.studies.rivals`).

        Args:
            published: runs that the profiles were fitted to; so is the regression.
        """
        rows = []
        logs = np.log(self.twin["mean_response_s"]).groupby(self.twin["run_id"]).mean()
        for name, live_rows in self.live.groupby("environment", sort=False):
            live = np.log(live_rows.set_index("run_id")["mean_response_s"])
            judged = {run.info.run_id: run for run in self.runs if run.info.environment == name}
            own = [judged[run_id] for run_id in live.index]
            known = [run for run in published if run.info.environment == name and run.info.run_id not in judged]
            predicted = {
                "M/M/c": [markov_response_s(run, self.profile_of(run)) for run in own],
                "previous live run": [previous_response_s(run, [*known, *own]) for run in own],
            }
            if known:
                regression = Regression(known, self.profile_of(own[0]))
                predicted["regression"] = [regression.predict_s(run) for run in own]
            off = {"twin": logs.reindex(live.index) - live}
            off |= {rival: np.log(values) - live for rival, values in predicted.items()}
            rows.append({"environment": name, **{key: float(np.abs(gaps).mean()) for key, gaps in off.items()}})
        return pd.DataFrame(rows)


def compare_with_live(
    runs: Sequence[Run],
    level_s: float,
    draws: int = DRAWS,
    progress: Progress | None = None,
    profile_of: ProfileOf = shipped,
) -> Comparison:
    """Simulates the twins of live runs, and computes the figures of both."""
    twins: dict[str, Sequence[Run]] = {}
    for index, run in enumerate(runs):
        if progress is not None:
            progress(f"twins of {run.info.environment}", index / len(runs))
        twins[run.info.run_id] = twins_of(run, draws, profile_of=profile_of)
    twin = pd.DataFrame([_row(run, drawn, level_s) for run in runs for drawn in twins[run.info.run_id]])
    return Comparison(runs, twins, live_rows(runs, level_s), twin, profile_of)


def compare_profile(
    profile: Profile, runs: Sequence[Run], what: str, draws: int = 4, progress: Progress | None = None
) -> Compared:
    """How far the twin with this profile is from live runs, called ``what``; the profile may be fitted to them."""
    comparison = compare_with_live(runs, level_s=1.0, draws=draws, progress=progress, profile_of=lambda run: profile)
    return compared_by(comparison.live, comparison.twin, what)


def compared_by(live: pd.DataFrame, twin: pd.DataFrame, what: str) -> Compared:
    """The error to report with every result of the twin: the range of twin / live over the runs of one environment,
    which are called ``what``."""
    ratios = {}
    for figure in ("mean_response_s", "sd_response_s", "p95_response_s"):
        ratio = np.exp(differences(live, twin, figure))
        ratios[figure] = (round(float(ratio.min()), 3), round(float(ratio.max()), 3))
    return Compared(what=what, runs=len(live), ratios=ratios)


def not_claimed(verdicts: pd.DataFrame, controls: pd.DataFrame) -> list[str]:
    """For each row of `likeness`, why the figure is not claimed; "" if it is: it is equivalent, and every wrong twin
    that it depends on was noticed.

    Args:
        controls: of `rejections`.
    """
    missed = {
        (row.environment, row.twin) for row in controls.itertuples() if row.rejected < NOTICED_SHARE
    }  # the right twin among them, which no figure depends on
    reasons = []
    for row in verdicts.itertuples():
        unnoticed = [
            control.name
            for control in CONTROLS
            if row.figure in control.figures and (row.environment, control.name) in missed
        ]
        why = "" if row.verdict == "equivalent" else str(row.verdict)
        reasons.append(why or (f"{', '.join(unnoticed)} not noticed" if unnoticed else ""))
    return reasons


def rejections(
    comparison: Comparison, verdicts: pd.DataFrame, level_s: float, draws: int = DRAWS, progress: Progress | None = None
) -> pd.DataFrame:
    """How often the twin, and each wrong twin, is found different over resamples: environment, twin, rejected.

    A wrong twin is judged only by figures for which the right twin was not found different: others would reject
    anything. ``verdicts``: of `likeness`.
    """
    rows = []
    for control in (None, *CONTROLS):
        if control is None:
            altered = comparison.twin
        else:
            altered = twin_rows(comparison.runs, level_s, draws, control, progress, comparison.profile_of)
        for name, live_rows in comparison.live.groupby("environment", sort=False):
            unaltered = verdicts[verdicts["environment"] == name]
            judged = unaltered[unaltered["verdict"] != "different"]["figure"]
            share = rejected_share(live_rows, altered[altered["environment"] == name], tuple(judged))
            rows.append({"environment": name, "twin": control.name if control else "as it is", "rejected": share})
    return pd.DataFrame(rows)


def validate(
    runs: Sequence[Run],
    published: Sequence[Run],
    level_s: float,
    *,
    draws: int = DRAWS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Everything that METHOD §8 requires, as data: verdicts, what is claimed, noise, rivals, m_t, negative controls.

    Args:
        runs: live runs that no profile was fitted to. published: the runs that the profiles were fitted to, which tell
            the speed of hosts, too.
    """
    comparison = compare_with_live(runs, level_s, draws, progress, at_own_speed([*published, *runs], shipped))
    verdicts = likeness(comparison.live, comparison.twin)
    controls = rejections(comparison, verdicts, level_s, draws, progress)
    verdicts["not_claimed"] = not_claimed(verdicts, controls)
    last = max(run.info.wall_start for run in runs)
    what = f"hold-out runs until {last:%Y-%m-%d}, by which it was validated"
    twins = dict(iter(comparison.twin.groupby("environment")))
    compared = {
        str(name): compared_by(live, twins[name], what).model_dump()
        for name, live in comparison.live.groupby("environment", sort=False)
    }
    return {
        "runs": sorted(run.info.run_id for run in runs),
        "draws": draws,
        "level_s": level_s,
        "compared": compared,
        "verdicts": verdicts.to_dict("records"),
        "rivals": comparison.rivals(published).to_dict("records"),
        "trajectories": comparison.trajectories().to_dict("records"),
        "controls": controls.to_dict("records"),
    }
