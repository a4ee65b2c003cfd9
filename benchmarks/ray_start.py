"""What an extra of jsonschema costs Ray Serve: `python benchmarks/ray_start.py --out runs/ray-start --pairs 5`.

Importing Ray imports jsonschema, which imports rfc3987-syntax if it is installed (JupyterLab asks for it), which
compiles 38 grammars. The published runs of November 2026 were measured with it. Here the protocol's load is measured in
pairs, once without and once with it, in alternate order; the rest is the same. Complete runs are kept, so a stopped
command resumes. ``--publish`` writes compact copies into data/ray-start. About 7 minutes a pair, on a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from mlscale.reporting.render import to_markdown
from mlscale.runs import ClosedLoop, RunInfo, load_run
from mlscale_experiment.protocol import Protocol
from mlscale_paper import places
from mlscale_paper.protocol import published_protocol
from mlscale_paper.publish import publish_runs
from mlscale_paper.ray_start import ARMS, WITH, Correction

PACKAGE: Final = ("rfc3987-syntax==1.1.0", "lark==1.3.1")
# How long the light load lasts, s.
BASELINE_S: Final = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/ray-start"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--publish", action="store_true", help="write compact copies into data/ray-start")
    parser.add_argument("--quick", action="store_true", help="load for a minute only, to try the command")
    options = parser.parse_args()
    protocol = published_protocol()
    options.out.mkdir(parents=True, exist_ok=True)
    package = options.out / "package"
    # With pip: uv would leave the package out, as pyproject.toml tells it to.
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(package), *PACKAGE)
    subprocess.run((sys.executable, *install), check=True)
    for pair in range(1, options.pairs + 1):
        for arm in ARMS if pair % 2 else reversed(ARMS):
            schedule = protocol.quick_schedule() if options.quick else protocol.closed_schedule(BASELINE_S)
            measure(options.out / f"{arm}-{pair}", protocol, schedule, pair, package if arm == WITH else None)
    names = [f"{arm}-{pair}" for pair in range(1, options.pairs + 1) for arm in ARMS]
    runs = {name: load_run(options.out / name) for name in names}
    if options.publish:
        publish_runs([*runs.values()], options.out, places.data() / "ray-start")
    print(to_markdown(Correction(runs).document()))


def measure(out: Path, protocol: Protocol, load: ClosedLoop, seed: int, package: Path | None) -> None:
    """One run of Ray Serve; ``package``: a folder that its processes can import from, too."""
    if (out / "run.json").exists() and RunInfo.model_validate_json((out / "run.json").read_text()).complete:
        return
    shutil.rmtree(out, ignore_errors=True)  # a run that was interrupted
    schedule = out.with_suffix(".json")
    schedule.write_text(load.model_dump_json())
    sizes = [f"--scaling={name}={value}" for name, value in protocol.sized("rayserve", {}, None).items()]
    words = ("measure", "rayserve", "--schedule", str(schedule), "--set", f"seed={seed}", "--out", str(out), *sizes)
    path = {"PYTHONPATH": str(package.resolve())} if package else {}
    subprocess.run((sys.executable, "-m", "mlscale.commands.cli", *words), env=os.environ | path, check=True)


if __name__ == "__main__":
    main()
