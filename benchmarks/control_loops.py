"""What a faster control loop brings and costs: `python benchmarks/control_loops.py --out runs/control-loops`.

`matched` is meant to be as fast as each framework allows (docs/METHOD.md, section 4). Each framework is measured at its
present setting and at faster ones, in turn within each round, under the protocol's step. Complete runs are kept, so a
stopped command resumes. ``--publish`` writes data/control_loops.csv, one row a run. About 20 minutes a round, on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mlscale.analysis.summary import run_summary
from mlscale.plots.style import display_name
from mlscale.runs import Run, RunInfo, load_run
from mlscale_experiment.pilot import FASTEST_HPA
from mlscale_paper import places
from mlscale_paper.protocol import current_protocol
from mlscale_paper.results import filled
from onenode.keeper import ClusterKeeper

ROWS: Final = "control_loops.csv"
# What the table shows -> decimals.
COLUMNS: Final = {"detection_s": 1, "mean_response_s": 2, "control_rest_cores": 3, "control_load_cores": 3}
BASELINE_S: Final = 20.0
HORIZON_S: Final = 60.0
# Environment -> setting's name -> what differs from `matched`.
SETTINGS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "k3s": {
        **{
            f"sync period {period_s} s": {
                "sync_period_s": period_s,
                "metric_window_s": 1.6,
                "upscale_stabilisation_s": 0,
            }
            for period_s in (15, 5, 1)
        },
        "sync period 1 s, two looks of wanting more": FASTEST_HPA,
    },
    "rayserve": {
        "router pauses 25 ms to 0.5 s": {"backoff_multiplier": 2.0, "max_backoff_s": 0.5},
        "router pauses 25 ms": {"backoff_multiplier": 1.0, "max_backoff_s": 0.025},
    },
    "torchserve": {
        "looks every 0.5 s": {"period_s": 0.5, "sample_interval_s": 0.25},
        "looks every 0.1 s": {"period_s": 0.1, "sample_interval_s": 0.1},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/control-loops"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--publish", action="store_true", help="write data/control_loops.csv")
    parser.add_argument("--document", action="store_true", help="only write what is published into docs/METHOD.md")
    options = parser.parse_args()
    if options.document:
        document = places.checkout() / "docs/METHOD.md"
        document.write_text(filled(document, "control-loops", table(pd.read_csv(places.data() / ROWS))))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with ClusterKeeper() as keeper:
        for number in range(1, options.rounds + 1):
            for environment, settings in SETTINGS.items():
                names = list(settings)
                turn = (number - 1) % len(names)
                for name in names[turn:] + names[:turn]:
                    folder = options.out / f"{environment}-{names.index(name)}-{number}"
                    keeper.prepare(environment, settings[name])
                    measure(folder, environment, settings[name], number)
                    rows.append(row(load_run(folder), name, number))
                    print(pd.DataFrame(rows).to_string(), flush=True)
    if options.publish:
        pd.DataFrame(rows).to_csv(places.data() / ROWS, index=False, float_format="%.4g")


def measure(out: Path, environment: str, scaling: Mapping[str, Any], seed: int) -> None:
    """One run at ``scaling``, unless it is complete."""
    if (out / "run.json").exists() and RunInfo.model_validate_json((out / "run.json").read_text()).complete:
        return
    shutil.rmtree(out, ignore_errors=True)  # a run that was interrupted
    protocol = current_protocol().model_copy(update={"horizon_s": HORIZON_S})
    schedule = out.with_suffix(".json")
    schedule.write_text(protocol.closed_schedule(BASELINE_S).model_dump_json())
    settings = {**protocol.sized(environment, {}, None), **scaling}
    sizes = [f"--scaling={name}={value}" for name, value in settings.items()]
    words = ("measure", environment, "--schedule", str(schedule), "--set", f"seed={seed}", "--out", str(out), *sizes)
    subprocess.run((sys.executable, "-m", "mlscale.commands.cli", *words), env=os.environ, check=True)


def table(rows: pd.DataFrame) -> str:
    """A line a setting, the range over its runs, in Markdown."""
    lines = [
        f"| setting | runs | decision after the step (s) | P1 over {HORIZON_S:g} s (s) | control plane at rest (cores) "
        "| under load (cores) |",
        f"|{' --- |' * 6}",
    ]
    for (environment, setting), group in rows.groupby(["environment", "setting"], sort=False):
        cells = [
            f"{group[name].min():.{digits}f} to {group[name].max():.{digits}f}" for name, digits in COLUMNS.items()
        ]
        lines.append(f"| {display_name(str(environment))}, {setting} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"*Measured on {'; '.join(rows['host'].unique())}.*", ""])


def row(run: Run, setting: str, number: int) -> dict[str, Any]:
    """What the table needs of one run."""
    summary = run_summary(run, current_protocol().level_s)
    columns = ("environment", "detection_s", "mean_response_s", "t_slo_s", "valid", "reasons", "host")
    return {
        "setting": setting,
        "round": number,
        **{column: summary[column] for column in columns},
        "control_rest_cores": run.info.idle.get("control_plane_cores", float("nan")),
        "control_load_cores": summary["cpu_control_plane_s"] / summary["horizon_s"],
    }


if __name__ == "__main__":
    main()
