"""The twin beside live runs of the same setups: rows for `mlscale_twin.likeness`, and a validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis.summary import host_name
from mlscale.measurement.labels import Labels
from mlscale.measurement.measure import Progress
from mlscale.runs import MlscaleError, Run
from mlscale_twin.likeness import erlang_response_s, likeness, likeness_figures, rejected_share, trajectory_errors
from mlscale_twin.negative_controls import CONTROLS, Control
from mlscale_twin.profile import Profile, read_profile
from mlscale_twin.simulate import SimulateOptions, simulate

ProfileOf = Callable[[Run], Profile]
"""From a live run to the profile by which its twins are simulated: as it is shipped, or as it was frozen for the run's
host (`mlscale_paper.freeze`)."""
# Twins of each live run.
DRAWS: Final = 24


def shipped(run: Run) -> Profile:
    """The profile of the run's environment."""
    return read_profile(run.info.environment)


def setup_of(run: Run) -> str:
    """What live runs repeat: environment, and the variant of the hold-out (or the cell)."""
    return f"{run.info.environment}/{(run.info.cell or 'run').rpartition('/')[2]}"


def twins_of(run: Run, draws: int, control: Control | None = None, profile_of: ProfileOf = shipped) -> list[Run]:
    """Simulated runs of a live run's setup: its schedule, its clients' think times and photos, its settings; and the
    moments at which its HPA looked, which were known before the step. Everything else is drawn."""
    info = run.info
    if len(info.scaling) != 1:
        raise MlscaleError("partitioned runs are not simulated yet", str(run.path), "leave it out")
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
                look_s=_look_s(run),
                timeout_s=info.timeout_s,
                labels=Labels(cell=info.cell, block=info.block),
            ),
        )
        for draw in range(draws)
    ]


def _look_s(run: Run) -> float | None:
    """A moment before the step at which a Kubernetes autoscaler looked."""
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
    say: Progress | None = None,
    profile_of: ProfileOf = shipped,
) -> pd.DataFrame:
    """``draws`` rows for each live run, with its run_id."""
    rows = []
    for place, run in enumerate(runs):
        if say is not None:
            say(control.name if control is not None else "as it is", place / len(runs))
        rows += [_row(run, twin, level_s) for twin in twins_of(run, draws, control, profile_of)]
    return pd.DataFrame(rows)


def _row(live: Run, run: Run, level_s: float) -> dict[str, Any]:
    named = {"environment": live.info.environment, "setup": setup_of(live), "run_id": live.info.run_id}
    return named | likeness_figures(run, level_s)


@dataclass(frozen=True)
class Beside:
    """Live runs, the twins of each, and the figures of both."""

    runs: Sequence[Run]
    twins: Mapping[str, Sequence[Run]]
    live: pd.DataFrame
    twin: pd.DataFrame
    profile_of: ProfileOf = shipped

    def by_setup(self) -> dict[str, list[Run]]:
        """Live runs of each setup."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(setup_of(run), []).append(run)
        return found

    def twins_by_setup(self) -> dict[str, list[Run]]:
        return {
            name: [twin for run in mine for twin in self.twins[run.info.run_id]]
            for name, mine in self.by_setup().items()
        }

    def trajectories(self) -> pd.DataFrame:
        """How far m_t of the twin, and of live runs among themselves, is off in each setup, as a share."""
        rows = []
        for name, mine in self.by_setup().items():
            error, noise = trajectory_errors(mine, [self.twins[run.info.run_id] for run in mine])
            rows.append({"setup": name, "twin": error, "live runs among themselves": noise})
        return pd.DataFrame(rows)

    def naive(self, before: Sequence[Run], level_s: float) -> pd.DataFrame:
        """How far off the mean response is that the twin, M/M/c, and the mean of the runs that were there ``before`` on
        the same host predict: mean absolute logarithm of the ratio to the live runs, by environment."""
        rows = []
        logs = np.log(self.twin["mean_response_s"]).groupby(self.twin["run_id"]).mean()
        for name, mine in self.live.groupby("environment", sort=False):
            live = np.log(mine.set_index("run_id")["mean_response_s"])
            of_name = [run for run in self.runs if run.info.environment == name]
            queues = np.log([erlang_response_s(run, self._work_s(run)) for run in of_name])
            hosts = {host_name(run.info.host) for run in of_name}
            known = [
                likeness_figures(run, level_s)["mean_response_s"]
                for run in before
                if run.info.environment == name and host_name(run.info.host) in hosts
            ]
            last = float(np.mean(np.log(known))) if known else float("nan")
            off = {"twin": logs.reindex(live.index) - live, "M/M/c": queues - live, "last live mean": last - live}
            rows.append({"environment": name, **{key: float(np.abs(each).mean()) for key, each in off.items()}})
        return pd.DataFrame(rows)

    def _work_s(self, run: Run) -> float:
        return next(iter(self.profile_of(run).work.values())).mean_s.value


def beside(
    runs: Sequence[Run],
    level_s: float,
    draws: int = DRAWS,
    say: Progress | None = None,
    profile_of: ProfileOf = shipped,
) -> Beside:
    """Twins of every run."""
    twins: dict[str, Sequence[Run]] = {}
    for place, run in enumerate(runs):
        if say is not None:
            say(f"twins of {run.info.environment}", place / len(runs))
        twins[run.info.run_id] = twins_of(run, draws, profile_of=profile_of)
    twin = pd.DataFrame([_row(run, each, level_s) for run in runs for each in twins[run.info.run_id]])
    return Beside(runs, twins, live_rows(runs, level_s), twin, profile_of)


def rejections(
    found: Beside, verdicts: pd.DataFrame, level_s: float, draws: int = DRAWS, say: Progress | None = None
) -> pd.DataFrame:
    """In how many resamples the twin, and each wrong one, is found different: environment, twin, rejected.

    A wrong twin is judged by the figures in which the twin as it is was not found different: what the right one is
    rejected by already would reject anything. ``verdicts``: of `likeness`.
    """
    rows = []
    for control in (None, *CONTROLS):
        altered = (
            found.twin if control is None else twin_rows(found.runs, level_s, draws, control, say, found.profile_of)
        )
        for name, mine in found.live.groupby("environment", sort=False):
            mine_as_is = verdicts[verdicts["environment"] == name]
            judged = mine_as_is[mine_as_is["verdict"] != "different"]["figure"]
            share = rejected_share(mine, altered[altered["environment"] == name], tuple(judged))
            rows.append({"environment": name, "twin": control.name if control else "as it is", "rejected": share})
    return pd.DataFrame(rows)


def validate(
    runs: Sequence[Run],
    before: Sequence[Run],
    level_s: float,
    *,
    draws: int = DRAWS,
    say: Progress | None = None,
    profile_of: ProfileOf = shipped,
) -> dict[str, Any]:
    """Everything that METHOD §8 asks for, as data: verdicts, noise, naive predictions, m_t, negative controls."""
    found = beside(runs, level_s, draws, say, profile_of)
    verdicts = likeness(found.live, found.twin)
    return {
        "runs": sorted(run.info.run_id for run in runs),
        "draws": draws,
        "level_s": level_s,
        "profiles": {run.info.environment: shipped(run).sha256 for run in runs},
        "verdicts": verdicts.to_dict("records"),
        "naive": found.naive(before, level_s).to_dict("records"),
        "trajectories": found.trajectories().to_dict("records"),
        "controls": rejections(found, verdicts, level_s, draws, say).to_dict("records"),
    }
