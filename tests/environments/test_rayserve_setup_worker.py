"""What stands in for Ray's setup_worker.py becomes what that would become, without Ray."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private.runtime_env.context import RuntimeEnvContext
from ray.core.generated.common_pb2 import Language

from mlscale.environments.rayserve import setup_worker
from mlscale.environments.rayserve.setup_worker import command

WORKER = ["/ray/workers/default_worker.py", "--node-ip-address=127.0.0.1", "--runtime-env-hash=-12"]


@pytest.mark.parametrize("interpreter", ["/tmp/mls-1/python-app", '/tmp/büro\\"1"/python-app'])
def test_it_becomes_what_rays_own_script_would(interpreter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    context = RuntimeEnvContext(py_executable=interpreter)
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _, args: became.append(args))
    context.exec_worker(WORKER, Language.PYTHON)
    ((_, _, line),) = became
    given = [*WORKER, "--language=PYTHON", f"--serialized-runtime-env-context={context.serialize()}"]
    if interpreter == shlex.quote(interpreter):  # Ray hands any other path to bash as it is
        assert shlex.split(line) == ["exec", *command(given)]
    assert command(given) == [interpreter, *WORKER]


@pytest.mark.parametrize("context", ["", "{}"])
def test_without_an_interpreter_it_says_what_came(context: str) -> None:
    with pytest.raises(ValueError, match=r"no interpreter is named: .*default_worker.py"):
        command([*WORKER, f"--serialized-runtime-env-context={context}"])


def test_it_imports_nothing_that_python_has_not() -> None:
    file = Path(setup_worker.__file__)
    given = [*WORKER, f"--serialized-runtime-env-context={RuntimeEnvContext(py_executable='/bin/true').serialize()}"]
    show = (
        f"import os, sys; sys.argv = ['it', *{given!r}]; os.execv = lambda *_: None\n"
        f"it = compile(open({str(file)!r}).read(), 'it', 'exec'); before = set(sys.modules)\n"
        "exec(it, {'__name__': '__main__'}); print(*sorted(set(sys.modules) - before))"
    )
    found = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["__future__"]
