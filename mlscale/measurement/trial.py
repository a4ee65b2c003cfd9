"""Tries a user's model before anything is deployed: a separate process loads it and answers each body.

Once deployed, a model that can't be loaded, or gives no usable answer, shows only in a framework's log, a minute later.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from mlscale.environments.base import App
from mlscale.errors import MlscaleError
from mlscale.host.log_tail import last_lines
from mlscale.importing import add_working_folder
from mlscale.loadgen.bodies import BodySet, load_check
from mlscale.serving.exchange import Answer, Answered, Call, load_entry, reply_to

_AT_MOST_S: Final = 600.0
_REMEDY: Final = "correct the model, or what is sent"


class Trial(NamedTuple):
    """``said``: how many answers are right and the CPU time of one; ``cpu_s``: that time on a whole core, s."""

    said: str
    cpu_s: float


def try_model(app: App, bodies: BodySet, folder: Path | str) -> Trial:
    """Load every component and answer each of ``bodies``, which were read from ``folder``, once.

    Raises:
        MlscaleError: a component can't be loaded, or a body gets no answer; names the component or the file.
    """
    check = load_check(app.check, bodies.labels)
    entries = {component.name: component.entry for component in app.components}
    words = (sys.executable, "-P", "-m", __name__, json.dumps(entries), app.front, str(Path(folder).resolve()))
    gone, held = os.pipe()  # the trial ends when nobody holds the other end, also by kill -9 of this process
    try:
        done = subprocess.run(words, stdin=gone, capture_output=True, text=True, timeout=_AT_MOST_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise MlscaleError(f"no answers within {_AT_MOST_S:g} s", app.name, _REMEDY) from error
    finally:
        os.close(gone)
        os.close(held)
    printed = last_lines(done.stdout, 1)
    if done.returncode or not printed:
        (what,) = last_lines(done.stderr, 1) or [f"exit code {done.returncode}"]
        raise MlscaleError(f"the model can't be tried: {what}", app.name, _REMEDY)
    found = json.loads(printed[0])
    if "what" in found:
        raise MlscaleError(found["what"], found["where"], _REMEDY)
    answers = [json.loads(answer) for answer in found["answers"]]
    cpu_s = float(found["cpu_s"])
    cost = f"{1000 * cpu_s:.3g} ms of CPU per answer on a whole core"
    if check is None or bodies.labels is None:
        return Trial(f"trial: each of {len(answers)} bodies is answered; {cost}", cpu_s)
    wrong = [
        f"{name}: {json.dumps(answer)[:120]}"
        for name, label, answer in zip(bodies.names, bodies.labels, answers, strict=True)
        if not check(label, answer)
    ]
    right = f"trial: {len(answers) - len(wrong)} of {len(answers)} answers are right; {cost}"
    return Trial(f"{right}; wrong, and will count as failures: {'; '.join(wrong[:3])}" if wrong else right, cpu_s)


def _tried(entries: dict[str, str], front: str, folder: str) -> dict[str, Any]:
    """What `try_model` reads: {"answers": JSON texts, "cpu_s": mean}, or {"what": ..., "where": ...}."""
    models: dict[str, Answer] = {}
    for name, entry in entries.items():
        try:
            models[name] = load_entry(entry)
        except Exception as error:  # whatever the user's code raises
            return {"what": f"can't be loaded: {type(error).__name__}: {error}", "where": entry}
        if not callable(models[name]):
            return {"what": "the factory returns nothing that can be called", "where": entry}

    def call(called: Call) -> Answered:
        if called.component not in models:
            raise OSError("there is no such component")
        reply = reply_to(models[called.component], called.body, "trial", called.component, call)
        return reply.status, reply.body, reply.headers

    bodies = BodySet.read(folder)
    answers, began_s = [], time.process_time()
    for name, body in zip(bodies.names, bodies.bodies, strict=True):
        reply = reply_to(models[front], body, "trial", call=call)
        if reply.status != 200:
            reason = json.loads(reply.body)["error"]
            usable = "" if reply.error is None else " (an answer is a mapping that JSON can hold)"
            return {"what": f"answered {reply.status}: {reason}{usable}", "where": str(Path(folder) / name)}
        answers.append(reply.body.decode())
    return {"answers": answers, "cpu_s": (time.process_time() - began_s) / len(answers)}


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin, whose lock would keep the interpreter from ending
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    add_working_folder()
    sys.stdout.write(json.dumps(_tried(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3])))
