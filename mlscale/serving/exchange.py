"""Call a component's entry as a server does: bytes in; status, JSON body and the X-Mlscale-* headers out.

A component that needs others (`Component.calls`) answers with a generator: it yields calls (component's name, body),
is sent the answer to each as a mapping, and returns its own answer. `Exchange` runs it without any I/O; the server
makes the calls with its framework's means.

Used by our own server, and by environments whose frameworks have their own. Standard library only: a replica's imports
count against its CPU quota.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Calls = Generator[tuple[str, bytes], Mapping[str, Any], Mapping[str, Any]]
Answer = Callable[[bytes], Mapping[str, Any] | Calls]

# A component that takes longer counts as unreachable. Less than a client's timeout (30 s).
CALL_TIMEOUT_S: Final = 20.0
TOO_LATE: Final = f"did not answer within {CALL_TIMEOUT_S:g} s"


@dataclass(frozen=True)
class Reply:
    """The answer to the client. ``error`` is the exception behind a status of 500, for the log; ``inference_s`` is the
    wall time of the service, calls included."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    error: BaseException | None = None
    inference_s: float = 0.0


@dataclass(frozen=True)
class Call:
    """A call of another component."""

    component: str
    body: bytes


Answered = tuple[int, bytes, Mapping[str, str]]
"""A called component's answer: HTTP status, body, headers."""
Carrier = Callable[[Call], Answered]


class CallFailed(Exception):  # noqa: N818 (names what happened)
    """A called component gave no usable answer. Raised inside the caller; if it is not caught, the answer is a 503 with
    ``reason``."""

    http_status = 503

    def __init__(self, component: str, what: str) -> None:
        super().__init__(component, what)
        self.reason = f"component {component!r} {what}"


def load_entry(entry: str) -> Answer:
    """The callable that the factory ``entry`` ("package.module:factory") returns.

    Raises:
        ImportError, AttributeError, ValueError: there is no such factory; also whatever the factory raises.
    """
    module, _, factory = entry.partition(":")
    if not module or not factory:
        raise ValueError(f'entry {entry!r} is not of the form "package.module:factory"')
    answer: Answer = getattr(importlib.import_module(module), factory)()
    return answer


class Exchange:
    """One request to a component: `begin`, then `resume` or `fail` after each Call, until a Reply is returned.

    A ValueError is the sender's fault: answered with its ``http_status`` if that is a 4xx, else 400, and {"error":
    reason}. Any other exception is answered with its ``http_status`` if that is a 5xx (and its ``reason``), else 500.

    Headers of the reply: X-Mlscale-Replica; X-Mlscale-Started-S (time.monotonic() when service began);
    X-Mlscale-Inference-S (wall s from then on, calls included); X-Mlscale-Cpu-S (CPU s of the calling thread). With
    ``component``, also X-Mlscale-Hops: JSON with a row for this component and one for each answered call, [component,
    replica, started_s, queue_s, inference_s]. There, inference_s excludes a component's own calls, and queue_s is the
    time from sending a call to the start of its service (null in the first row: the client knows it).

    Args:
        component: this component's name, if it calls others.
    """

    def __init__(self, answer: Answer, body: bytes, replica: str, component: str = "") -> None:
        self._answer, self._body, self._replica, self._component = answer, body, replica, component
        self._script: Calls | None = None
        self._started_s = time.monotonic()
        self._own_s = self._cpu_s = 0.0
        self._called: Call | None = None
        self._sent_s = 0.0
        self._hops: list[tuple[str, str, float, float, float]] = []

    def begin(self) -> Call | Reply:
        """Serve the request up to its first call, if any."""
        return self._step(self._call_entry)

    def resume(self, status: int, body: bytes, headers: Mapping[str, str]) -> Call | Reply:
        """Continue with the answer to the call: HTTP status, JSON body and the X-Mlscale-* headers."""
        assert self._called is not None
        name = self._called.component
        self._record_hop(name, headers)
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if status != 200:
            reason = (content.get("error") or content.get("message")) if isinstance(content, dict) else None
            return self.fail(f"answered {status}: {reason}" if reason else f"answered {status}")
        if not isinstance(content, dict):
            return self.fail("answered with something that is not a JSON object")
        return self._step(lambda script: script.send(content))

    def fail(self, what: str) -> Call | Reply:
        """Continue without an answer to the call; ``what`` follows the component's name: "is not reachable: ..."."""
        assert self._called is not None
        failed = CallFailed(self._called.component, what)
        return self._step(lambda script: script.throw(failed))

    def close(self) -> None:
        """Abandon the request."""
        if self._script is not None:
            self._script.close()

    def _call_entry(self, _: Any) -> Any:
        result = self._answer(self._body)
        if not isinstance(result, Generator):
            raise _Done(result)
        self._script = result
        return next(result)

    def _step(self, step: Callable[[Any], Any]) -> Call | Reply:
        began_s, cpu_s = time.monotonic(), time.thread_time()
        error: BaseException | None = None
        call: Call | None = None
        status, content = 200, b""
        try:
            call = Call(*step(self._script))
        except (_Done, StopIteration) as end:
            status, content, error = _encoded(end.value)
        except ValueError as fault:
            status = _status(fault, 400)
            content = _error(fault)
        except Exception as failure:  # whatever the model does, the server answers
            status = _status(failure, 500)
            reason = getattr(failure, "reason", None) if status != 500 else None
            content = _error(reason or f"{type(failure).__name__}: {failure}")
            error = None if reason else failure
        now_s = time.monotonic()
        self._own_s += now_s - began_s
        self._cpu_s += time.thread_time() - cpu_s
        self._called, self._sent_s = call, now_s
        return call or Reply(status, content, self._headers(now_s), error, now_s - self._started_s)

    def _record_hop(self, name: str, headers: Mapping[str, str]) -> None:
        """Record how the called component was served; without its headers there is no row."""
        lowered = {key.lower(): text for key, text in headers.items()}
        try:
            started_s, inference_s = float(lowered["x-mlscale-started-s"]), float(lowered["x-mlscale-inference-s"])
        except (KeyError, ValueError):
            return
        replica = lowered.get("x-mlscale-replica", "")
        self._hops.append((name, replica, started_s, started_s - self._sent_s, inference_s))

    def _headers(self, now_s: float) -> dict[str, str]:
        headers = {
            "X-Mlscale-Replica": self._replica,
            "X-Mlscale-Started-S": f"{self._started_s:.6f}",
            "X-Mlscale-Inference-S": f"{now_s - self._started_s:.6f}",
            "X-Mlscale-Cpu-S": f"{self._cpu_s:.6f}",
        }
        if self._component:
            own = (self._component, self._replica, round(self._started_s, 6), None, round(self._own_s, 6))
            rest = [(name, replica, *(round(time_s, 6) for time_s in times)) for name, replica, *times in self._hops]
            headers["X-Mlscale-Hops"] = json.dumps([own, *rest], separators=(",", ":"))
        return headers


class _Done(Exception):  # noqa: N818
    """Carries the answer of an entry that is not a generator, as StopIteration does for one that is."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


def reply_to(
    answer: Answer,
    body: bytes,
    replica: str,
    component: str = "",
    call: Carrier | None = None,
) -> Reply:
    """Answer one request, making its calls one after the other (see `Exchange`).

    Args:
        call: makes a call and returns the answer's status, body and headers. Raises TimeoutError if the answer is late,
            OSError if there is none; any other exception ends the exchange and is passed on.
    """
    exchange = Exchange(answer, body, replica, component)
    try:
        step = exchange.begin()
        while isinstance(step, Call):
            step = _execute(exchange, step, call)
    finally:
        exchange.close()
    return step


def _execute(exchange: Exchange, request: Call, call: Carrier | None) -> Call | Reply:
    if call is None:
        return exchange.fail("is not known here")
    try:
        status, content, headers = call(request)
    except TimeoutError:
        return exchange.fail(TOO_LATE)
    except OSError as error:
        return exchange.fail(f"is not reachable: {type(error).__name__} {error}".rstrip())
    return exchange.resume(status, content, headers)


def _status(error: BaseException, default: int) -> int:
    """The error's own status if it is in the same class (4xx, 5xx) as ``default``."""
    code = getattr(error, "http_status", default)
    return code if isinstance(code, int) and code // 100 == default // 100 else default


def _encoded(content: Any) -> tuple[int, bytes, BaseException | None]:
    try:
        return 200, json.dumps(dict(content), allow_nan=False).encode(), None
    except (TypeError, ValueError, RecursionError) as error:
        return 500, _error(f"{type(error).__name__}: {error}"), error


def _error(reason: object) -> bytes:
    return json.dumps({"error": str(getattr(reason, "reason", None) or reason)}).encode()
