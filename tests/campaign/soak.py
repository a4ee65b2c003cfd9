"""``make soak``: two hours of live load on all local environments at once, and 24 h simulated. Does memory grow?

Writes data/soak.json, and its table into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import numpy as np
import psutil
import statsmodels.api as sm

sys.path.insert(0, str(Path(__file__).parents[1]))  # helpers that several folders of tests use

from cluster import own_cluster
from place import Place
from trials import measure

from campaign import PAGE, ROOT
from mlscale.host.facts import host_facts
from mlscale.progress import Shown
from mlscale.runs import load_run
from mlscale_paper.results import filled

RECORD: Final = ROOT / "data/soak.json"
ENVIRONMENTS: Final = ("torchserve", "rayserve", "k3s")
RATE: Final = {"shape": "constant", "rate_rps": 2.0}
EVERY_S: Final = 10.0
SIMULATED_EVERY_S: Final = 0.1
# What is imported and allocated first is left out, s.
SETTLING_S: Final = 600.0


def suite_memory(process: Popen[bytes]) -> dict[str, int]:
    """Memory of the command and of each of its own processes, bytes, by module; not of frameworks or models. Pages of
    files are left out, since the kernel drops and reads them as it likes."""
    main = psutil.Process(process.pid)
    found = {"mlscale measure": own_bytes(main)}
    for child in main.children(recursive=True):
        try:
            module = re.search(r"-m (mlscale\.\S+)", " ".join(child.cmdline()))
            if module and "serving" not in module[1]:
                found[module[1]] = found.get(module[1], 0) + own_bytes(child)
        except psutil.Error:  # it has ended
            continue
    return found


def own_bytes(process: psutil.Process) -> int:
    memory = process.memory_info()
    return int(memory.rss - memory.shared)


def slope(t_s: Sequence[float], used_bytes: Sequence[float]) -> tuple[float, float, float]:
    """MB per hour with its 95 % interval; neighbouring samples are correlated (Newey and West, lag of two minutes)."""
    hours, mb = np.asarray(t_s) / 3600, np.asarray(used_bytes) / 1e6
    fit = sm.OLS(mb, sm.add_constant(hours)).fit(cov_type="HAC", cov_kwds={"maxlags": round(120 / EVERY_S)})
    low, high = fit.conf_int()[1]
    return float(fit.params[1]), float(low), float(high)


def schedule(place: Place, duration_s: float) -> Path:
    """A file with the load: the same rate all the time."""
    file = place.folder / "load.json"
    file.write_text(json.dumps({"loop": "open", "duration_s": duration_s, "rate": RATE}))
    return file


def simulated(environment: str, duration_s: float) -> dict[str, Any]:
    """The peak memory of a command that simulates the same load. (Not its ``ru_maxrss``, which begins with that of the
    process that forked it.)"""
    peak_bytes = 0
    with Place.open() as place:
        out = place.new_run()
        words = ["simulate", environment, "--schedule", str(schedule(place, duration_s)), "--out", str(out)]
        process = place.start(words)
        while process.poll() is None:
            peak_bytes = max(peak_bytes, sum(suite_memory(process).values()))
            time.sleep(SIMULATED_EVERY_S)
        if process.returncode != 0:
            raise SystemExit(place.errors())
        requests = load_run(out).requests
    right = int((requests.status == "ok").sum())
    counts = {"sent": len(requests), "right": right}
    return {"environment": environment, "duration_s": duration_s, **counts, "peak_mb": peak_bytes / 1e6}


def measured(duration_s: float) -> dict[str, Any]:
    """Measure all environments at once; a sample of the memory every `EVERY_S`."""
    samples: dict[str, dict[str, list[tuple[float, int]]]] = {name: {} for name in ENVIRONMENTS}
    with own_cluster() as cluster, Place.open() as place, Shown() as progress:
        schedule(place, duration_s)
        kubeconfig = str(cluster.layout.kubeconfig)
        commands = [measure(name, "--scaling", "max_replicas=2", KUBECONFIG=kubeconfig) for name in ENVIRONMENTS]
        outs = {command.name: place.new_run() for command in commands}
        running = {command.name: command.start(place, outs[command.name], command.name) for command in commands}
        begun_s = time.monotonic()
        while any(process.poll() is None for process in running.values()):
            t_s = time.monotonic() - begun_s
            progress("under load", min(t_s / (duration_s + 60), 1.0))
            for name, process in running.items():
                if process.poll() is None:
                    for module, used_bytes in suite_memory(process).items():
                        samples[name].setdefault(module, []).append((round(t_s, 1), used_bytes))
            time.sleep(EVERY_S)
        tables = {name: load_run(out).requests for name, out in outs.items()}
    requests = {
        name: {"sent": len(table), "right": int((table.status == "ok").sum())} for name, table in tables.items()
    }
    about = {"at": f"{datetime.now(UTC):%Y-%m-%d}", "cpu": host_facts()["cpu_model"], "duration_s": duration_s}
    return {**about, "requests": requests, "samples": samples}


def table(record: Mapping[str, Any]) -> str:
    """The record as Markdown."""
    live, hours = record["live"], record["live"]["duration_s"] / 3600
    answered = [f"{name} {counts['right']:,} of {counts['sent']:,}" for name, counts in live["requests"].items()]
    lines = [
        f"{hours:g} h of {RATE['rate_rps']:g} requests/s on each environment, all three at once, {live['at']}, "
        f"{live['cpu']}. Answered: {', '.join(answered)}.",
        "",
        f"| environment | process | MB after {SETTLING_S / 60:g} min | MB at the end | largest step, MB "
        "| MB per hour (95 %) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, processes in live["samples"].items():
        for module, rows in processes.items():
            kept = [row for row in rows if SETTLING_S < row[0] < live["duration_s"]]
            if len(kept) * EVERY_S < live["duration_s"] / 2:  # a process that did not last
                continue
            t_s, used_bytes = zip(*kept, strict=True)
            middle, low, high = slope(t_s, used_bytes)
            numbers = (used_bytes[0] / 1e6, used_bytes[-1] / 1e6, max(np.diff(used_bytes)) / 1e6)
            shown = " | ".join(f"{number:.1f}" for number in numbers)
            lines.append(f"| {name} | {module} | {shown} | {middle:.2f} ({low:.2f} to {high:.2f}) |")
    lines += ["", "The same load, simulated:", "", "| environment | hours | requests answered | peak MB |"]
    lines.append("| --- | --- | --- | --- |")
    for row in record["simulated"]:
        answers = f"{row['right']:,} of {row['sent']:,}"
        lines.append(f"| {row['environment']} | {row['duration_s'] / 3600:g} | {answers} | {row['peak_mb']:.0f} |")
    return "\n".join(lines)


def page() -> str:
    """docs/reliability.md with the table of the record."""
    shown = table(json.loads(RECORD.read_text())) if RECORD.exists() else "Not measured yet."
    return filled(PAGE, "soak", f"{shown}\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hours", type=float, default=2.0, help="of live load; 0: keep what is on record")
    options.add_argument("--simulated-hours", type=float, nargs="*", default=[2.0, 24.0])
    given = options.parse_args()
    record = {
        "live": measured(3600 * given.hours) if given.hours else json.loads(RECORD.read_text())["live"],
        "simulated": [simulated(name, 3600 * hours) for name, hours in product(ENVIRONMENTS, given.simulated_hours)],
    }
    RECORD.write_text(json.dumps(record) + "\n")
    PAGE.write_text(page())
    sys.stdout.write(table(record) + "\n")


if __name__ == "__main__":
    main()
