"""Requests in flight for the HPA, from KEDA and from our own server: `python benchmarks/keda.py --out runs/keda`.

The protocol's load is measured in pairs on the one-node cluster (``make cluster``), once with each, in alternate order.
The other one's processes are stopped (SIGSTOP) meanwhile. Complete runs are kept, so a stopped command resumes. About 7
minutes a pair, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from mlscale.analysis.paired import paired_t
from mlscale.analysis.summary import summarise
from mlscale.environments.kubernetes.client import Api, KubeContext, connect
from mlscale.environments.kubernetes.conditions import is_true
from mlscale.environments.kubernetes.paths import EXTERNAL_METRICS, path_of
from mlscale.runs import Run, RunInfo, load_run
from mlscale_paper.protocol import published_protocol
from onenode.layout import default_layout
from onenode.node import Node
from onenode.status import cpu_s

PARTS: Final = {"node": ("in-flight",), "keda": ("keda-operator", "keda-metrics-apiserver")}
SERVERS: Final = {"node": ("kube-system", "in-flight"), "keda": ("keda", "keda-metrics-apiserver")}
REGISTRATION: Final = "v1beta1.external.metrics.k8s.io"
# How long the light load lasts, s.
BASELINE_S: Final = 30.0
MEASURES: Final = {
    "decided_s": "step to the first decision, s",
    "mean_response_s": "P1, s",
    "sd_response_s": "P2, s",
    "t_slo_s": "T_slo, s",
    "source_cores": "CPU of what gives the metric, cores",
    "cpu_per_answer_control_plane_s": "CPU of the control plane per answer, s",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/keda"))
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="a short load, to try the command")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    node = Node(default_layout())
    with closing(connect(KubeContext(str(default_layout().kubeconfig)))) as api:
        for pair in range(1, options.pairs + 1):
            for source in ("node", "keda") if pair % 2 else ("keda", "node"):
                out = options.out / f"{source}-{pair}"
                if not complete(out):
                    with only(api, node, source):
                        measure(node, source, out, pair, quick=options.quick)
    print(table(options.out, options.pairs))


def complete(out: Path) -> bool:
    file = out / "run.json"
    return file.exists() and RunInfo.model_validate_json(file.read_text()).complete


@contextmanager
def only(api: Api, node: Node, source: str) -> Iterator[None]:
    """``source`` alone serves the metric during the block; afterwards KEDA does."""
    (other,) = PARTS.keys() - {source}
    send(node, other, signal.SIGSTOP)
    try:
        register(api, source)
        yield
    finally:
        send(node, other, signal.SIGCONT)
        register(api, "keda")


def send(node: Node, source: str, number: signal.Signals) -> None:
    for name in PARTS[source]:
        record = node.record(name)
        assert record is not None
        assert record.alive
        os.kill(record.identity.pid, number)


def register(api: Api, source: str) -> None:
    """Let ``source`` serve external.metrics.k8s.io, and wait until it does."""
    namespace, name = SERVERS[source]
    path = path_of("APIService", REGISTRATION)
    held = api.get(path)
    spec = held["spec"] | {"service": {"namespace": namespace, "name": name, "port": 443}}
    labels = held["metadata"].get("labels") or {}
    api.apply(
        path,
        {
            "kind": held["kind"],
            "apiVersion": held["apiVersion"],
            "metadata": {"name": REGISTRATION, "labels": labels},
            "spec": spec,
        },
    )
    deadline_s = time.monotonic() + 60
    while True:
        time.sleep(2.0)  # a condition of the server before is still there for a moment
        if is_true(api.get(path), "Available") and api.find(EXTERNAL_METRICS) is not None:
            return
        assert time.monotonic() < deadline_s, f"{name} does not serve"


def measure(node: Node, source: str, out: Path, seed: int, *, quick: bool) -> None:
    """One run, and what the processes of ``source`` used during it."""
    shutil.rmtree(out, ignore_errors=True)  # a run that was interrupted
    protocol = published_protocol()
    schedule = out.with_suffix(".json")
    load = protocol.quick_schedule() if quick else protocol.closed_schedule(BASELINE_S)
    schedule.write_text(load.model_dump_json())
    sizes = [f"--scaling={name}={value}" for name, value in protocol.sized("k3s", {}, None).items()]
    words = ("measure", "k3s", "--schedule", str(schedule), "--set", f"seed={seed}", "--out", str(out), *sizes)
    kubeconfig = {"KUBECONFIG": str(default_layout().kubeconfig)}
    began_s, before_s = time.monotonic(), used_s(node, source)
    command = (sys.executable, "-m", "mlscale.commands.cli", *words, f"--scaling=in_flight_from={source}")
    subprocess.run(command, env=os.environ | kubeconfig, check=True)
    cores = (used_s(node, source) - before_s) / (time.monotonic() - began_s)
    out.with_suffix(".cpu.json").write_text(json.dumps({"source_cores": cores}))


def used_s(node: Node, source: str) -> float:
    return sum(cpu_s(node.groups.part(name)) for name in PARTS[source])


def decided_s(run: Run) -> float:
    """From the step to the first decision for more replicas, s."""
    step_s = run.info.step_s or 0.0
    events = run.events[run.events["kind"] == "scale_decision"]
    moments = [
        t_s
        for t_s, detail in zip(events["t_s"], events["detail"], strict=True)
        if t_s > step_s and (told := json.loads(detail))["to"] > told["from"]
    ]
    return min(moments, default=np.nan) - step_s


def table(folder: Path, pairs: int) -> str:
    """Means, and the ratio of KEDA to the node's own server with its 95 % t interval."""
    names = [f"{source}-{pair}" for pair in range(1, pairs + 1) for source in PARTS]
    runs = [load_run(folder / name) for name in names]
    rows = summarise(runs, published_protocol().level_s)
    rows["source"], rows["pair"] = zip(*(name.split("-") for name in names), strict=True)
    rows["decided_s"] = [decided_s(run) for run in runs]
    rows["source_cores"] = [json.loads((folder / f"{name}.cpu.json").read_text())["source_cores"] for name in names]
    found = []
    for measure, words in MEASURES.items():
        values = rows.pivot(index="pair", columns="source", values=measure)
        ratio = paired_t(np.log(values["keda"] / values["node"]))
        low, high = np.exp([ratio.low, ratio.high])
        found.append([words, values["node"].mean(), values["keda"].mean(), np.exp(ratio.mean), low, high])
    text: str = pd.DataFrame(found, columns=["", "node", "keda", "ratio", "low", "high"]).to_string(index=False)
    return text


if __name__ == "__main__":
    main()
