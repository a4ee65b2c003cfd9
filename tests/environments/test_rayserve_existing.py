"""What is put to Ray Serve's REST API, and what its answers become; test_ray_cluster asks a real one."""

from __future__ import annotations

from typing import Any

import pytest

from mlscale.environments.base import own_model
from mlscale.environments.rayserve.existing import DeploymentWatch, NodeWatch, application
from mlscale.environments.rayserve.rest import runs_serve, with_application, without_application
from mlscale.environments.rayserve.settings import RayServeScaling
from mlscale.runs import MlscaleError

THEIRS = {
    "name": "theirs",
    "route_prefix": "/theirs",
    "import_path": "theirs:app",
    "runtime_env": {"env_vars": {"A": "1"}},
}
OURS = {"name": "mlscale-1", "route_prefix": "/mlscale-1", "import_path": "x:build"}


def app(name: str, config: Any, source: str = "declarative", status: str = "RUNNING") -> dict[str, Any]:
    return {"name": name, "deployed_app_config": config, "source": source, "status": status, "deployments": {}}


def details(*apps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"controller_info": {"node_id": "n"}, "applications": {each["name"]: each for each in apps}, **more}


def test_the_others_are_put_back_as_they_were_given() -> None:
    shared = {"http_options": {"host": "0.0.0.0", "port": 8000}, "proxy_location": "EveryNode", "target_capacity": 50.0}
    there = details(app("theirs", THEIRS), app("by serve.run", None, "imperative"), **shared)
    assert with_application(there, OURS) == {**shared, "applications": [THEIRS, OURS]}
    both = details(app("theirs", THEIRS), app("mlscale-1", OURS), **shared)
    assert without_application(both, "mlscale-1") == {**shared, "applications": [THEIRS]}
    assert with_application(both, OURS)["applications"] == [THEIRS, OURS], "not twice"


def test_an_application_that_ends_is_not_deployed_again() -> None:
    assert without_application(details(app("old", None, status="DELETING")), "x")["applications"] == []


def test_an_application_whose_configuration_is_not_known_yet_keeps_us_away() -> None:
    with pytest.raises(MlscaleError, match="would be lost"):
        with_application(details(app("new", None, status="DEPLOYING")), OURS)


def test_nothing_runs_there() -> None:
    assert not runs_serve({"controller_info": {}, "applications": {}, "proxies": {}, "target_capacity": None})
    assert with_application({"applications": {}, "target_capacity": None}, OURS) == {"applications": [OURS]}


def test_the_application_is_one_that_ray_accepts() -> None:
    from ray.serve.schema import ServeDeploySchema

    settings = {"app": RayServeScaling.of_arm("matched").model_copy(update={"working_dir": "https://x/y.zip"})}
    made = application("mlscale-1", own_model("m:make"), settings)
    ServeDeploySchema.model_validate({"applications": [made]})
    (part,) = made["args"]["components"]
    assert part["options"]["autoscaling_config"]["target_ongoing_requests"] == 1.0
    assert "runtime_env" not in part["options"]["ray_actor_options"], "no wrapper: nothing there enforces a quota"


def deployment(target: int, **replicas: str) -> dict[str, Any]:
    listed = [{"replica_id": name, "state": state, "start_time_s": 5.0, "pid": 7} for name, state in replicas.items()]
    return {"target_num_replicas": target, "message": "", "replicas": listed}


def test_changes_of_the_target_are_decisions_and_replicas_have_rays_names() -> None:
    watch = DeploymentWatch("app")
    first = watch.take(deployment(1, a="RUNNING"), 10.0, 9.75)
    assert [each.get("kind") for each in first] == ["replica_created", "replica_ready", None]
    more = watch.take(deployment(2, a="RUNNING", b="STARTING"), 10.25, 10.0)
    assert more[0]["kind"] == "scale_decision"
    assert (more[0]["detail"]["from"], more[0]["detail"]["to"]) == (1, 2)
    assert (more[0]["t"], more[0]["known_within_s"]) == (10.25, 0.25)
    assert (more[-1]["desired"], more[-1]["starting"], more[-1]["ready"]) == (2, 1, 1)
    ready = watch.take(deployment(2, a="RUNNING", b="RUNNING"), 12.0, 11.75)
    assert [(each["kind"], each["subject"], each["t"]) for each in ready[:-1]] == [
        ("replica_created", "b", 10.25),
        ("replica_ready", "b", 12.0),
    ]


def test_settings_of_a_cluster_need_its_address() -> None:
    with pytest.raises(ValueError, match="address"):
        RayServeScaling(working_dir="https://x/y.zip")
    with pytest.raises(ValueError, match="pattern"):
        RayServeScaling(address="ray://head:10001")


def test_nodes_that_join_and_leave_are_machines() -> None:
    def node(name: str, state: str = "ALIVE") -> dict[str, Any]:
        return {"node_id": name, "state": state, "start_time_ms": 1_700_000_000_500}

    watch = NodeWatch()
    assert list(watch.take([node("a"), node("dead", "DEAD")], 1.0, 1.0)) == [], "those that were there"
    (joined,) = watch.take([node("a"), node("b")], 2.0, 1.0)
    assert (joined.kind, joined.subject, joined.t_s, joined.known_within_s) == ("machine_registered", "b", 2.0, 1.0)
    assert joined.source_time == "2023-11-14T22:13:20.500000+00:00"
    assert watch.alive == 2
    (left,) = watch.take([node("a", "DEAD"), node("b")], 3.0, 1.0)
    assert (left.kind, left.subject) == ("machine_removed", "a")
