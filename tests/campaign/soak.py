"""``make soak``: two hours of live load on each local environment at once. Does the memory of the suite grow?

Writes data/soak.json, and prints its table.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
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

from mlscale.host.facts import host_facts
from mlscale.progress import Shown
from mlscale.runs import load_run

ROOT: Final = Path(__file__).parents[2]
RECORD: Final = ROOT / "data/soak.json"
EVERY_S: Final = 10.0
# What is imported and allocated first is left out, s.
SETTLING_S: Final = 600.0


def suite_memory(process: Popen[bytes]) -> dict[str, int]:
    """Resident bytes of the command and of each of its own processes, by module; not of frameworks or models."""
    main = psutil.Process(process.pid)
    found = {"mlscale measure": main.memory_info().rss}
    for child in main.children(recursive=True):
        try:
            module = re.search(r"-m (mlscale\.\S+)", " ".join(child.cmdline()))
            if module and "serving" not in module[1]:
                found[module[1]] = found.get(module[1], 0) + child.memory_info().rss
        except psutil.Error:  # it has ended
            continue
    return found


def slope(t_s: Sequence[float], rss_bytes: Sequence[float]) -> dict[str, float]:
    """MB per hour with its 95 % interval; neighbouring samples are correlated (Newey and West, lag of two minutes)."""
    hours, mb = np.asarray(t_s) / 3600, np.asarray(rss_bytes) / 1e6
    fit = sm.OLS(mb, sm.add_constant(hours)).fit(cov_type="HAC", cov_kwds={"maxlags": round(120 / EVERY_S)})
    low, high = fit.conf_int()[1]
    return {"first_mb": mb[0], "last_mb": mb[-1], "slope_mb_per_h": fit.params[1], "low": low, "high": high}


def soak(duration_s: float) -> dict[str, Any]:
    """Measure all environments at once, and fit."""
    samples: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with own_cluster() as cluster, Place.open() as place, Shown() as progress:
        rate = {"shape": "constant", "rate_rps": 2.0}
        (place.folder / "load.json").write_text(json.dumps({"loop": "open", "duration_s": duration_s, "rate": rate}))
        commands = [
            measure("torchserve", "--scaling", "max_replicas=2"),
            measure("rayserve", "--scaling", "max_replicas=2"),
            measure("k3s", "--scaling", "max_replicas=2", KUBECONFIG=str(cluster.layout.kubeconfig)),
        ]
        outs = {command.name: place.new_run() for command in commands}
        running = {command.name: command.start(place, outs[command.name], command.name) for command in commands}
        begun_s = time.monotonic()
        while any(process.poll() is None for process in running.values()):
            t_s = time.monotonic() - begun_s
            progress("under load", min(t_s / (duration_s + 60), 1.0))
            for name, process in running.items():
                if process.poll() is None:
                    for module, rss_bytes in suite_memory(process).items():
                        samples.setdefault((name, module), []).append((t_s, rss_bytes))
            time.sleep(EVERY_S)
        runs = {name: load_run(out) for name, out in outs.items()}
        requests = {
            name: {"sent": len(run.requests), "right": int((run.requests.status == "ok").sum())}
            for name, run in runs.items()
        }
    kept = {key: [row for row in rows if SETTLING_S < row[0] < duration_s] for key, rows in samples.items()}
    memory = [
        {"environment": key[0], "process": key[1], **slope(*zip(*rows, strict=True))}
        for key, rows in kept.items()
        if len(rows) > 60
    ]
    return {
        "at": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": host_facts()["cpu_model"],
        "duration_s": duration_s,
        "requests": requests,
        "memory": memory,
    }


def table(record: Mapping[str, Any]) -> str:
    """The record as Markdown."""
    sent = ", ".join(
        f"{name} {counts['right']:,} of {counts['sent']:,} answered" for name, counts in record["requests"].items()
    )
    lines = [
        f"{record['duration_s'] / 3600:g} h of load on all three at once, {record['at']}, {record['cpu']}: {sent}.",
        "",
    ]
    lines += [
        "| environment | process | MB after 10 min | MB at the end | MB per hour (95 %) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in record["memory"]:
        interval = f"{row['slope_mb_per_h']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        lines.append(
            f"| {row['environment']} | {row['process']} | {row['first_mb']:.1f} | {row['last_mb']:.1f} | {interval} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--duration-s", type=float, default=7200.0)
    given = options.parse_args()
    RECORD.write_text(json.dumps(soak(given.duration_s), indent=1) + "\n")
    sys.stdout.write(table(json.loads(RECORD.read_text())) + "\n")


if __name__ == "__main__":
    main()
