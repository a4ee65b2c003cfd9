"""What Ray starts in place of its own setup_worker.py, by path: a replica enters its quota before Ray is imported.

Ray's script imports Ray, and only then becomes the worker, with the interpreter that its runtime environment names: a
second or more of CPU (Ray 2.60) that a quota entered there would not hold. So a replica's interpreter, the wrapper that
makes and enters its cgroup, is started first here, and runs Ray's script; that one starts the worker with the plain
interpreter. Whatever is no replica goes on to Ray's script as it came.

What this costs is used before the quota, so it imports nothing that Python has not imported by itself.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CONTEXT = "--serialized-runtime-env-context="
_KEY = '"py_executable": "'  # as RuntimeEnvContext.serialize writes it
_WORKER, _SETUP = "default_worker.py", "setup_worker.py"


def command(python: str, arguments: Sequence[str]) -> list[str]:
    """What to become: Ray's setup_worker.py with ``arguments``, run by the interpreter that they name (else by
    ``python``), and told to start the worker with ``python``.

    Raises:
        ValueError: no worker's script is named, beside which Ray's lies.
    """
    script = next((each.removesuffix(_WORKER) + _SETUP for each in arguments if each.endswith(_WORKER)), None)
    if script is None:
        raise ValueError(f"no {_WORKER} among {list(arguments)}")
    first, passed = python, list(arguments)
    for place, each in enumerate(passed):
        if each.startswith(_CONTEXT):
            first, context = _exchanged(each.removeprefix(_CONTEXT), python)
            passed[place] = _CONTEXT + context
    return [first, script, *passed]


def _exchanged(context: str, python: str) -> tuple[str, str]:
    """The interpreter that a runtime environment's context (JSON) names, and the context with ``python`` instead."""
    if "\\" in context:  # escaped characters
        from json import dumps, loads

        content = loads(context)
        return content.get("py_executable") or python, dumps({**content, "py_executable": python})
    named = context.partition(_KEY)[2].partition('"')[0]
    return (named, context.replace(_KEY + named, _KEY + python)) if named else (python, context)


if __name__ == "__main__":
    become = command(sys.executable, sys.argv[1:])
    os.execv(become[0], become)
