"""Requests in flight for the HPA: averaged, summed, asked for, and served over HTTP by the real application."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import pytest
from aiohttp import ClientSession, web

from mlscale.serving.metrics import Metrics
from onenode.external_metrics import Source, create_app
from onenode.in_flight_samples import InFlightSamples, MetricQuery, Pod, gauge, parse_selector, pod_of, value_list

APP = "app.kubernetes.io/component"


def pod(name: str, namespace: str = "ns", component: str = "app") -> Pod:
    return Pod(namespace, component, name, f"http://{name}/metrics")


def test_the_sum_over_pods_of_each_ones_mean_over_the_window() -> None:
    samples = InFlightSamples()
    for t, value in ((10.0, 8.0), (11.0, 2.0), (11.5, 4.0)):
        samples.add(pod("a"), t, value)
    samples.add(pod("b"), 11.6, 5.0)
    samples.add(pod("other", component="reader"), 11.6, 100.0)
    samples.add(pod("elsewhere", namespace="x"), 11.6, 100.0)
    assert samples.total("ns", MetricQuery("app", 1.6), 12.0) == pytest.approx(3.0 + 5.0)
    assert samples.total("ns", MetricQuery("app", 0.1), 12.0) is None, "nothing in the window is not zero"
    samples.keep_only({pod("b")})
    assert samples.total("ns", MetricQuery("app", 1.6), 12.0) == 5.0


def test_old_samples_are_dropped() -> None:
    samples = InFlightSamples()
    samples.add(pod("a"), 0.0, 50.0)
    samples.add(pod("a"), 100.0, 1.0)
    assert samples.total("ns", MetricQuery("app", 60.0), 59.0) == 1.0


def test_the_gauge_is_the_servers() -> None:
    metrics = Metrics()
    metrics.in_flight.change(3)
    assert gauge(metrics.text(waiting=1, ready=True)) == 3.0
    assert gauge("something else 5\n") is None


@pytest.mark.parametrize(
    ("selector", "asked"),
    [
        ("component=app,window-ms=1600", MetricQuery("app", 1.6)),
        ("window-ms=500, component=reader", MetricQuery("reader", 0.5)),
        ("component=app", MetricQuery("app", 1.6)),
    ],
)
def test_selectors(selector: str, asked: MetricQuery) -> None:
    assert parse_selector(selector) == asked


@pytest.mark.parametrize(
    "selector", ["", "window-ms=100", "component=app,other=1", "component=app,window-ms=0", "component in (a)"]
)
def test_selectors_that_are_not_understood(selector: str) -> None:
    with pytest.raises(ValueError, match=r"component|window"):
        parse_selector(selector)


def test_an_unknown_total_is_an_empty_list() -> None:
    assert value_list(MetricQuery("app", 1.6), None, "now")["items"] == []
    (item,) = value_list(MetricQuery("app", 1.6), 2.5, "now")["items"]
    assert item["value"] == "2500m"


def test_only_ready_pods_of_a_component_are_asked() -> None:
    ready: dict[str, Any] = {
        "metadata": {"name": "a", "namespace": "ns", "labels": {APP: "app"}},
        "status": {"podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert pod_of(ready, APP, 8080) == Pod("ns", "app", "a", "http://10.0.0.9:8080/metrics")
    unready = json.loads(json.dumps(ready))
    unready["status"]["conditions"][0]["status"] = "False"
    assert pod_of(unready, APP, 8080) is None


def test_it_follows_pods_samples_them_and_answers() -> None:
    """Against an API server and a pod that are small servers of this test (the real ones: tests/live)."""
    asyncio.run(_followed())


async def _followed() -> None:
    async def metrics(_: web.Request) -> web.Response:
        counted = Metrics()
        counted.in_flight.change(7)
        return web.Response(text=counted.text(7, True))

    async def pods(request: web.Request) -> web.StreamResponse:
        item = {
            "metadata": {"uid": "u", "name": "a", "namespace": "ns", "labels": {APP: "app"}},
            "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        }
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": [item]})
        stream = web.StreamResponse()
        await stream.prepare(request)
        await asyncio.sleep(30)
        return stream

    upstream = web.Application()
    upstream.router.add_get("/api/v1/pods", pods)
    upstream.router.add_get("/metrics", metrics)
    runner = web.AppRunner(upstream, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    source = Source(f"http://127.0.0.1:{port}", ssl.create_default_context(), pod_port=port)
    own = web.AppRunner(create_app(source), shutdown_timeout=0.1)
    await own.setup()
    await web.TCPSite(own, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{own.addresses[0][1]}/apis/external.metrics.k8s.io/v1beta1"
    try:
        async with ClientSession() as session, asyncio.timeout(20):
            asked = f"{url}/namespaces/ns/mlscale_in_flight?labelSelector=component%3Dapp%2Cwindow-ms%3D5000"
            while not (items := (await (await session.get(asked)).json())["items"]):
                await asyncio.sleep(0.05)
            assert items[0]["value"] == "7000m"
            assert (await session.get(f"{url}/namespaces/ns/mlscale_in_flight")).status == 400
            assert (await (await session.get(url)).json())["resources"][0]["name"] == "mlscale_in_flight"
    finally:
        await own.cleanup()
        await runner.cleanup()
