"""Tries a user's model before anything is deployed: a separate process loads it and answers a few bodies.

Once deployed, a model that can't be loaded, or gives no usable answer, shows only in a framework's log, a minute later.
The process reports through a descriptor of its own, so that a model may print what it likes. What it starts is ended
with it.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from mlscale.environments.base import App
from mlscale.errors import MlscaleError
from mlscale.host.log_tail import last_lines
from mlscale.host.processes import MARKER_VARIABLE, end_group, end_marked
from mlscale.importing import add_working_folder
from mlscale.loadgen.bodies import BodySet, Check, Label, load_check
from mlscale.serving.exchange import Answer, Answered, Call, load_entry, reply_to

# Bodies that are answered, spread evenly over the set; how long a next one is begun, and until when all are answered
# again, s: threads that start with the model keep cores busy for tens of milliseconds.
MOST_BODIES: Final = 16
ANSWERS_AT_MOST_S, ANSWERS_AT_LEAST_S = 20.0, 1.0
LOAD_AT_MOST_S: Final = 120.0
_POLL_S: Final = 0.1
_REMEDY: Final = "correct the model, or what is sent"


class Cost(NamedTuple):
    """What a model takes on a whole core: CPU and wall time of an answer (without waiting for a core, where the kernel
    counts that), CPU of loading, s; resident memory, bytes.

    Attributes:
        low_s, high_s: CPU of the cheapest and the dearest body, s.
        first_s: wall time of the very first answer, s.
        alike: whether the same body got the same answer twice.
        body_bytes, answer_bytes: mean size of what is sent and answered.
    """

    cpu_s: float
    wall_s: float
    load_cpu_s: float
    memory_bytes: float
    low_s: float = math.nan
    high_s: float = math.nan
    first_s: float = math.nan
    alike: bool = True
    body_bytes: float = math.nan
    answer_bytes: float = math.nan


class Trial(NamedTuple):
    """``said``: how many answers are right, and the CPU time of one."""

    said: str
    cost: Cost


def try_model(
    app: App,
    bodies: BodySet,
    folder: Path | str,
    progress: Callable[[str, float], None] = lambda step, share: None,
    answer_at_most_s: float = 30.0,
) -> Trial:
    """Load every component and answer some of ``bodies``, which were read from ``folder``, once.

    Args:
        progress: called with the current step and its share done.
        answer_at_most_s: a request's timeout, s.

    Raises:
        MlscaleError: a component can't be loaded, a body gets no answer in time, or no answer is right; names the
            component or the file.
    """
    check = load_check(app.check, bodies.labels)
    chosen = _spread(len(bodies), MOST_BODIES)
    names = [bodies.names[number] for number in chosen]
    with _started(app, names, Path(folder)) as (process, report, log):
        rows = _watched(process, report, log, app.name, names, progress, answer_at_most_s)
    answers = [json.loads(row["answer"]) for row in rows if "answer" in row]
    cost = Cost(**rows[-1]["cost"])
    said = _judged(app, check, bodies, chosen, answers)
    left_out = len(bodies) - len(answers)
    rest = f"; {left_out} of {len(bodies)} bodies were left out" if left_out else ""
    return Trial(f"trial: {said}{rest}; {1000 * cost.cpu_s:.3g} ms of CPU per answer on a whole core", cost)


def _judged(app: App, check: Check | None, bodies: BodySet, chosen: Sequence[int], answers: Sequence[Any]) -> str:
    """How many answers are right, and the wrong ones. Raises MlscaleError if none is."""
    if check is None or bodies.labels is None:
        return f"each of {len(answers)} bodies is answered"
    wrong = [
        f"{bodies.names[number]}: {json.dumps(answer)[:120]}"
        for number, answer in zip(chosen, answers, strict=False)
        if not _is_right(app, check, bodies.labels[number], answer)
    ]
    if len(wrong) == len(answers):
        raise MlscaleError(
            f"none of {len(answers)} answers is right: {'; '.join(wrong[:3])}",
            app.name,
            "correct the model or labels.jsonl, or leave answers unchecked: --check none",
        )
    right = f"{len(answers) - len(wrong)} of {len(answers)} answers are right"
    return f"{right}; wrong, and will count as failures: {'; '.join(wrong[:3])}" if wrong else right


def _is_right(app: App, check: Check, label: Label, answer: Any) -> bool:
    try:
        return bool(check(label, answer))
    except Exception as error:  # whatever the user's code raises
        what = f"it raised {type(error).__name__}: {error}"
        raise MlscaleError(what, f"--check {app.check} on {label['file']}", "correct the function") from error


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` numbers, evenly spread."""
    return sorted({number * count // most for number in range(most)}) if count > most else [*range(count)]


@contextmanager
def _started(
    app: App, names: Sequence[str], folder: Path
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    """The trial's process, the file that it reports to and the one that the model prints to. Ends what it started."""
    entries = {component.name: component.entry for component in app.components}
    marker = f"trial-{uuid.uuid4().hex[:12]}"
    gone, held = os.pipe()  # the trial ends when nobody holds the other end, also by kill -9 of this process
    with ExitStack() as stack:
        stack.callback(os.close, held)
        report, log = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        request = {
            "entries": entries,
            "front": app.front,
            "folder": str(folder.resolve()),
            "names": names,
            "at_most_s": ANSWERS_AT_MOST_S,
        }
        try:
            process = subprocess.Popen(
                (sys.executable, "-P", "-m", __name__, str(report.fileno()), json.dumps(request)),
                stdin=gone,
                stdout=log,
                stderr=log,
                pass_fds=(report.fileno(),),
                start_new_session=True,
                env={**os.environ, MARKER_VARIABLE: marker},
            )
        finally:
            os.close(gone)
        try:
            yield process, report, log
        finally:
            end_group(process.pid, 0.0)
            process.wait()
            end_marked(marker, 0.0)


def _watched(
    process: subprocess.Popen[bytes],
    report: IO[bytes],
    log: IO[bytes],
    name: str,
    bodies: Sequence[str],
    progress: Callable[[str, float], None],
    answer_at_most_s: float,
) -> list[dict[str, Any]]:
    """The rows of the report, of which the last has the cost. Raises MlscaleError if it takes too long or fails."""
    rows: list[dict[str, Any]] = []
    since_s = time.monotonic()
    while True:
        ended = process.poll() is not None
        before, rows = len(rows), _rows(report)
        if rows and "what" in rows[-1]:
            raise MlscaleError(rows[-1]["what"], rows[-1]["where"], _REMEDY)
        if rows and "cost" in rows[-1]:
            return rows
        if ended:
            printed = last_lines(_text(log), 1)
            reason = f"exit code {process.returncode}" + (f", after {printed[0]!r}" if printed else "")
            raise MlscaleError(f"the model ended the process that tried it: {reason}", name, _REMEDY)
        now_s = time.monotonic()
        since_s = now_s if len(rows) > before else since_s
        waited_s = now_s - since_s
        if not rows:
            progress(f"trying the model: loading, for at most {LOAD_AT_MOST_S:g} s", waited_s / LOAD_AT_MOST_S)
            if waited_s > LOAD_AT_MOST_S:
                raise MlscaleError(f"it is not loaded after {LOAD_AT_MOST_S:g} s", name, _REMEDY)
        else:
            answered = sum("answer" in row for row in rows)
            progress(f"trying the model: {len(bodies)} answer{'s' * (len(bodies) > 1)}", answered / len(bodies))
            if waited_s > answer_at_most_s:
                body = bodies[min(answered, len(bodies) - 1)]
                what = f"no answer within {answer_at_most_s:g} s, after which a request has failed"
                raise MlscaleError(what, f"{name} on {body}", f"{_REMEDY}, or give requests longer: --set timeout_s=")
        time.sleep(_POLL_S)


def _rows(report: IO[bytes]) -> list[dict[str, Any]]:
    """The complete lines so far."""
    return [json.loads(line) for line in _text(report).split("\n")[:-1]]


def _text(file: IO[bytes]) -> str:
    """All of a file whose offset its writer shares."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def _try(
    entries: Mapping[str, str],
    front: str,
    folder: str,
    names: Sequence[str],
    at_most_s: float,
    say: Callable[..., object],
) -> None:
    """What `try_model` reads: {"step": ...} twice, an {"answer": JSON text} for each body, and {"cost": ...}; or at any
    time {"what": ..., "where": ...}."""
    models: dict[str, Answer] = {}
    began_s = time.process_time()
    for name, entry in entries.items():
        try:
            models[name] = load_entry(entry)
        except Exception as error:  # whatever the user's code raises
            say(what=f"can't be loaded: {type(error).__name__}: {error}", where=entry)
            return
        if not callable(models[name]):
            say(what="the factory returns nothing that can be called", where=entry)
            return
    load_cpu_s = time.process_time() - began_s

    def call(called: Call) -> Answered:
        if called.component not in models:
            raise OSError("there is no such component")
        reply = reply_to(models[called.component], called.body, "trial", called.component, call)
        return reply.status, reply.body, reply.headers

    say(step="loaded")
    place = Path(folder)
    bodies = [(place / name if place.is_dir() else place).read_bytes() for name in names]
    first_s = time.monotonic()
    first = reply_to(models[front], bodies[0], "trial", call=call)  # often takes longer
    first_s = time.monotonic() - first_s
    say(step="warm")
    begun_s = time.monotonic(), time.process_time(), _delayed_s()
    taken_s: dict[str, list[float]] = {}
    answers = {names[0]: first.body}
    alike = True
    for name, body in cycle(zip(names, bodies, strict=True)):
        passed_s = time.monotonic() - begun_s[0]
        round_ends = name == names[0] and name in taken_s
        if taken_s and (passed_s > at_most_s or (round_ends and passed_s > ANSWERS_AT_LEAST_S)):
            break
        before_s = time.process_time()
        reply = reply_to(models[front], body, "trial", call=call)
        if reply.status != 200:
            reason = json.loads(reply.body)["error"]
            usable = "" if reply.error is None else " (an answer is a mapping that JSON can hold)"
            say(what=f"answered {reply.status}: {reason}{usable}", where=str(place / name))
            return
        if name not in taken_s:
            say(answer=reply.body.decode())
        taken_s.setdefault(name, []).append(time.process_time() - before_s)
        alike = alike and answers.setdefault(name, reply.body) == reply.body
    count = sum(map(len, taken_s.values()))
    delayed_s = _delayed_s() - begun_s[2]  # other programs use the host, too
    wall_s = (time.monotonic() - begun_s[0] - delayed_s) / count
    cpu_s = (time.process_time() - begun_s[1]) / count
    by_body_s = [sum(each) / len(each) for each in taken_s.values()]
    memory_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sizes = [sum(map(len, each)) / len(each) for each in (bodies, [*answers.values()])]
    cost = Cost(cpu_s, wall_s, load_cpu_s, memory_bytes, min(by_body_s), max(by_body_s), first_s, alike, *sizes)
    say(cost=cost._asdict())


def _delayed_s() -> float:
    """How long this thread has waited for a core so far, s; 0 where the kernel does not say
    (Documentation/scheduler/sched-stats.rst)."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin, whose lock would keep the interpreter from ending
    os.killpg(0, signal.SIGKILL)  # with what the model has started


def main() -> None:
    """The process that tries: ``argv`` has the report's descriptor and the request."""
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    add_working_folder()
    _try(**json.loads(sys.argv[2]), say=lambda **row: os.write(descriptor, (json.dumps(row) + "\n").encode()))
    os._exit(0)  # a model's thread must not keep it


if __name__ == "__main__":
    main()
