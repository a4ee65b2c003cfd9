"""The server's process: listen, load, serve until SIGTERM, drain."""

from __future__ import annotations

import asyncio
import errno
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import uvloop
from aiohttp import web

from mlscale.errors import MlscaleError
from mlscale.importing import add_working_folder
from mlscale.serving.exchange import Answer, Calls
from mlscale.serving.inference import Factory, dumps
from mlscale.serving.server import SERVICE, ServerSettings, Service, create_app, first_line
from mlscale.serving.timeline import Timeline

logger = logging.getLogger(__name__)

# Longer than the 60 s of common load balancers, which must be the first to close an idle connection.
_KEEPALIVE_S = 75.0
_BACKLOG = 1024
# How long the rest of a refused body is read and discarded, so that its sender sees the refusal.
_LINGER_S = 2.0
# Upper limit of a setting: a larger value is taken for a mistake.
_MOST = 10**12


def serve(
    factory: Factory,
    host: str,
    port: int,
    settings: ServerSettings | None = None,
    on_listening: Callable[[str], None] = lambda url: None,
    on_ready: Callable[[], None] = lambda: None,
) -> int:
    """Serve until SIGTERM or SIGINT. Takes over the process's signals and event loop.

    It listens at once and answers 503 until the model is loaded. A signal closes the listening socket; requests in
    flight are still answered, for at most ``settings.drain_s``. A second signal ends the wait.

    Args:
        factory: makes the model (see `mlscale.serving.server.create_app`).
        host, port: where to listen; port 0 takes a free one.
        on_listening: called with the address, such as "http://127.0.0.1:8080".
        on_ready: see `mlscale.serving.inference.ModelThread`.

    Returns:
        The exit code: 0, or 1 if requests were cut off at the end of the drain.

    Raises:
        MlscaleError: the address is not available, or the model can't be loaded.
    """
    chosen = settings or ServerSettings()
    app = create_app(factory, chosen, on_ready)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_serve(app, host, port, chosen, on_listening))
    if not app[SERVICE].model.stop(at_most_s=1.0):
        # The interpreter's shutdown would wait for, or crash under, a thread that is inside native code.
        logger.warning("the model is still busy; leaving it")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def serve_command(
    host: str,
    port: int,
    entry: str,
    max_bytes: int,
    waiting: int,
    body_timeout_s: float,
    drain_s: float,
    warm_up: Path | None,
    component: str = "",
    calls: Mapping[str, str] = MappingProxyType({}),
    in_flight_window_s: float = ServerSettings.in_flight_window_s,
) -> int:
    """``mlscale serve``: `serve` with a log on stderr, which includes the `Timeline` of the start.

    ``component``, ``calls`` and ``in_flight_window_s``: see `ServerSettings`.

    Raises:
        MlscaleError: as `serve`, or a number is out of bounds, or ``warm_up`` can't be read.
    """
    for option, value, least, most in (
        ("--port", port, 0, 65_535),
        ("--max-bytes", max_bytes, 1, _MOST),
        ("--waiting", waiting, 0, _MOST),
        ("--body-timeout", body_timeout_s, 0.001, _MOST),
        ("--drain", drain_s, 0, _MOST),
        ("--in-flight-window", in_flight_window_s, 0.001, _MOST),
    ):
        if not least <= value <= most:
            raise MlscaleError(f"{value} is not possible", option, f"use a number from {least} to {most}")
    timeline = Timeline()
    timeline.at_main()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = ServerSettings(
        max_body_bytes=max_bytes,
        waiting=waiting,
        body_timeout_s=body_timeout_s,
        drain_s=drain_s,
        component=component,
        calls=calls,
        in_flight_window_s=in_flight_window_s,
    )
    if warm_up is not None:
        try:
            settings = replace(settings, warm_up=warm_up.read_bytes())
        except OSError as error:
            raise MlscaleError(f"can't be read: {error.strerror}", str(warm_up), "fix --warm-up") from None
    return serve(
        model_factory(entry, timeline),
        host,
        port,
        settings,
        lambda url: logger.info("listening on %s", url),
        lambda: logger.info("%s", timeline.line()),
    )


def model_factory(entry: str, timeline: Timeline | None = None) -> Factory:
    """A factory that imports and calls ``entry`` ("package.module:factory") when it is called.

    ``timeline`` gets the durations: import_s, weights_s, and first_s for the model's first answer.

    The working directory is importable, as for ``python -m``. The factory raises MlscaleError if there is no such
    entry; errors of the entry itself pass through.
    """
    name, _, attribute = entry.partition(":")
    if not name or not attribute.isidentifier():
        raise MlscaleError(f"{entry!r} is not package.module:factory", "--entry", "use that form")

    phases = timeline or Timeline()

    def make() -> Answer:
        with phases.phase("weights_s"):
            answer = load()
        return _time_first_answer(answer, phases)

    def load() -> Answer:
        add_working_folder()
        try:
            factory = getattr(importlib.import_module(name), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module exists, but one of its imports is missing
            raise MlscaleError(f"no module {error.name!r}", "--entry", "install it, or start in its folder") from None
        except AttributeError as error:
            raise MlscaleError(str(error), "--entry", 'use the form "package.module:factory"') from None
        answer: Answer = factory()
        return answer

    return make


def _time_first_answer(answer: Answer, timeline: Timeline) -> Answer:
    first = [True]

    def timed(body: bytes) -> Mapping[str, Any] | Calls:
        if not first:
            return answer(body)
        first.clear()
        with timeline.phase("first_s"):
            result = answer(body)
        return _time_first_step(result, timeline) if isinstance(result, Generator) else result

    return timed


def _time_first_step(script: Calls, timeline: Timeline) -> Calls:
    """Time the model's warm-up answer; for a model that calls others, only up to its first call."""
    try:
        with timeline.phase("first_s"):
            call = next(script)
        yield call
    except StopIteration as end:
        answer: Mapping[str, Any] = end.value
        return answer
    finally:
        script.close()
    raise AssertionError("a warm-up's call is not answered")


async def _serve(
    app: web.Application,
    host: str,
    port: int,
    settings: ServerSettings,
    on_listening: Callable[[str], None],
) -> int:
    service = app[SERVICE]
    signals = _signals()
    sockets = _listen(host, port)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    listeners: list[asyncio.Server] = []
    try:
        await runner.setup()
        listeners += [await _accept(runner, bound) for bound in sockets]
        on_listening(_url(host, sockets[0]))
        await _until_signal(service, signals)
        return await _drain(service, listeners, settings.drain_s, signals)
    finally:
        for listener in listeners:
            listener.close()
        await runner.cleanup()
        for bound in sockets:
            bound.close()


async def _accept(runner: web.AppRunner, bound: socket.socket) -> asyncio.Server:
    server, loop = runner.server, asyncio.get_running_loop()
    assert server is not None, "set up by the caller"

    def connection() -> _Connection:
        return _Connection(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # what aiohttp documents for none
            auto_decompress=False,
            keepalive_timeout=_KEEPALIVE_S,
            lingering_time=_LINGER_S,
        )

    return await loop.create_server(connection, sock=bound, backlog=_BACKLOG)


class _Connection(web.RequestHandler):
    """aiohttp's handler, but malformed HTTP gets a JSON answer too."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer was sent already")
        if status >= 500:
            logger.error("a request failed", exc_info=exc)
            reason = "internal error; the server's log has the reason"
        else:
            reason = f"the request is malformed: {first_line(message or str(exc))}"
        response = web.Response(status=status, body=dumps({"error": reason}), content_type="application/json")
        response.force_close()
        return response


def _signals() -> asyncio.Semaphore:
    """Released once for each SIGTERM or SIGINT."""
    signals = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.release)
    return signals


def _listen(host: str, port: int) -> list[socket.socket]:
    """Bound sockets, one for each address of ``host``. Raises MlscaleError."""
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, OverflowError) as error:
        raise MlscaleError(f"no such address: {error}", f"{host}:{port}", "fix --host or --port") from None
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            if sockets and port == 0:
                break  # every address would get a different port
            try:
                sockets.append(_bound(family, kind, protocol, address))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error  # such as IPv6's of localhost, where IPv6 is off
        if missing is not None and not sockets:
            raise missing
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise _unavailable(error, host, port) from None
    return sockets


def _bound(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)  # on Linux two sockets may bind one port; only listening fails
    except OSError:
        listener.close()
        raise
    return listener


def _unavailable(error: OSError, host: str, port: int) -> MlscaleError:
    if error.errno == errno.EADDRINUSE:
        return MlscaleError(
            f"port {port} is in use", f"{host}:{port}", "choose another --port, or stop the server that uses it"
        )
    return MlscaleError(
        f"can't listen: {os.strerror(error.errno or 0)}", f"{host}:{port}", "choose another --host or --port"
    )


def _url(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


async def _until_signal(service: Service, signals: asyncio.Semaphore) -> None:
    """Wait for a signal. Raises the error if the model can't be loaded."""
    stop = asyncio.ensure_future(signals.acquire())
    loaded = asyncio.ensure_future(_loaded(service))
    try:
        await asyncio.wait({stop, loaded}, return_when=asyncio.FIRST_COMPLETED)
        if loaded.done():
            loaded.result()
            logger.info("ready")
        await stop
    finally:
        for task in (stop, loaded):
            task.cancel()


async def _loaded(service: Service) -> None:
    # Shielded: a signal while the model loads cancels the wait, but must not cancel `loaded`, which would then be done.
    await asyncio.shield(asyncio.wrap_future(service.model.loaded))


async def _drain(service: Service, listeners: list[asyncio.Server], drain_s: float, signals: asyncio.Semaphore) -> int:
    service.draining = True
    for _ in range(2):
        await asyncio.sleep(0)  # lets connections that the kernel has already accepted be read
    for listener in listeners:
        listener.close()
    idle = asyncio.ensure_future(service.until_idle())
    second_signal = asyncio.ensure_future(signals.acquire())
    await asyncio.wait({idle, second_signal}, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
    second_signal.cancel()
    if idle.done():
        return 0
    idle.cancel()
    logger.warning("%d requests were cut off", service.metrics.in_flight.now)
    return 1
