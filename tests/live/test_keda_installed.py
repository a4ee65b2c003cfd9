"""A second cluster, with KEDA as its own manifests install it: as pods, with certificates that it makes itself.

What differs from the manifests: the images, which can't be pulled here (the same programs are mounted instead), where
the pods find DNS, and the webhooks, which are left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import yaml
from own_cluster import Cluster, need_cluster_host

from mlscale.environments.kubernetes.paths import EXTERNAL_METRICS, path_of, path_of_object
from mlscale.runs import load_run
from onenode.cache import default_cache
from onenode.gobuild import module_folder
from onenode.layout import THIN_IMAGE
from onenode.programs import sources

pytestmark = [pytest.mark.live, pytest.mark.proof]

OURS = ("keda-operator", "keda-metrics-apiserver")
FOLDERS = ("general", "service_account", "rbac", "manager", "metrics-server")
PROGRAMS = {"keda-operator": "keda-operator", "keda-metrics-apiserver": "keda-adapter"}


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without our KEDA, and then with its own."""
    need_cluster_host()
    if shutil.which("go") is None:
        pytest.skip("Go is not installed, by which KEDA's manifests are fetched")
    cluster = Cluster(tmp_path_factory.mktemp("state"))
    try:
        cluster.command("cluster", "up", "--zero")  # with DNS
        _remove_ours(cluster)
        _install(cluster)
        yield cluster
    finally:
        cluster.command("cluster", "down")


def _remove_ours(cluster: Cluster) -> None:
    for part in OURS:
        cluster.node.end_part(part, 3.0)
    cluster.request("DELETE", path_of("APIService", "v1beta1.external.metrics.k8s.io").lstrip("/"))
    for name in ("keda-operator", "keda-system-auth-delegator"):
        cluster.request("DELETE", path_of("ClusterRoleBinding", name).lstrip("/"))
    cluster.request("DELETE", path_of("RoleBinding", "keda-auth-reader", "kube-system").lstrip("/"))
    cluster.request("DELETE", path_of("Namespace", "keda").lstrip("/"))
    cluster.until("the namespace keda is gone", lambda: not _exists(cluster, path_of("Namespace", "keda")))


def _install(cluster: Cluster) -> None:
    module = sources() / "keda"
    answer = subprocess.run(["go", "mod", "download", "-json"], cwd=module, capture_output=True, text=True, check=True)
    folder = Path(json.loads(answer.stdout)["Dir"]) / "config"
    files = [file for name in FOLDERS for file in sorted((folder / name).glob("*.yaml")) if "kustom" not in file.name]
    for manifest in (each for file in files for each in yaml.safe_load_all(file.read_text()) if each):
        made = _runnable(manifest, cluster) if manifest["kind"] == "Deployment" else manifest
        cluster.request("PATCH", f"{_path(made)}?fieldManager=test&force=true", made)
    cluster.until("KEDA serves external metrics", lambda: bool(cluster.request("GET", EXTERNAL_METRICS.lstrip("/"))))


def _path(manifest: dict[str, Any]) -> str:
    if manifest["kind"] == "Role":
        metadata = manifest["metadata"]
        return f"apis/rbac.authorization.k8s.io/v1/namespaces/{metadata['namespace']}/roles/{metadata['name']}"
    return path_of_object(manifest).lstrip("/")


def _runnable(deployment: dict[str, Any], cluster: Cluster) -> dict[str, Any]:
    """With the program that is in the cache, and DNS at the node."""
    programs = module_folder(default_cache(), sources() / "keda")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container |= {"image": THIN_IMAGE, "imagePullPolicy": "Never"}
    container["command"] = [str(programs / PROGRAMS[container["name"]])]
    if container["name"] == "keda-operator":
        container["args"].append("--enable-webhook-patching=false")
    container["volumeMounts"].append({"name": "programs", "mountPath": str(programs), "readOnly": True})
    pod["volumes"].append({"name": "programs", "hostPath": {"path": str(programs)}})
    pod["securityContext"] |= {"runAsUser": 65532}
    options = [{"name": "ndots", "value": "5"}]
    searches = ["keda.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    pod["dnsPolicy"] = "None"
    pod["dnsConfig"] = {"nameservers": [cluster.settings.node_address], "searches": searches, "options": options}
    return deployment


def _exists(cluster: Cluster, path: str) -> bool:
    try:
        cluster.request("GET", path.lstrip("/"))
    except HTTPError as error:
        if error.code == 404:
            return False
        raise
    return True


@pytest.mark.parametrize(("environment", "arm"), [("k3s", "matched"), ("keda", "matched"), ("keda", "shipped")])
def test_it_is_measured_there(second: Cluster, environment: str, arm: str, tmp_path: Path) -> None:
    load = {"loop": "closed", "duration_s": 75, "stages": [{"start_s": 0, "clients": 12}], "think_mean_s": 0}
    schedule = tmp_path / "load.json"
    schedule.write_text(json.dumps(load))
    out = tmp_path / "run"
    words = ["measure", environment, "--arm", arm, "--schedule", str(schedule), "--out", str(out)]
    words += ["--set", "idle_s=5", "--set", "quiet_at_most_s=0"]
    kubeconfig = {"KUBECONFIG": str(second.layout.kubeconfig), "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-m", "mlscale.commands.cli", *words]
    done = subprocess.run(command, env=os.environ | kubeconfig, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    run = load_run(out)
    assert run.info.complete
    assert set(run.requests["status"]) == {"ok"}
    grown = [event for event in run.event_list if event.kind == "scale_decision" and event.detail["to"] > 1]
    assert grown, "it has grown by KEDA's metric"
    assert any("mlscale_in_flight" in str(event.detail.get("metric", event.detail["reason"])) for event in grown)
