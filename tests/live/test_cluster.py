"""The real one-node cluster: starts, is used, is broken in every part, and is removed without a trace."""

from __future__ import annotations

import http.client
import os
import re
import signal
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cluster_host import HostState, command_lines_with, differences, groups_named, node_processes, read_host
from own_cluster import Cluster, kill_up, need_cluster_host

from mlscale.environments.kubernetes.own_cluster import read_config_map
from mlscale.host.processes import process_start
from onenode.layout import NODE_NAME, THIN_IMAGE

pytestmark = pytest.mark.live

PARTS = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "metrics-server",
    "keda-operator",
    "keda-metrics-apiserver",
)


@pytest.fixture(scope="module")
def host() -> HostState:
    """Before there was a cluster."""
    need_cluster_host()
    return read_host()


@pytest.fixture(scope="module")
def own(host: HostState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("state"))
    try:
        cluster.command("cluster", "up")
        yield cluster
    finally:
        cluster.command("cluster", "down")


def test_it_is_up_and_reports_it(own: Cluster) -> None:
    status = own.status()
    assert status["state"] == "up"
    assert [part["name"] for part in status["parts"]] == list(PARTS)
    assert all(part["state"] == "up" and part["memory_bytes"] > 2**20 for part in status["parts"])
    assert all(process_start(part["pid"]) for part in status["parts"])
    assert Path(status["kubeconfig"]).stat().st_mode & 0o077 == 0
    node = own.request("GET", f"api/v1/nodes/{NODE_NAME}")
    assert node["status"]["nodeInfo"]["kubeletVersion"] == own.request("GET", "version")["gitVersion"]


def test_a_pod_runs_this_interpreter_and_answers_on_its_node_port(own: Cluster) -> None:
    own.deploy()
    own.until("an answer", lambda: own.answer().startswith("numpy "))
    (pod,) = own.ready_pods()
    assert pod["status"]["podIP"].startswith("10.244.")
    assert pod["spec"]["containers"][0]["image"] == THIN_IMAGE


def test_the_kubeconfig_works_with_the_official_client(own: Cluster) -> None:
    from kubernetes import client, config

    api = client.CoreV1Api(config.new_client_from_config(str(own.layout.kubeconfig)))
    (node,) = api.list_node().items
    assert {entry.type: entry.address for entry in node.status.addresses}["InternalIP"] == own.settings.node_address
    log = api.read_namespaced_pod_log(own.ready_pods()[0]["metadata"]["name"], "default")
    assert "GET / HTTP" in log  # the readiness probe, by way of the kubelet


def test_metrics_are_served(own: Cluster) -> None:
    def measured() -> bool:
        nodes = own.request("GET", "apis/metrics.k8s.io/v1beta1/nodes")["items"]
        pods = own.request("GET", "apis/metrics.k8s.io/v1beta1/namespaces/default/pods")["items"]
        return bool(nodes and pods and pods[0]["containers"][0]["usage"]["cpu"])

    own.until("metrics of the node and its pod", measured)


def test_a_pod_reaches_its_own_service(own: Cluster) -> None:
    address = own.request("GET", "api/v1/namespaces/default/services/server")["spec"]["clusterIP"]
    pod = own.ready_pods()[0]["metadata"]["name"]
    answers = f"[r.urlopen('http://{address}/', timeout=5).status for _ in range(24)]"
    code = f"import urllib.request as r; print({answers} == 24 * [200])"
    from kubernetes import client, config
    from kubernetes.stream import stream

    api = client.CoreV1Api(config.new_client_from_config(str(own.layout.kubeconfig)))
    command = [sys.executable, "-c", code]
    output = stream(api.connect_get_namespaced_pod_exec, pod, "default", command=command, stdout=True, stderr=True)
    assert output.strip() == "True"


def test_no_access_without_a_certificate(own: Cluster) -> None:
    context = ssl.create_default_context(cafile=str(own.layout.pki / "ca.crt"))
    node = own.settings.node_address
    for port, path in ((6443, "api/v1/nodes"), (10250, "pods")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"https://{node}:{port}/{path}", timeout=5, context=context)
        assert caught.value.code == 401, port
    for port in (2379, 2380, 2381, 10248, 10249, 10255, 10256, 10257, 10259):
        with pytest.raises(OSError):
            http.client.HTTPConnection(node, port, timeout=2).connect()


def test_the_kubelet_may_not_read_other_secrets(own: Cluster) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"a": "b"}}
    own.request("POST", "api/v1/namespaces/default/secrets", secret)
    context = ssl.create_default_context(cafile=str(own.layout.pki / "ca.crt"))
    context.load_cert_chain(own.layout.pki / "kubelet.crt", own.layout.pki / "kubelet.key")
    url = f"https://{own.settings.node_address}:6443/api/v1/namespaces/default/secrets/mine"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=5, context=context)
    assert caught.value.code == 403


# Parts that need another one end without it, so it is alone.
@pytest.mark.parametrize("killed", [PARTS[:1], PARTS[1:2] + PARTS[3:5], PARTS[2:3], PARTS[5:]], ids=",".join)
def test_killed_parts_are_reported_and_repaired(own: Cluster, killed: Sequence[str]) -> None:
    before = {part["name"]: part["pid"] for part in own.status()["parts"]}
    pod, identity = own.ready_pods()[0]["metadata"]["uid"], own.identity()
    for count, name in enumerate(killed, 1):
        os.kill(before[name], signal.SIGKILL)
        broken = own.status(code=1)
        assert broken["state"] == "degraded"
        down = {part["name"]: part["pid"] for part in broken["parts"] if part["state"] == "down"}
        assert down == dict.fromkeys(killed[:count])
    if killed == PARTS[:1]:
        assert f"{killed[0]} is down" in own.command("cluster", "status", code=1)
    own.command("cluster", "up")
    after = {part["name"]: part["pid"] for part in own.status()["parts"]}
    assert {name for name in PARTS if before[name] != after[name]} == set(killed)
    own.until("an answer", lambda: own.answer().startswith("numpy "))
    assert [ready["metadata"]["uid"] for ready in own.ready_pods()] == [pod]
    assert own.identity() == identity


def test_a_second_up_changes_nothing(own: Cluster) -> None:
    before = node_processes(own.node)
    own.command("cluster", "up")
    assert {part["pid"] for part in own.status()["parts"]} <= before.keys()


def test_a_killed_node_comes_back_with_its_state(own: Cluster) -> None:
    init = own.node.init
    assert init is not None
    inside = node_processes(own.node)
    identity = own.identity()
    os.kill(init.pid, signal.SIGKILL)
    own.until("all processes to end", lambda: not any(process_start(pid) == start for pid, start in inside.items()))
    assert own.status(code=1)["state"] == "down"
    own.command("cluster", "up")
    assert own.identity() == identity
    own.until("an answer", lambda: own.answer().startswith("numpy "))


def test_stop_frees_everything_and_start_restores_it(own: Cluster) -> None:
    inside = node_processes(own.node)
    identity = own.identity()
    own.command("cluster", "stop")
    assert not any(process_start(pid) == start for pid, start in inside.items())
    assert own.status(code=1)["state"] == "stopped"
    assert not any(folder.exists() for folder in own.node.groups.folders)
    assert not Path("/sys/class/net", own.layout.interface).exists()
    own.command("cluster", "stop")
    own.command("cluster", "start")
    assert own.identity() == identity
    own.until("an answer", lambda: own.answer().startswith("numpy "))


def test_the_node_identifies_itself(own: Cluster) -> None:
    data = own.request("GET", "api/v1/namespaces/kube-system/configmaps/mlscale")["data"]
    cluster = read_config_map({"data": data})
    assert cluster.init == own.node.init
    assert cluster.here
    assert (cluster.node_address, cluster.image) == (own.settings.node_address, THIN_IMAGE)
    assert cluster.cgroups == own.node.groups.cpu_folders


def test_the_cfs_period_can_be_set(own: Cluster) -> None:
    def periods() -> set[int]:
        groups = own.node.groups
        files = [file for folder in groups.folders for file in folder.rglob("kubepods/**/cpu.cfs_period_us")]
        limited = [file for file in files if int(file.with_name("cpu.cfs_quota_us").read_text()) > 0]
        limits = [file.read_text().split() for folder in groups.folders for file in folder.rglob("kubepods/**/cpu.max")]
        return {int(file.read_text()) for file in limited} | {int(period) for quota, period in limits if quota != "max"}

    assert periods() == {100_000}
    own.command("cluster", "up", "--cfs-period", "10ms")
    for pod in own.ready_pods():
        own.request("DELETE", f"api/v1/namespaces/default/pods/{pod['metadata']['name']}")
    own.until("pods with the other period", lambda: periods() == {10_000})
    own.command("cluster", "up")
    assert own.status()["cfs_period_s"] == 0.01
    own.command("cluster", "up", "--cfs-period", "100ms")
    assert "1ms to 1s" in _refused(own, "--cfs-period", "2s")


def _refused(own: Cluster, *words: str) -> str:
    process = own.start_command("cluster", "up", *words)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    return errors


def test_nothing_is_left(own: Cluster, host: HostState) -> None:
    inside = node_processes(own.node)
    assert groups_named(own.layout.cgroup)
    assert len(inside) > len(PARTS)
    own.command("cluster", "down")
    after = read_host()
    assert differences(host, after) == []
    assert sorted(after.files - host.files) == []
    assert not any(process_start(pid) == start for pid, start in inside.items())
    assert groups_named(own.layout.cgroup) == []
    assert not Path("/sys/class/net", own.layout.interface).exists()
    assert command_lines_with(str(own.state)) == []
    assert [str(path) for path in own.state.rglob("*") if path.is_file()] == []
    assert own.status(code=1)["state"] == "absent"
    own.command("cluster", "down")


def test_after_a_killed_up_the_next_one_succeeds(own: Cluster, tmp_path: Path) -> None:
    """At other moments, and twenty times: `make proof`."""
    del own  # requested so that this runs after the shared cluster's tests
    killed = Cluster(tmp_path)
    kill_up(killed, 4.0)
    try:
        killed.command("cluster", "up")
        assert killed.status()["state"] == "up"
        ledgers = list((tmp_path / "mlscale/ledger").glob("*.jsonl"))
        assert len(ledgers) == 1
        assert "nothing to remove" in killed.command("cleanup")
        assert killed.status()["state"] == "up"
    finally:
        killed.command("cluster", "down")
    assert [str(path) for path in tmp_path.rglob("*") if path.is_file()] == []


def test_cleanup_removes_what_a_killed_up_left(own: Cluster, tmp_path: Path) -> None:
    del own
    killed = Cluster(tmp_path)
    kill_up(killed, 1.8)
    killed.command("cleanup")
    assert [str(path) for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not any(folder.exists() for folder in killed.node.groups.folders)
    assert not Path("/sys/class/net", killed.layout.interface).exists()
    assert [line for line in command_lines_with(str(tmp_path)) if not re.search(r"pytest", line)] == []
