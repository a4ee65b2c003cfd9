"""Callers that end in several ways, and a look at what they leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlscale.host.processes import ProcessIdentity

CALLER = Path(__file__).with_name("caller.py")


def wait_for(condition: Callable[[], Any], what: str, at_most_s: float = 30) -> Any:
    """The first true value of ``condition()``; fails after ``at_most_s``."""
    deadline_s = time.monotonic() + at_most_s
    while not (value := condition()):
        if time.monotonic() > deadline_s:
            pytest.fail(f"in vain: waited {at_most_s} s for {what}")
        time.sleep(0.01)
    return value


@dataclass
class Caller:
    """A running caller.py and what it said it holds."""

    process: subprocess.Popen[str]
    about: dict[str, Any]

    def left(self) -> list[str]:
        """What still exists of what it held: processes, cgroups, folder."""
        identities = [ProcessIdentity.from_json(data) for data in self.about["processes"]]
        left = [f"process {identity.pid}" for identity in identities if identity.alive()]
        left += [path for path in [*self.about["cgroups"], self.about["folder"]] if Path(path).exists()]
        return left + [line for line in Path("/proc/mounts").read_text().splitlines() if self.about["folder"] in line]

    def processes_left(self) -> list[str]:
        return [what for what in self.left() if what.startswith("process")]


def start_caller(ledger_folder: Path, how: str, *before: str, env: dict[str, str] | None = None) -> Caller:
    process = subprocess.Popen(
        [*before, sys.executable, str(CALLER), str(ledger_folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    if not line:
        pytest.fail(process.stderr.read())
    caller = Caller(process, json.loads(line))
    assert len(caller.about["processes"]) >= 6
    return caller
