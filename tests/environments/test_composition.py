"""What has to hold of an application's components, and what both frameworks are told of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mlscale.environments.base import App, Component, Scaling
from mlscale.environments.composition import (
    app_problems,
    callees_first,
    composition_problems,
    shared_budget,
    shared_component,
)
from mlscale.environments.kubernetes.k3s import K3s
from mlscale.environments.kubernetes.preflight import name_problems
from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.environments.rayserve import deployments
from mlscale.environments.rayserve.environment import RayServe
from mlscale.environments.rayserve.settings import RayServeScaling
from mlscale.environments.torchserve import model_handler
from mlscale.environments.torchserve.api import COMPONENT_FILE
from mlscale.environments.torchserve.environment import TorchServe
from mlscale.environments.torchserve.model_handler import Handler
from mlscale.environments.torchserve.server import Layout, Ports, build_archive, configuration, write_python
from mlscale.environments.torchserve.settings import TorchServeScaling
from mlscale.serving.exchange import Call, Exchange, Reply


def _app(front: str = "a", **calls: tuple[str, ...]) -> App:
    return App("demo", "1", tuple(Component(name, "json:loads", calls=called) for name, called in calls.items()), front)


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (_app(), "no components"),
        (_app("z", a=()), "no component 'z'"),
        (_app(a=("b",)), "calls 'b', which is not there"),
        (_app(a=("b",), b=("a",)), "in a circle"),
        (_app(a=("a",)), "in a circle"),
        (_app(a=(), b=()), "nobody calls it"),
        (App("demo", "1", (Component("a", "json:loads"),) * 2, "a"), "there twice"),
        (_app("a b", **{"a b": ()}), "is called 'a b'"),
        (_app("a;rm", **{"a;rm": ()}), "is called 'a;rm'"),
    ],
)
def test_what_is_wrong_with_an_app_is_said(app: App, text: str) -> None:
    problems = composition_problems(app)
    assert any(text in problem.what for problem in problems), problems
    for environment, scaling in ((RayServe(), RayServeScaling()), (TorchServe(), TorchServeScaling())):
        scalings = {component.name: scaling for component in app.components}
        found = environment.preflight(app, scalings, "live")
        assert any(text in problem.what and problem.fatal for problem in found), environment.name
    scalings = {component.name: KubernetesScaling() for component in app.components}
    on_kubernetes = app_problems(K3s(), app, scalings, "live", here=False)
    assert any(text in problem.what and problem.fatal for problem in on_kubernetes)


def test_an_image_needs_neither_code_nor_weights_here() -> None:
    component = Component("app", "nowhere.to_be_found:make", (Path("/nowhere/weights"),))
    app, settings = App("demo", "1", (component,), "app"), {"app": KubernetesScaling()}
    assert app_problems(K3s(), app, settings, "live", here=False) == []
    assert len(app_problems(K3s(), app, settings, "live")) == 2
    (mode,) = app_problems(K3s(), app, settings, "rehearsal", here=False)
    assert mode.what == "unsupported mode 'rehearsal'"
    (wrong,) = app_problems(K3s(), app, {"app": Scaling()}, "live", here=False)
    assert wrong.what == "wrong settings: Scaling"


def test_kubernetes_asks_for_names_that_services_can_have() -> None:
    assert name_problems(_app("localiser", localiser=("readers",), readers=())) == []
    (problem,) = name_problems(_app("localiser", localiser=("Second_Look",), Second_Look=()))
    assert (problem.what, problem.where) == ("not a valid Service name", "component Second_Look")


def test_a_sound_app_has_no_problems_and_its_callees_come_first() -> None:
    app = _app(a=("b", "c"), b=("d",), c=("d",), d=())
    assert composition_problems(app) == []
    assert [component.name for component in callees_first(app)] == ["d", "b", "c", "a"]
    assert (shared_component(app), shared_component(_app(a=()))) == ("", "a")


def test_the_budget_over_everything_is_the_components_sum() -> None:
    own = Scaling(max_replicas=2, cpu_cores=0.3)
    total = own.model_copy(update={"max_replicas": 3, "cpu_budget": "total", "cpu_period_s": 0.2})
    assert shared_budget({"a": own, "b": own}) is None
    budget = shared_budget({"a": own, "b": total})
    assert budget is not None
    assert (budget.cores, budget.period_s) == (pytest.approx(1.5), 0.2)


def test_torchserve_has_one_queue_size() -> None:
    app = _app(a=("b",), b=())
    scalings = {"a": TorchServeScaling(), "b": TorchServeScaling(job_queue_size=7)}
    assert any("job_queue_size" in problem.what for problem in TorchServe().preflight(app, scalings, "live"))


def test_torchserve_gets_a_model_for_each_component(tmp_path: Path) -> None:
    app = _app(a=("b",), b=())
    layout, ports = Layout(tmp_path / "serve"), Ports()
    layout.create()
    scalings = {"b": TorchServeScaling(), "a": TorchServeScaling(min_replicas=2)}
    settings = configuration(ports, scalings)
    assert settings["load_models"] == "b.mar,a.mar"
    models = json.loads(settings["models"])
    assert {name: model["1.0"]["minWorkers"] for name, model in models.items()} == {"a": 2, "b": 1}
    archives = [build_archive(layout, ports, app, component) for component in app.components]
    assert [archive.name for archive in archives] == ["a.mar", "b.mar"]


def test_each_component_has_a_python_of_its_own(tmp_path: Path) -> None:
    """TorchServe knows one Python: it is a script that looks where it was started."""
    layout = Layout(tmp_path / "serve")
    layout.create()
    wrappers = {}
    for name in ("a", "b"):
        wrappers[name] = tmp_path / f"wrapper {name}"
        wrappers[name].write_text(f'#!/bin/sh\necho {name} "$@"\n')
        wrappers[name].chmod(0o755)
    assert write_python(layout, {"a": wrappers["a"]}) == wrappers["a"], "one component needs no script"
    script = write_python(layout, wrappers)
    for name, expected in (("a", "a -c x y\n"), ("b", "b -c x y\n")):
        (tmp_path / COMPONENT_FILE).write_text(name + "\n")
        done = subprocess.run([str(script), "-c", "x y"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == expected
    (tmp_path / COMPONENT_FILE).write_text("c\n")
    assert subprocess.run([str(script)], cwd=tmp_path, check=False).returncode == 125, "a replica without its quota"


class Other(BaseHTTPRequestHandler):
    """The called component's model, as TorchServe shows it."""

    seen: ClassVar[list[tuple[str, str, bytes]]] = []
    stall: ClassVar[threading.Event] = threading.Event()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["Authorization"], body))
        if body == b"stall":
            self.stall.wait(20)
        status = 500 if body == b"die" else 200
        text = b'{"code": 500, "message": "Worker died."}' if body == b"die" else b'{"n": 1}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Mlscale-Replica", "replica-9")
        self.send_header("X-Mlscale-Started-S", f"{time.monotonic():.6f}")
        self.send_header("X-Mlscale-Inference-S", "0.001")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def other() -> Iterator[str]:
    Other.seen.clear()
    Other.stall.clear()
    server = HTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/predictions/back"
    Other.stall.set()
    server.shutdown()
    thread.join()
    server.server_close()


def _handler(url: str, tmp_path: Path) -> Handler:
    (tmp_path / "keys").write_text(json.dumps({"inference": {"key": "secret"}}))
    handler = Handler()
    handler._calls, handler._keys = {"back": url}, tmp_path / "keys"
    return handler


def _front(body: bytes) -> Any:
    found = yield "back", body
    return {"found": found["n"]}


def _handled(handler: Handler, body: bytes) -> Reply:
    from mlscale.serving.exchange import reply_to

    return reply_to(_front, body, f"replica-{os.getpid()}", "front", handler._call)


def test_torchserves_front_calls_the_other_model(other: str, tmp_path: Path) -> None:
    reply = _handled(_handler(other, tmp_path), b"photo")
    assert (reply.status, json.loads(reply.body)) == (200, {"found": 1})
    assert Other.seen == [("/predictions/back", "Bearer secret", b"photo")]
    assert [hop[:2] for hop in json.loads(reply.headers["X-Mlscale-Hops"])][1] == ["back", "replica-9"]


def test_a_worker_that_died_or_is_not_there_is_a_503(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = _handled(_handler(other, tmp_path), b"die")
    assert (died.status, "answered 500: Worker died." in json.loads(died.body)["error"]) == (503, True)
    gone = _handled(_handler("http://127.0.0.1:9/predictions/back", tmp_path), b"photo")
    assert (gone.status, "is not reachable" in json.loads(gone.body)["error"]) == (503, True)
    monkeypatch.setattr(model_handler, "CALL_TIMEOUT_S", 0.1)
    late = _handled(_handler(other, tmp_path), b"stall")
    assert (late.status, "did not answer within" in json.loads(late.body)["error"]) == (503, True)


class Response:
    """Stands in for Ray Serve's DeploymentResponse, which can't be had without a cluster."""

    def __init__(self, outcome: Any) -> None:
        self._outcome, self.cancelled = outcome, False

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        if self._outcome is None:
            await asyncio.Event().wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """Stands in for a DeploymentHandle."""

    def __init__(self, response: Response) -> None:
        self.answer, self.response = self, response

    def remote(self, _: bytes) -> Response:
        return self.response


def _model(response: Response, monkeypatch: pytest.MonkeyPatch) -> deployments.Model:
    monkeypatch.setattr(deployments, "load_entry", lambda _: _front)
    return deployments.Model("front", "anything:here", False, back=Handle(response))


def test_rays_front_awaits_the_other_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model(Response((200, b'{"n": 4}', {})), monkeypatch)
    status, body, _ = asyncio.run(model.answer(b"photo"))
    assert (status, json.loads(body)) == (200, {"found": 4})


def test_a_deployment_that_fails_or_is_late_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import BackPressureError

    for error in (RayActorError(), BackPressureError(num_queued_requests=3, max_queued_requests=2)):
        status, body, _ = asyncio.run(_model(Response(error), monkeypatch).answer(b"photo"))
        assert (status, type(error).__name__ in json.loads(body)["error"]) == (503, True)
    monkeypatch.setattr(deployments, "CALL_TIMEOUT_S", 0.05)
    response = Response(None)
    status, body, _ = asyncio.run(_model(response, monkeypatch).answer(b"photo"))
    assert (status, "did not answer within" in json.loads(body)["error"]) == (503, True)
    assert response.cancelled, "the late call is called off"


def test_a_request_that_is_cancelled_cancels_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    response = Response(None)
    ended: list[bool] = []
    monkeypatch.setattr(Exchange, "close", lambda _: ended.append(True))

    async def given_up() -> None:
        task = asyncio.ensure_future(_model(response, monkeypatch).answer(b"photo"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(given_up())
    assert response.cancelled
    assert ended == [True]


def test_a_call_to_a_stranger_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "load_entry", lambda _: _front)
    model = deployments.Model("front", "anything:here", False, another=None)
    status, body, _ = asyncio.run(model.answer(b""))
    assert (status, "not among its calls" in json.loads(body)["error"]) == (503, True)
    assert Call("back", b"") == Call("back", b"")
