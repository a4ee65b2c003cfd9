"""Runs in place of Ray's own setup_worker.py: replaces itself with a replica's interpreter, without importing Ray.

Ray runs that script only for workers with a runtime environment. Replicas have one here, because it names the wrapper
that enforces their quota; a user's replicas need none. Ray's script first imports all of Ray (Ray 2.60: 1 to 4 s of
CPU, before the quota holds). With this one, a replica's start costs what it costs without a runtime environment, all of
it within the quota.

Imports only modules that Python loads at startup anyway.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CONTEXT, _LANGUAGE = "--serialized-runtime-env-context=", "--language="
_KEY = '"py_executable": "'  # as RuntimeEnvContext.serialize writes it


def command(arguments: Sequence[str]) -> list[str]:
    """The worker's command line, run by the interpreter that its runtime environment names (which is all that the
    environment holds here).

    Raises:
        ValueError: the runtime environment names no interpreter.
    """
    context = next((text.removeprefix(_CONTEXT) for text in arguments if text.startswith(_CONTEXT)), "")
    interpreter = _interpreter(context)
    if not interpreter:
        raise ValueError(f"no interpreter is named: {list(arguments)}")
    return [interpreter, *(text for text in arguments if not text.startswith((_CONTEXT, _LANGUAGE)))]


def _interpreter(context: str) -> str:
    """The interpreter in a runtime environment's context (JSON)."""
    if "\\" not in context:
        return context.partition(_KEY)[2].partition('"')[0]
    from json import loads  # only if a character is escaped

    return str(loads(context).get("py_executable", ""))


if __name__ == "__main__":
    become = command(sys.argv[1:])
    os.execv(become[0], become)
