"""What is put to Ray Serve's REST API, and what its answers become; test_ray_cluster asks a real one."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mlscale.environments.base import own_model
from mlscale.environments.rayserve import rest
from mlscale.environments.rayserve.existing import DeploymentWatch, NodeWatch, application
from mlscale.environments.rayserve.metrics import Export, MetricsReader
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
    watch = DeploymentWatch("app", 2.0)
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


def test_requests_that_the_metrics_count_are_the_reason_of_decisions_seen_before() -> None:
    watch = DeploymentWatch("app", 2.0)
    watch.take(deployment(1, a="RUNNING"), 10.0, 9.75)
    watch.take(deployment(3, a="RUNNING"), 11.0, 10.75)
    exports = [Export(14.0, 2.0, {"app": 5.0, "other": 9.0}), Export(24.0, 12.0, {"app": 5.0})]
    told = watch.take(deployment(3, a="RUNNING"), 24.5, 24.25, exports)
    (count,) = (each for each in told if each.get("kind") == "scale_decision")
    assert (count["t"], count["known_within_s"]) == (14.0, 12.0), "and not again while it stays the same"
    assert (count["detail"]["from"], count["detail"]["to"], count["detail"]["raw"]) == (3, 3, 2.5)
    assert "5.00 requests queued or in service / 2 a replica = 2.50" in count["detail"]["reason"]


METRICS = """# TYPE ray_serve_controller_num_control_loops gauge
ray_serve_controller_num_control_loops{{Component="core_worker",actor_id="5b"}} {loops}
ray_serve_autoscaling_total_requests{{NodeAddress="10.0.0.7",application="mine",deployment="app",x="y"}} {requests}
ray_serve_autoscaling_total_requests{{NodeAddress="10.0.0.7",application="theirs",deployment="app",x="y"}} 77.0
"""


def test_an_export_is_as_late_as_the_one_before_it_can_be() -> None:
    reader = MetricsReader(rest.ServeApi("http://nobody:8265"), "mine")
    looks = [(0.0, 100, 1.0), (2.0, 100, 1.0), (4.0, 190, 2.0), (6.0, 190, 2.0), (14.0, 290, 3.0), (24.0, 390, 3.0)]
    for t, loops, requests in looks:
        reader.take(METRICS.format(loops=loops, requests=requests), t, t + 0.1)
    seen = list(reader.new())
    assert [(each.t, each.since, each.requests) for each in seen] == [
        (14.1, 2.0, {"app": 3.0}),
        (24.1, 6.0, {"app": 3.0}),
    ], "the one at 4 s came after the look at 2 s; how old the first one was nobody knows"
    assert reader.facts["exports"] == 2
    assert reader.facts["late_at_most_s"] == pytest.approx(18.1)
    with pytest.raises(ValueError, match="no metrics of Serve's controller"):
        reader.take("# nothing", 30.0, 30.1)


def test_metrics_out_of_reach_are_said_to_be() -> None:
    reader = MetricsReader(rest.ServeApi("http://127.0.0.1:9"), "mine")
    assert "missing" in reader.facts
    with reader.reading():
        deadline_s = time.monotonic() + 30
        while "no answer" not in reader.facts["missing"]:
            assert time.monotonic() < deadline_s, reader.facts
            time.sleep(0.02)
    assert list(reader.new()) == []


def test_settings_of_a_cluster_need_its_address() -> None:
    with pytest.raises(ValueError, match="address"):
        RayServeScaling(working_dir="https://x/y.zip")
    with pytest.raises(ValueError, match="load_from is for a cluster"):
        RayServeScaling(load_from="10.0.0.8")
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
