"""How long `mlscale advise` takes for the day of notebook 10, start-up included.

    python benchmarks/advise.py [--repeats 3]

The last line says how many settings were simulated.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from papermill import inspect_notebook

from mlscale.notebook.parameters import StrategyParameters

NOTEBOOK = Path(__file__).parents[1] / "notebooks/10_strategy.ipynb"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rates = ast.literal_eval(inspect_notebook(NOTEBOOK)["hourly_rps"]["default"])
    with tempfile.TemporaryDirectory() as name:
        day = Path(name) / "day.json"
        day.write_text(StrategyParameters(hourly_rps=rates).schedule.model_dump_json())
        for number in range(options.repeats):
            begun_s = time.perf_counter()
            argv = [sys.executable, "-m", "mlscale.commands.cli", "advise", str(day), "--p95", "1"]
            done = subprocess.run(
                [*argv, "--out", f"{name}/advice-{number}"], check=True, capture_output=True, text=True
            )
            print(f"{time.perf_counter() - begun_s:.0f} s for {3600 * sum(rates):,} requests")
    print(done.stdout.splitlines()[-1].split(": ", 1)[1])


if __name__ == "__main__":
    main()
