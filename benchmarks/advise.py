"""What `mlscale advise` recommends for six kinds of traffic, and how long it takes, start-up included.

    python benchmarks/advise.py [--traces day spikes ramp mix] [--asked p95=1 mean=0.5] [--real TRACE.csv]...
        [--replay 10]

A row for each trace, objective and place. The day is that of notebook 10. ``--real``: recorded arrivals, such as those
of AzurePublicDataset. The recommendation is always simulated over the whole trace: "met" is what the twin then shows.
``--replay``: it is simulated again with so many seeds that the search has not seen.
"""

from __future__ import annotations

import argparse
import ast
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from papermill import inspect_notebook

from mlscale.notebook.parameters import StrategyParameters
from mlscale.runs.schedule import Constant, OpenLoop, RateShape, Staircase, Step
from mlscale_twin.strategy.advised import read_line
from mlscale_twin.strategy.search import Candidate, over_all
from mlscale_twin.strategy.strategies import GRIDS
from mlscale_twin.studies.executors import executor

NOTEBOOK = Path(__file__).parents[1] / "notebooks/10_strategy.ipynb"
HOURS = 6
# The search uses seeds from 0 on.
NEW_SEED = 100


def generated(kind: str) -> OpenLoop:
    """Traffic of a kind; everything random is from the same seed."""
    minutes = np.arange(60.0 * HOURS)
    rng = np.random.default_rng(7)
    match kind:
        case "day":
            rates = ast.literal_eval(inspect_notebook(NOTEBOOK)["hourly_rps"]["default"])
            return StrategyParameters(hourly_rps=rates).schedule  # type: ignore[return-value]
        case "spikes":
            return by_minute(2.0 + 10.0 * (rng.random(len(minutes)) < 0.05))
        case "ramp":
            return by_minute(0.5 + 12.0 * minutes / len(minutes))
        case "mix":
            waves = 5.0 + 4.0 * np.sin(2 * np.pi * minutes / 180)
            bursts = 8.0 * (rng.random(len(minutes)) < 0.03)
            return by_minute(waves * rng.lognormal(0.0, 0.25, len(minutes)) + bursts)
    raise ValueError(kind)


def by_minute(rates_rps: npt.NDArray[np.floating]) -> OpenLoop:
    """Poisson arrivals at one rate each minute."""
    steps = tuple(Step(start_s=60.0 * place, rate_rps=float(rate)) for place, rate in enumerate(rates_rps))
    rate: RateShape = Staircase(steps=steps) if len(steps) > 1 else Constant(rate_rps=steps[0].rate_rps)
    return OpenLoop(duration_s=60.0 * len(steps), rate=rate)


def rows(trace: Path, asked: str, out: Path, seeds: int) -> None:
    """Print what is advised in each place."""
    options = [part for each in asked.split(",") for part in (f"--{each.split('=')[0]}", each.split("=")[1])]
    argv = [sys.executable, "-m", "mlscale.commands.cli", "advise", str(trace), *options, "--out", str(out)]
    begun_s, before_s = time.perf_counter(), cpu_of_children_s()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    took_s = time.perf_counter() - begun_s
    cpu_s = cpu_of_children_s() - before_s
    if done.returncode:
        sys.exit(done.stderr)
    advised = json.loads((out / "advice.json").read_text())["advised"]
    for place, entry in advised.items():
        varied = {name for grid in GRIDS[entry["environment"]] for name in grid} | {"min_replicas", "max_replicas"}
        settings = " ".join(f"{name}={value}" for name, value in entry["settings"].items() if name in varied)
        usd = entry["figures"]["usd_per_month"]
        what = f"{entry['environment']} {entry['policy']} {settings}"
        again = replayed(out / entry["check_in_this_folder"].rpartition(" ")[2], seeds) if seeds else ""
        print(
            f"{trace.stem[-8:]:8} {asked:10} {place:15} {usd:8.2f} USD  {entry['verdict']}  {what}{again}", flush=True
        )
    tried = done.stdout.splitlines()[-1].split(": ", 1)[1]
    print(f"{trace.stem[-8:]:8} {asked:10} {took_s:.0f} s, {cpu_s:.0f} s of CPU, {tried}", flush=True)


def replayed(line: Path, seeds: int) -> str:
    """With how many of so many new seeds it meets the objective, and by how much."""
    advised = read_line(str(line))
    candidate = Candidate.of(advised.candidate.strategy, advised.candidate.place)
    questions = [replace(advised.question, seed=NEW_SEED + number) for number in range(seeds)]
    with executor(None) as pool:
        runs = [over_all(question, [candidate], pool)[0].figures for question in questions]
    margins = [advised.question.objective.margin(figures) for figures in runs]
    met = sum(margin <= 0 for margin in margins)
    return f"; {met} of {seeds} new seeds meet it, at {100 * min(margins):+.0f} to {100 * max(margins):+.0f} % of it"


def cpu_of_children_s() -> float:
    """CPU time of everything that ended, s; less noisy than the clock on a machine that is shared."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--traces", nargs="*", default=["day", "spikes", "ramp", "mix"])
    parser.add_argument("--asked", nargs="+", default=["p95=1"], help="objectives, each such as p95=1,sigma=0.5")
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="CSV of recorded arrivals")
    parser.add_argument("--replay", type=int, default=0, metavar="SEEDS", help="simulate again with so many new seeds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"{kind}.json" for kind in options.traces]
        for file in files:
            file.write_text(generated(file.stem).model_dump_json())
        for number, (trace, asked) in enumerate(
            (trace, asked) for trace in [*files, *options.real] for asked in options.asked
        ):
            rows(trace, asked, Path(name) / f"advice-{number}", options.replay)


if __name__ == "__main__":
    main()
