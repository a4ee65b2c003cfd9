"""Whatever can keep a run on Kubernetes from starting, provoked live: a clear error early, and nothing left behind."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes_watched import PHOTOS, app, scaling

from mlscale.environments.base import Problem
from mlscale.environments.kubernetes import environment, namespace
from mlscale.environments.kubernetes.client import Api, Json, KubeContext, connect
from mlscale.environments.kubernetes.k3s import K3s
from mlscale.environments.kubernetes.names import MANAGED_BY
from mlscale.environments.kubernetes.paths import path_of
from mlscale.host.ledger import Ledger
from mlscale.host.reap import TargetUnreachable
from mlscale.runs import MlscaleError

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="our own cluster needs Linux")]


@pytest.fixture
def api(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("KUBECONFIG", str(cluster))
    with closing(connect(KubeContext(str(cluster)))) as client:
        yield client
        left = client.get(path_of("Namespace"), {"labelSelector": f"{MANAGED_BY}=mlscale"})["items"]
        assert [item["metadata"]["name"] for item in left] == [], "nothing is left behind"


def problems(arm: str = "shipped", **changes: Any) -> list[Problem]:
    return list(K3s().preflight(app(), {"app": scaling(arm, **changes)}, "live"))


def deploy_error(tmp_path: Path, entry: str = "torchserve_burn:make", **changes: Any) -> str:
    """The error of a deployment that has to fail; the ledger is empty afterwards."""
    with Ledger.create("test-k3s", tmp_path / "ledger") as ledger:
        deploy = K3s().deploy(app(entry), {"app": scaling("static-min", **changes)}, "live", ledger, PHOTOS)
        with pytest.raises(MlscaleError) as caught, deploy:
            pytest.fail("it was deployed")
        assert ledger.open_entries == ()
    return str(caught.value)


def test_no_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    (problem,) = problems()
    assert problem.what == "no kubeconfig"
    assert "make cluster" in problem.remedy


def test_a_kubeconfig_that_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("clusters: [")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    (problem,) = problems()
    assert "it is unusable" in problem.what


def kubeconfig(folder: Path, server: str, user: Json, authority: str | None = None) -> Path:
    cluster = {"server": server, **({"certificate-authority-data": authority} if authority else {})}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = folder / "config"
    file.write_text(json.dumps(content))
    return file


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, "https://127.0.0.1:9", {"token": "t"})))
    (problem,) = problems()
    assert "does not answer" in problem.what
    assert "127.0.0.1:9" in problem.where


def test_a_namespace_of_a_cluster_that_does_not_answer_stays_in_the_ledger(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "https://127.0.0.1:9", {"token": "t"})
    with Ledger.create("test-k3s", tmp_path / "ledger") as ledger:
        identity = {"kubeconfig": str(file), "context": "x", "server": "https://127.0.0.1:9"}
        entry = ledger.intend(namespace.KIND, namespace="mlscale-0123abcd", **identity)
        with pytest.raises(TargetUnreachable, match="does not answer"):
            K3s().reap(entry)
        ledger.done(entry)


def test_credentials_that_are_not_accepted(
    api: Api, cluster: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = json.loads(cluster.read_text())["clusters"][0]["cluster"]["certificate-authority-data"]
    file = kubeconfig(tmp_path, api.server, {"token": "made-up"}, authority)
    monkeypatch.setenv("KUBECONFIG", str(file))
    (problem,) = problems()
    assert "credentials are not accepted" in problem.what


@contextmanager
def limited_user(api: Api, name: str, rules: list[Json]) -> Iterator[str]:
    """A service account with ``rules`` on the whole cluster; yields its token."""
    root = "/apis/rbac.authorization.k8s.io/v1"
    labels = {"name": name}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": labels, "rules": rules}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": labels,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    }
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    try:
        api.post(accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": labels})
        api.post(f"{root}/clusterroles", role)
        api.post(f"{root}/clusterrolebindings", binding)
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        yield api.post(f"{accounts}/{name}/token", request)["status"]["token"]
    finally:
        api.delete(f"{root}/clusterrolebindings/{name}")
        api.delete(f"{root}/clusterroles/{name}")
        api.delete(f"{accounts}/{name}")


def test_a_forbidden_verb_is_named(api: Api, cluster: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rules = [
        {"apiGroups": [""], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["apps", "metrics.k8s.io", "external.metrics.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["create", "list", "watch"]},
    ]
    authority = json.loads(cluster.read_text())["clusters"][0]["cluster"]["certificate-authority-data"]
    with limited_user(api, "mlscale-test-limited", rules) as token:
        file = kubeconfig(tmp_path, api.server, {"token": token}, authority)
        monkeypatch.setenv("KUBECONFIG", str(file))
        fatal = [problem.what for problem in problems("static-min") if problem.fatal]
        assert fatal == ["may not patch horizontalpodautoscalers.autoscaling"]
        assert "may not patch horizontalpodautoscalers" in deploy_error(tmp_path)


@contextmanager
def without(api: Api, group: str) -> Iterator[None]:
    """The cluster without an aggregated API during the block."""
    path = path_of("APIService", f"v1beta1.{group}")
    service = api.get(path)
    api.delete(path)
    try:
        deadline = time.monotonic() + 30
        while api.find(f"/apis/{group}/v1beta1") is not None:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield
    finally:
        metadata = {name: service["metadata"][name] for name in ("name", "labels") if name in service["metadata"]}
        api.post(path_of("APIService"), {**service, "metadata": metadata, "status": {}})
        deadline = time.monotonic() + 60
        while _serves(api, group) is False:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def _serves(api: Api, group: str) -> bool:
    try:
        return api.find(f"/apis/{group}/v1beta1") is not None
    except Exception:  # 503 until the aggregator serves it again
        return False


def test_no_metrics_server(api: Api) -> None:
    with without(api, "metrics.k8s.io"):
        (problem,) = problems("shipped")
        assert "no CPU metrics: the API is not registered" in problem.what
        assert problems("matched") == []
    assert problems("shipped") == []


def test_keda_does_not_serve_the_metric(api: Api) -> None:
    with without(api, "external.metrics.k8s.io"):
        (problem,) = problems("matched")
        assert "KEDA does not give requests in flight to the HPA: the API is not registered" in problem.what
        assert problems("static-min") == [], "a fixed number needs no metric"


def test_another_server_of_external_metrics_is_named(api: Api) -> None:
    """As where prometheus-adapter serves them beside KEDA."""
    path = path_of("APIService", "v1beta1.external.metrics.k8s.io")
    held = api.get(path)
    other = {**held["spec"], "service": {"namespace": "monitoring", "name": "prometheus-adapter", "port": 443}}
    registration = {each: held[each] for each in ("kind", "apiVersion")}
    metadata = {"name": held["metadata"]["name"], "labels": held["metadata"].get("labels") or {}}
    try:
        api.apply(path, {**registration, "metadata": metadata, "spec": other})
        (problem,) = problems("matched")
        assert "served by monitoring/prometheus-adapter, not by KEDA" in problem.what
    finally:
        api.apply(path, {**registration, "metadata": metadata, "spec": held["spec"]})
        deadline = time.monotonic() + 60
        while _serves(api, "external.metrics.k8s.io") is False:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_cfs_period_other_than_the_kubelets(api: Api) -> None:
    (problem,) = problems("matched", cpu_period_s=0.01)
    assert "the kubelet's CFS period is 100 ms, not 10 ms" in problem.what
    assert "mlscale cluster up --cfs-period 10ms" in problem.remedy


def test_an_image_that_cannot_be_pulled(api: Api, tmp_path: Path) -> None:
    error = deploy_error(tmp_path, image="registry.invalid/mlscale/nothing:1")
    assert "image registry.invalid/mlscale/nothing:1: the image can't be pulled" in error


def test_no_room_on_any_node(api: Api, tmp_path: Path) -> None:
    (problem,) = problems("static-min", cpu_cores=60)
    assert not problem.fatal, "a machine may join"
    error = deploy_error(tmp_path, cpu_cores=60)
    assert "no node has room for it (lacks cpu)" in error


def test_a_quota(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = namespace.new_name()
    monkeypatch.setattr(environment, "new_name", lambda: name)
    metadata = {"name": name, "labels": {MANAGED_BY: "mlscale"}}
    api.post(path_of("Namespace"), {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    quota = {"kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {"requests.cpu": "100m"}}}
    api.post(path_of("ResourceQuota", namespace=name), {"apiVersion": "v1", **quota})
    error = deploy_error(tmp_path)
    assert "the quota leaves no room" in error
    assert "exceeded quota: small" in error


def test_a_model_that_does_not_load_with_its_last_log_lines(api: Api, tmp_path: Path) -> None:
    error = deploy_error(tmp_path, "torchserve_burn:make_broken")
    assert "the application ends by itself" in error
    assert "the weights are corrupt" in error
