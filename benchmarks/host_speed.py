"""What a run's own light load is worth to the twin: the error of a twin that was fitted to the other blocks, by rule.

    python benchmarks/host_speed.py [--environments "torchserve k3s rayserve eks"] [--draws 8]

The profile is fitted anew to all published blocks but one, and compared with that one. "one speed": as fitted, which is
also what one factor pooled over the other blocks gives; "own": the CPU of an answer before the run's step, alone;
"shrunk": that, shrunk towards day, host and profile (mlscale_twin.host_speed). Root mean square over the runs; of
logarithms, or in s.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mlscale.runs import Run, load_runs
from mlscale_twin.calibration import calibrate
from mlscale_twin.host_speed import Factors, at_speed, light_cpu_s, speeds_of
from mlscale_twin.likeness import differences
from mlscale_twin.profile import Profile
from mlscale_twin.profile_files import read_profile
from mlscale_twin.studies.validation import live_rows, twin_rows

REFERENCE = Path(__file__).parents[1] / "data/reference"
LEVEL_S = 0.45
FIGURES = ("light_response_s", "service_s", "mean_response_s", "sd_response_s", "p95_response_s", "ready_first_s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--environments", default="torchserve k3s rayserve eks")
    parser.add_argument("--draws", type=int, default=8)
    options = parser.parse_args()
    for name in options.environments.split():
        cell = "rehearsal" if name == "eks" else "core"
        runs = [run for run in load_runs(REFERENCE / cell) if run.info.valid and run.info.environment == name]
        print(f"{name}, {len(runs)} runs\n{errors(runs, read_profile(name), options.draws).to_string()}", flush=True)


def errors(runs: Sequence[Run], base: Profile, draws: int) -> pd.DataFrame:
    """Root mean square error by figure (rows) and rule (columns)."""
    twins: dict[str, list[pd.DataFrame]] = {}
    for block in sorted({run.info.block or 0 for run in runs}):
        others = [run for run in runs if run.info.block != block]
        judged = [run for run in runs if run.info.block == block]
        for rule, speeds in rules(judged, others, profile := calibrate(others, base)).items():
            profiles = {run_id: at_speed(profile, factors) for run_id, factors in speeds.items()}
            rows = twin_rows(judged, LEVEL_S, draws, profile_of=lambda run, of=profiles: of[run.info.run_id])  # type: ignore[misc]
            twins.setdefault(rule, []).append(rows)
    live = live_rows(runs, LEVEL_S)
    table = {
        rule: {
            figure: float(np.sqrt((differences(live, pd.concat(rows), figure) ** 2).mean())) for figure in FIGURES
        }
        for rule, rows in twins.items()
    }  # fmt: skip
    return pd.DataFrame(table).round(3)


def rules(judged: Sequence[Run], others: Sequence[Run], profile: Profile) -> dict[str, Mapping[str, Factors]]:
    """Speed of each judged run by each rule."""
    assert profile.speed is not None
    light_s = profile.speed.light_cpu_s.value
    return {
        "one speed": {run.info.run_id: Factors(1.0, 1.0) for run in judged},
        "own": {run.info.run_id: Factors(own := light_cpu_s(run) / light_s, own) for run in judged},
        "shrunk": speeds_of([*others, *judged], profile),
    }


if __name__ == "__main__":
    main()
