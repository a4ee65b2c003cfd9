"""How long `mlscale advise` takes, start-up included: 1000 settings over a day of about 576,000 requests.

python benchmarks/advise.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Requests per second, hour by hour; notebook 10's day.
DAY_RPS = [1, 1, 1, 1, 1, 1, 2, 4, 10, 14, 16, 16, 12, 15, 15, 14, 11, 8, 5, 4, 3, 2, 2, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [f"{3600 * hour},{rate}" for hour, rate in enumerate([*DAY_RPS, DAY_RPS[-1]])]
        trace = folder / "day.csv"
        trace.write_text("\n".join(["time_s,rate_rps", *rows]))
        for number in range(options.repeats):
            begun_s = time.perf_counter()
            argv = [sys.executable, "-m", "mlscale.cli", "advise", str(trace), "--p95", "1", "--out"]
            subprocess.run([*argv, str(folder / f"advice-{number}")], check=True, capture_output=True)
            print(f"{time.perf_counter() - begun_s:.0f} s for 1000 settings over {3600 * sum(DAY_RPS):,} requests")


if __name__ == "__main__":
    main()
