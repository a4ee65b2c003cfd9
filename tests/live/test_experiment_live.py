"""Own models live: six kinds scale on both local frameworks; blocks of one end in profiles, an advice and a gate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from mlscale.runs import load_runs

pytestmark = [pytest.mark.live, pytest.mark.proof]

# What `make` does while it loads, and `answer` for each request. ``burn(s)`` takes so much CPU on one thread.
MODELS = {
    "of 2 ms": ("", "burn(0.002)"),
    "that waits": ("", "burn(0.003); time.sleep(0.15)"),
    "of 1.5 s": ("", "burn(1.5)"),
    "that loads for 40 s": ("time.sleep(30); burn(10.0)", "burn(0.03)"),
    "of 1.5 GB": ("weights = np.ones(190_000_000)", "burn(0.03)"),
    "with several threads": (
        "import torch; torch.set_num_threads(2); net = torch.nn.Conv2d(64, 64, 3)",
        "[net(torch.zeros(1, 64, 128, 128)) for _ in range(4)]",
    ),
}
MODULE = """
import time

import numpy as np


def burn(cpu_s):
    end_s = time.thread_time() + cpu_s
    while time.thread_time() < end_s:
        pass


def make():
    {load}

    def answer(body):
        {answer}
        return {{"length": len(body)}}

    return answer
"""


def own_model(place: Path, load: str, answer: str) -> Path:
    """A folder with a model, ten bodies and their right answers."""
    folder = place / "own"
    (folder / "bodies").mkdir(parents=True)
    (folder / "scored.py").write_text(dedent(MODULE).format(load=load or "pass", answer=answer))
    labels = []
    for number in range(10):
        (folder / "bodies" / f"{number}.txt").write_bytes(b"x" * (10 + number))
        labels.append({"file": f"{number}.txt", "answer": {"length": 10 + number}})
    (folder / "bodies" / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
    return folder


def mlscale(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlscale.commands.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=False)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_of_any_kind_scales_in_a_first_look(kind: str, tmp_path: Path) -> None:
    folder = own_model(tmp_path, *MODELS[kind])
    for words in (["init", str(folder)], ["run", str(folder), "--quick", "--environments", "torchserve rayserve"]):
        done = mlscale(folder, "experiment", *words)
        assert done.returncode == 0, done.stderr
    assert (folder / "report-quick.html").exists()
    runs = load_runs(folder / "runs" / "quick" / "core")
    assert {run.info.environment for run in runs} == {"torchserve", "rayserve"}
    for run in runs:
        step_s = run.info.step_s or 0.0
        replicas = run.replicas
        before, after = replicas[replicas["t_s"] < step_s], replicas[replicas["t_s"] > step_s]
        validity = run.info.validity
        assert validity is not None
        assert validity.valid, validity
        early = before["desired"].max() > 1  # two requests that overlap for long can do that, and the run says so
        assert early == validity.pre_scaled
        assert after["ready"].max() > 1, "added after it"
        assert (run.requests["status"] == "ok").mean() > 0.98


def test_blocks_of_an_own_model_end_in_profiles_an_advice_and_a_gate(tmp_path: Path) -> None:
    folder = own_model(tmp_path, "", "burn(0.03)")
    assert mlscale(folder, "experiment", "init", str(folder)).returncode == 0
    (folder / "traffic.csv").write_text("time_s,rate_rps\n" + "".join(f"{60 * at},{4 + at % 7}\n" for at in range(120)))
    with (folder / "experiment.yaml").open("a") as file:
        file.write("trace: traffic.csv\np95_s: 1.0\nenvironments: [torchserve, rayserve]\nblocks: 3\n")
    done = mlscale(folder, "experiment", "run", str(folder))
    assert done.returncode == 0, done.stderr
    assert "For traffic.csv, simulated:" in done.stderr
    assert {file.stem for file in (folder / "profiles").glob("*.json")} == {"torchserve", "rayserve", "advise"}
    same = mlscale(folder, "gate", str(folder), "--against", str(folder), "--worse", "50%")
    assert same.returncode == 0, same.stdout + same.stderr
    late = mlscale(folder, "gate", str(folder), "--p95", "0.01")
    assert late.returncode == 1, late.stdout + late.stderr
