"""What stands in for Ray's setup_worker.py: replicas' own interpreters come first, all others are passed on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private.runtime_env.context import RuntimeEnvContext

from mlscale.environments import rayserve_setup_worker
from mlscale.environments.rayserve_setup_worker import command

WORKERS = "/site-packages/ray/_private/workers"
WORKER = [f"{WORKERS}/default_worker.py", "--node-ip-address=127.0.0.1"]


def context(**named: str) -> str:
    """As Ray's runtime environment agent writes it and its raylet passes it on."""
    return "--serialized-runtime-env-context=" + RuntimeEnvContext(**named).serialize()


@pytest.mark.parametrize("wrapper", ["/tmp/mls-1/python-app", '/tmp/büro "1"/python-app'])
def test_a_replicas_interpreter_runs_rays_script_which_starts_the_worker_with_the_plain_one(wrapper: str) -> None:
    found = command("/venv/bin/python", [*WORKER, context(py_executable=wrapper, env_vars={"A": "B"}), "--language=0"])  # type: ignore[arg-type]
    assert found[:4] == [wrapper, f"{WORKERS}/setup_worker.py", *WORKER]
    told = json.loads(found[4].partition("=")[2])
    assert told == json.loads(RuntimeEnvContext(env_vars={"A": "B"}, py_executable="/venv/bin/python").serialize())
    assert found[5:] == ["--language=0"]


def test_whatever_names_none_is_passed_on() -> None:
    for passed in ([*WORKER], [*WORKER, "--serialized-runtime-env-context={}", "--language=0"]):
        assert command("python", passed) == ["python", f"{WORKERS}/setup_worker.py", *passed]


def test_without_a_worker_it_is_said_what_came() -> None:
    with pytest.raises(ValueError, match=r"no default_worker.py among .*--language=0"):
        command("python", ["--language=0"])


def test_it_imports_nothing_of_its_own() -> None:
    file = Path(rayserve_setup_worker.__file__)
    more = "import runpy, sys; before = set(sys.modules); sys.argv = ['', 'default_worker.py']; import os; "
    more += f"os.execv = lambda *_: None; source = compile(open({str(file)!r}).read(), 'it', 'exec'); "
    more += "before = set(sys.modules); exec(source, {'__name__': '__main__'}); print(set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-c", more], capture_output=True, text=True, check=True)
    assert found.stdout.strip() in ("set()", "{'__future__'}")
