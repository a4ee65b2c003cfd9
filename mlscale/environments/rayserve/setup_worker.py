"""What Ray starts in place of its own setup_worker.py, by path: becomes a replica's interpreter, without Ray.

Ray runs that script for workers with a runtime environment only. A replica has one here, since it names the wrapper
that gives it its quota; one of a user need not have any. Ray's own script imports all of Ray (Ray 2.60: one to four
seconds of CPU, before the quota can hold) to hand over to the interpreter; this one does so at once. What a replica
pays for is then what it pays without a runtime environment, and all of it within its quota.

It costs the start of a Python, so it imports nothing that Python has not imported by itself.
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
    """The worker's command line, by the interpreter that its runtime environment names; keeper.py asks for
    nothing else in one.

    Raises:
        ValueError: none is named.
    """
    context = next((each.removeprefix(_CONTEXT) for each in arguments if each.startswith(_CONTEXT)), "")
    interpreter = _interpreter(context)
    if not interpreter:
        raise ValueError(f"no interpreter is named: {list(arguments)}")
    return [interpreter, *(each for each in arguments if not each.startswith((_CONTEXT, _LANGUAGE)))]


def _interpreter(context: str) -> str:
    """What a runtime environment's context (JSON) names."""
    if "\\" not in context:
        return context.partition(_KEY)[2].partition('"')[0]
    from json import loads  # some character is escaped

    return str(loads(context).get("py_executable", ""))


if __name__ == "__main__":
    become = command(sys.argv[1:])
    os.execv(become[0], become)
