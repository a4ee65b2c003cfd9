"""What `mlscale advise` gives out to paste, deployed by the frameworks themselves (the worker controller's file: by
test_torchserve.py)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml

from mlscale.environments.kubernetes.client import FIELD_MANAGER, KubeContext, connect
from mlscale.environments.kubernetes.paths import path_of
from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.paste import settings_files
from mlscale_twin.strategy.strategies import Policy, Strategy, strategies

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")]

HOUR = Demand(6.0 + 5.0 * np.sin(np.arange(3600) / 3600 * 2 * np.pi - 1.5))
_SERVE = """
    import sys, urllib.request
    from pathlib import Path
    import yaml
    from ray import serve
    from ray.serve._private.api import serve_start
    from ray.serve.schema import ServeDeploySchema
    from mlscale.environments.rayserve.cluster import start

    cluster = start(Path(sys.argv[1]), 4)
    client = serve_start(http_options={"host": "127.0.0.1", "port": 8765})
    for file in sys.argv[2:]:
        client.deploy_apps(ServeDeploySchema.model_validate(yaml.safe_load(open(file))), _blocking=True)
        status = serve.status().applications["app"].deployments["app"].status.value
        answer = urllib.request.urlopen("http://127.0.0.1:8765/", timeout=30).read().decode()
        print(file, status, answer)
    serve.shutdown()
    cluster.kill()
"""
_MODULE = """
    from ray import serve

    @serve.deployment
    class app_class:
        def __call__(self, request):
            return "pong"

    app = app_class.options(name="app").bind()
"""


def settings(name: str, policy: Policy = "reactive") -> Strategy:
    tried = strategies([name], {name: read_profile(name)}, HOUR, 40, sizes={"cpu_cores": 0.3}, most_replicas=3)
    return next(each for each in tried if each.policy == policy)


def test_serve_deploys_the_config_files(tmp_path: Path) -> None:
    """One after the other, as a user who changes the policy would."""
    policies: tuple[Policy, ...] = ("reactive", "fixed")
    for policy in policies:
        (tmp_path / f"{policy}.yaml").write_text(settings_files(settings("rayserve", policy))["serve.yaml"])
    (tmp_path / "my_module.py").write_text(textwrap.dedent(_MODULE))
    (tmp_path / "deploy.py").write_text(textwrap.dedent(_SERVE))
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_agent_register_timeout_ms": "120000",
    }
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # short: Ray's sockets lie in it
        argv = [sys.executable, "deploy.py", folder, *(f"{policy}.yaml" for policy in policies)]
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        subprocess.run(["pkill", "-9", "-f", folder], check=False)  # Ray that has not started leaves its GCS
    if "timed out during startup" in done.stderr:
        pytest.skip("Ray itself did not start: its raylet waits 15 s for its agents, and this machine is too busy")
    assert done.returncode == 0, done.stdout + done.stderr
    for policy in policies:
        assert f"{policy}.yaml HEALTHY pong" in done.stdout


@pytest.mark.parametrize("name", ["k3s", "eks"])
@pytest.mark.parametrize("policy", ["reactive", "scheduled", "fixed"])
def test_kubernetes_takes_the_files(cluster: Path, name: str, policy: Policy) -> None:
    """A dry run at the server: everything that it checks is checked, and nothing is stored."""
    strategy = settings(name, policy)
    files = {file: yaml.safe_load(text) for file, text in settings_files(strategy).items()}
    query = {"fieldManager": FIELD_MANAGER, "dryRun": "All", "fieldValidation": "Strict"}
    patch = files.pop("deployment-patch.yaml")
    files.pop("buffer.yaml", None)  # a list
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    container["image"] = "localhost/mlscale/thin:1"
    container["readinessProbe"]["httpGet"] = {"path": "/readyz", "port": 8080}
    labels = {"app": "app"}
    patch["spec"]["template"]["metadata"] = {"labels": labels}
    patch["spec"]["selector"] = {"matchLabels": labels}
    files["deployment.yaml"] = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, **patch}
    with closing(connect(KubeContext(str(cluster)))) as api:
        for manifest in files.values():
            space = () if manifest["kind"] == "NodePool" else ("default",)
            path = path_of(manifest["kind"], "app", *space)
            taken = api._json("PATCH", path, query, body=manifest, content="application/apply-patch+yaml")
            assert api.find(path) is None
            for most in {"maxReplicas", "maxReplicaCount"} & set(taken["spec"]):
                assert taken["spec"][most] == strategy.scaling["max_replicas"]
    if policy == "fixed":
        assert patch["spec"]["replicas"] == strategy.scaling["max_replicas"]
        assert not {"hpa.yaml", "scaledobject.yaml"} & set(files)
    if policy == "scheduled":
        assert "cron" in [trigger["type"] for trigger in files["scaledobject.yaml"]["spec"]["triggers"]]
