"""Call a component's entry as a server does: bytes in; status, JSON body and the X-Mlscale-* headers out.

A component that needs others (`Component.calls`) answers with a generator: it yields calls, (component's name, body),
gets the other's answer to each as a mapping, and returns its own. `Exchange` runs it without any I/O: who serves it
carries the calls out, over whatever its framework has.

Our own server uses it, and so do the environments whose frameworks bring servers of their own. Standard library alone:
what a replica imports is paid inside its CPU quota.
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

# A component that has not answered after that long counts as not reachable: less than a client waits (30 s).
CALL_TIMEOUT_S: Final = 20.0
TOO_LATE: Final = f"did not answer within {CALL_TIMEOUT_S:g} s"


@dataclass(frozen=True)
class Reply:
    """What goes back to the client. ``error`` is the exception behind a status of 500, for the log; ``inference_s`` the
    service's wall time, calls included."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    error: BaseException | None = None
    inference_s: float = 0.0


@dataclass(frozen=True)
class Call:
    """What a component asks of another one."""

    component: str
    body: bytes


Answered = tuple[int, bytes, Mapping[str, str]]
"""What a called component answered: HTTP status, body, headers."""
Carrier = Callable[[Call], Answered]


class CallFailed(Exception):  # noqa: N818 (it says what happened)
    """A component that was called gave no answer that can be used. Raised inside the caller, which may catch it; else
    it is a 503 with ``reason``."""

    http_status = 503

    def __init__(self, component: str, what: str) -> None:
        super().__init__(component, what)
        self.reason = f"component {component!r} {what}"


def load_entry(entry: str) -> Answer:
    """The callable that the factory named by ``entry`` ("package.module:factory") makes.

    Raises:
        ImportError, AttributeError, ValueError: there is no such factory; or whatever the factory raises.
    """
    module, _, factory = entry.partition(":")
    if not module or not factory:
        raise ValueError(f'entry {entry!r} is not of the form "package.module:factory"')
    answer: Answer = getattr(importlib.import_module(module), factory)()
    return answer


class Exchange:
    """One request to a component, step by step: `begin`, then `resume` or `fail` after each Call, until a Reply comes.

    A ValueError is the sender's fault: its ``http_status`` where that is a 4xx, else 400, with {"error": reason}.
    Anything else raised is its ``http_status`` where that is a 5xx (with its ``reason``), else 500.

    Headers of the reply: X-Mlscale-Replica; X-Mlscale-Started-S (time.monotonic() when service began);
    X-Mlscale-Inference-S (wall s from then on, calls included); X-Mlscale-Cpu-S (CPU s of the calling thread). Where
    ``component`` is named, X-Mlscale-Hops too: JSON, a row for this component and one for each call that was answered,
    [component, replica, started_s, queue_s, inference_s]; there inference_s is a component's own work, without its
    calls, and queue_s lies between a call's sending and its service (null in the first row: the client knows).

    Args:
        component: this component's name where it is one of several and calls others.
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
        """Serve the request up to its first call."""
        return self._step(self._first)

    def resume(self, status: int, body: bytes, headers: Mapping[str, str]) -> Call | Reply:
        """Go on with the answer to the call: HTTP status, JSON body, the other's X-Mlscale-* headers."""
        assert self._called is not None
        name = self._called.component
        self._note(name, headers)
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if status != 200:
            said = (content.get("error") or content.get("message")) if isinstance(content, dict) else None
            return self.fail(f"answered {status}: {said}" if said else f"answered {status}")
        if not isinstance(content, dict):
            return self.fail("answered with something that is not a JSON object")
        return self._step(lambda script: script.send(content))

    def fail(self, what: str) -> Call | Reply:
        """Go on without an answer to the call; ``what`` says why, after the other's name: "is not reachable: ..."."""
        assert self._called is not None
        failed = CallFailed(self._called.component, what)
        return self._step(lambda script: script.throw(failed))

    def close(self) -> None:
        """Give the request up."""
        if self._script is not None:
            self._script.close()

    def _first(self, _: Any) -> Any:
        result = self._answer(self._body)
        if not isinstance(result, Generator):
            raise _Done(result)
        self._script = result
        return next(result)

    def _step(self, step: Callable[[Any], Any]) -> Call | Reply:
        began_s, cpu_s = time.monotonic(), time.thread_time()
        error: BaseException | None = None
        asked: Call | None = None
        status, content = 200, b""
        try:
            asked = Call(*step(self._script))
        except (_Done, StopIteration) as end:
            status, content, error = _encoded(end.value)
        except ValueError as fault:
            status = _status(fault, 400)
            content = _error(fault)
        except Exception as failure:  # a server answers whatever its model does
            status = _status(failure, 500)
            reason = getattr(failure, "reason", None) if status != 500 else None
            content = _error(reason or f"{type(failure).__name__}: {failure}")
            error = None if reason else failure
        now_s = time.monotonic()
        self._own_s += now_s - began_s
        self._cpu_s += time.thread_time() - cpu_s
        self._called, self._sent_s = asked, now_s
        return asked or Reply(status, content, self._headers(now_s), error, now_s - self._started_s)

    def _note(self, name: str, headers: Mapping[str, str]) -> None:
        """Keep what the called component said of its service; one that says nothing has no row."""
        said = {key.lower(): text for key, text in headers.items()}
        try:
            started_s, took_s = float(said["x-mlscale-started-s"]), float(said["x-mlscale-inference-s"])
        except (KeyError, ValueError):
            return
        self._hops.append((name, said.get("x-mlscale-replica", ""), started_s, started_s - self._sent_s, took_s))

    def _headers(self, now_s: float) -> dict[str, str]:
        headers = {
            "X-Mlscale-Replica": self._replica,
            "X-Mlscale-Started-S": f"{self._started_s:.6f}",
            "X-Mlscale-Inference-S": f"{now_s - self._started_s:.6f}",
            "X-Mlscale-Cpu-S": f"{self._cpu_s:.6f}",
        }
        if self._component:
            own = (self._component, self._replica, round(self._started_s, 6), None, round(self._own_s, 6))
            rest = [(name, replica, *(round(one, 6) for one in times)) for name, replica, *times in self._hops]
            headers["X-Mlscale-Hops"] = json.dumps([own, *rest], separators=(",", ":"))
        return headers


class _Done(Exception):  # noqa: N818
    """The answer of a component that called nobody."""

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
    """Answer one request, carrying calls out one after the other (see `Exchange`).

    Args:
        call: carries one out: status, body and headers of the answer. Raises TimeoutError where it came too late, and
            OSError where there was none; what else it raises ends the exchange and passes through.
    """
    exchange = Exchange(answer, body, replica, component)
    try:
        step = exchange.begin()
        while isinstance(step, Call):
            step = _carried_out(exchange, step, call)
    finally:
        exchange.close()
    return step


def _carried_out(exchange: Exchange, asked: Call, call: Carrier | None) -> Call | Reply:
    if call is None:
        return exchange.fail("is not known here")
    try:
        status, content, headers = call(asked)
    except TimeoutError:
        return exchange.fail(TOO_LATE)
    except OSError as error:
        return exchange.fail(f"is not reachable: {type(error).__name__} {error}".rstrip())
    return exchange.resume(status, content, headers)


def _status(error: BaseException, default: int) -> int:
    """The error's own status where that is of the ``default``'s hundred."""
    code = getattr(error, "http_status", default)
    return code if isinstance(code, int) and code // 100 == default // 100 else default


def _encoded(content: Any) -> tuple[int, bytes, BaseException | None]:
    try:
        return 200, json.dumps(dict(content), allow_nan=False).encode(), None
    except (TypeError, ValueError, RecursionError) as error:
        return 500, _error(f"{type(error).__name__}: {error}"), error


def _error(reason: object) -> bytes:
    return json.dumps({"error": str(getattr(reason, "reason", None) or reason)}).encode()
