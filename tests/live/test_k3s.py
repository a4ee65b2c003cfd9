"""Kubernetes, live on our own one-node cluster: the HPA scales with the load and back, nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from statistics import median

import pytest
from cluster_host import node_processes
from exposure import exposed
from kubernetes_watched import PHOTOS, app, clients, scaling
from load_clients import ask
from watched import Watched

from mlscale.environments.base import App, Component
from mlscale.environments.kubernetes.client import Api, KubeContext, connect
from mlscale.environments.kubernetes.deployed import KubernetesDeployed
from mlscale.environments.kubernetes.endpoint import Endpoint, find_endpoint
from mlscale.environments.kubernetes.k3s import K3s
from mlscale.environments.kubernetes.list_watch import Follower, Relist
from mlscale.environments.kubernetes.manifests import OWNER
from mlscale.environments.kubernetes.names import MANAGED_BY
from mlscale.environments.kubernetes.namespace import KIND
from mlscale.environments.kubernetes.own_cluster import find_own_node
from mlscale.environments.kubernetes.paths import path_of
from mlscale.host.ledger import Ledger
from mlscale.host.reap import cleanup
from mlscale.loadgen.connection import read_hops
from mlscale.runs import MlscaleError, ResourceSample
from onenode.layout import default_layout
from onenode.node import Node

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="our own cluster needs Linux")]


@pytest.fixture
def api(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("KUBECONFIG", str(cluster))
    with closing(connect(KubeContext(str(cluster)))) as client:
        yield client


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create("test-k3s", tmp_path / "ledger") as opened:
        yield opened
    assert not list((tmp_path / "ledger").glob("*.jsonl")), "everything created is gone"


def namespaces(api: Api) -> list[str]:
    items = api.get(path_of("Namespace"), {"labelSelector": f"{MANAGED_BY}=mlscale"})["items"]
    return [item["metadata"]["name"] for item in items]


def test_the_hpa_scales_with_the_load_and_back_and_no_request_is_lost(api: Api, ledger: Ledger) -> None:
    settings = scaling(max_replicas=4, downscale_stabilisation_s=0)
    with K3s().deploy(app(), {"app": settings}, "live", ledger, PHOTOS) as deployed:
        assert namespaces(api) == [deployed.wanted.namespace]
        assert exposed(node_processes(Node(default_layout()))) == []
        watched = Watched(deployed, patience_s=150.0)
        try:
            with clients(deployed.url, 10) as replies:
                watched.until(lambda: watched.now() == (4, 0, 4), "four replicas are ready")
                busy = len(replies)
                watched.until(lambda: len({name for _, name in replies[busy:]}) == 4, "all four answer")
                _check_roles(watched)
            with clients(deployed.url, 1) as light:
                watched.until(lambda: watched.now()[0] < 4, "it is scaled down")
                watched.until(lambda: watched.events("replica_removed"), "a replica is removed")
            assert {status for status, _ in replies} == {200}, "no request is lost while it grows"
            assert {status for status, _ in light} == {200}, "no request is lost while it shrinks"
            _check_lifecycles(watched)
            _check_facts(deployed)
        finally:
            watched.close()
    assert namespaces(api) == []


def _check_roles(watched: Watched) -> None:
    samples = [sample for sample in list(watched.seen) if isinstance(sample, ResourceSample)]
    assert {sample.role for sample in samples} >= {"replica", "control_plane", "load_generator", "host"}
    assert not any(isnan(sample.nr_periods) for sample in samples if sample.role == "replica"), "each has its quota"


def _check_lifecycles(watched: Watched) -> None:
    details = [event.detail for event in watched.events("scale_decision")]
    decisions = [detail for detail in details if detail["from"] != detail["to"]]
    assert decisions[0]["from"] == 1
    assert decisions[0]["to"] > 1
    assert all(decision["reason"] for decision in decisions)
    known = [event.known_within_s for event in watched.events()]
    assert min(known) >= 0
    assert median(known) < 5, "a delayed look on a busy host may make single events less exact"
    order = ["replica_created", "replica_scheduled", "replica_started", "replica_ready", "replica_draining"]
    removed = {event.subject for event in watched.events("replica_removed")}
    for name in removed:
        own = [event for event in watched.events() if event.subject == name]
        kinds = [event.kind for event in own if event.kind in order]
        assert kinds == [kind for kind in order if kind in kinds]
    ready = watched.events("replica_ready")
    assert all(event.detail["timeline"]["import_s"] >= 0 for event in ready), "start-up times from the log"
    assert all("already present" in event.detail["pull"] for event in ready)


def _check_facts(deployed: KubernetesDeployed) -> None:
    facts = deployed.facts
    assert facts["distribution"].startswith("upstream Kubernetes"), "it is not called K3s"
    assert facts["version"] == deployed.versions["kubernetes"]
    assert facts["hpa"]["sync_period_s"]["value"] > 0
    assert "its process" in facts["metric_resolution_s"]["from"]
    assert facts["behaviour"]["app"]["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert facts["cfs_period_s"] == pytest.approx(0.1)


def test_two_components_scale_separately_and_calls_are_spread(api: Api, ledger: Ledger) -> None:
    back = Component("back", "two_components:make_back")
    two = App("two", "1", (Component("front", "two_components:make_front", calls=("back",)), back), "front")
    back_scaling = scaling(max_replicas=2, downscale_stabilisation_s=0)
    settings = {"front": scaling("static-max", max_replicas=4), "back": back_scaling}  # one front keeps one call open
    with K3s().deploy(two, settings, "live", ledger, PHOTOS) as deployed:
        watched = Watched(deployed, patience_s=150.0)
        try:
            with clients(deployed.url, 6) as replies:
                watched.until(lambda: _ready(watched, "back") == 2, "the back grows")
            assert {status for status, _ in replies} == {200}
            assert _ready(watched, "front") == 4
            assert {event.component for event in watched.events("scale_decision")} == {"back"}
            called: set[str] = set()
            watched.until(lambda: called.update(_called(deployed.url)) or len(called) == 2, "calls are spread")
        finally:
            watched.close()
        samples = [sample for sample in watched.seen if isinstance(sample, ResourceSample) and sample.role == "replica"]
        assert {sample.component for sample in samples} == {"front", "back"}
    assert namespaces(api) == []


def _ready(watched: Watched, component: str) -> int:
    samples = [sample for sample in watched.samples() if sample.component == component]
    return samples[-1].ready if samples else 0


def _called(url: str) -> list[str]:
    """The replicas of the back that served one photo's two calls."""
    reply = ask(url, {}, "photo")
    assert json.loads(reply["text"]) == {"echo": ["photo", "photo+"]}
    own, *calls = read_hops(reply["headers"]["x-mlscale-hops"], 0.0)
    assert own.component == "front"
    return [hop.replica_id for hop in calls]


def test_a_killed_run_is_cleaned_up_by_another_process(api: Api, tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from kubernetes_watched import PHOTOS, app, scaling
        from mlscale.environments.kubernetes.k3s import K3s
        from mlscale.host.ledger import Ledger
        ledger = Ledger.create("killed", Path(sys.argv[2]))
        with K3s().deploy(app(), {"app": scaling("static-min")}, "live", ledger, PHOTOS) as deployed:
            print("up", flush=True)
            time.sleep(600)
    """
    here = str(Path(__file__).parent)
    argv = [sys.executable, "-c", textwrap.dedent(code), here, str(tmp_path / "ledger")]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert len(namespaces(api)) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    removed = cleanup(reapers={KIND: K3s().reap}, folder=tmp_path / "ledger")
    assert sorted(entry.kind for entry in removed) == [KIND, "sandbox"]
    assert namespaces(api) == []
    assert cleanup(reapers={KIND: K3s().reap}, folder=tmp_path / "ledger") == []


COMPACT = """
import json, ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
context.load_cert_chain(sys.argv[3], sys.argv[4])
def call(method, **request):
    url = f"https://127.0.0.1:2379/v3/kv/{method}"
    return json.load(urllib.request.urlopen(url, json.dumps(request).encode(), context=context, timeout=10))
assert int(call("range", key="AA==")["header"]["revision"]) >= int(sys.argv[1])
call("compaction", revision=sys.argv[1])
"""


def test_a_compacted_resource_version_means_a_new_list(api: Api) -> None:
    """Upstream's API server has etcd compact what is older than five minutes; here it is compacted at once."""
    layout = default_layout()
    certificates = [str(layout.pki / name) for name in ("etcd-ca.crt", "apiserver-etcd.crt", "apiserver-etcd.key")]
    now = api.get(path_of("Event"))["metadata"]["resourceVersion"]
    Node(layout).run([sys.executable, "-c", COMPACT, now, *certificates])
    (event,) = api.watch(path_of("Event"), "1", at_most_s=10)
    with pytest.raises(Relist):
        Follower("events").event(event, time.monotonic(), datetime.now(UTC))


def test_our_own_cluster_identifies_itself(api: Api) -> None:
    own = find_own_node(api)
    assert own is not None
    assert own.here
    usage = own.usage().parts()
    assert usage is not None
    assert usage.cpu.cpu_s > 0
    assert usage.rss_bytes > 1e8


def test_a_full_queue_refuses_a_load_balancer_is_the_endpoint_and_deleting_the_owner_deletes_all(
    api: Api, ledger: Ledger
) -> None:
    """The cluster has no load balancers: this test acts as their controller and gives the service an address."""
    own = find_own_node(api)
    assert own is not None
    with K3s().deploy(app(), {"app": scaling("static-min", max_waiting=0)}, "live", ledger, PHOTOS) as deployed:
        _check_refusals(deployed)
        assert deployed.facts["way_in"] == "NodePort"
        wanted = deployed.wanted
        path = path_of("Service", "app", wanted.namespace)
        assignment = threading.Timer(3.0, api.merge, (f"{path}/status", _address(own.node_address)))
        assignment.start()
        endpoint = find_endpoint(api, wanted, (), ())
        assignment.join()
        assert endpoint == Endpoint(f"http://{own.node_address}:8080", "LoadBalancer")
        api.merge(f"{path}/status", {"status": {"loadBalancer": {"ingress": None}}})
        with pytest.raises(MlscaleError, match="no load balancer was provisioned within 1 s"):
            find_endpoint(api, wanted, (), (), balancer_s=1.0)
        _check_owner_deletes_all(api, wanted.namespace)


def _check_refusals(deployed: KubernetesDeployed) -> None:
    watched = Watched(deployed, patience_s=60.0)
    try:
        with clients(deployed.url, 3) as replies:
            watched.until(lambda: {status for status, _ in replies} >= {200, 503}, "one is served, others are not")
        assert {status for status, _ in replies} == {200, 503}
    finally:
        watched.close()


def _check_owner_deletes_all(api: Api, namespace: str) -> None:
    api.delete(path_of("ConfigMap", OWNER, namespace), propagationPolicy="Background")
    deadline = time.monotonic() + 60
    kinds = ("Deployment", "Service", "Pod")
    while any(api.get(path_of(kind, namespace=namespace))["items"] for kind in kinds):
        assert time.monotonic() < deadline, "owned objects are still there"
        time.sleep(0.2)


def _address(ip: str) -> dict[str, object]:
    return {"status": {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "VIP"}]}}}
