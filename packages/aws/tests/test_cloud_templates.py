"""The templates in cloud/: what cfn-lint finds, and what it does not look at."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from aws_account import TEMPLATES, dependencies, in_order, read_template, references

from mlscale_aws.settings import FARGATE_SIZES

NAMES = sorted(file.name for file in TEMPLATES.glob("*.yaml"))
RUNS = [name for name in NAMES if name != "guard.yaml"]


def template(name: str) -> dict[str, Any]:
    return read_template((TEMPLATES / name).read_text())


def of_type(found: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {name: body["Properties"] for name, body in found["Resources"].items() if body["Type"] == kind}


@pytest.mark.parametrize("name", NAMES)
def test_cfn_lint_finds_nothing(name: str) -> None:
    argv = [str(Path(sys.executable).with_name("cfn-lint")), "--format", "json", str(TEMPLATES / name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == [], done.stdout + done.stderr


@pytest.mark.parametrize("name", RUNS)
def test_everything_hangs_on_the_expiry_which_is_made_first_and_removed_last(name: str) -> None:
    found = template(name)
    needs = dependencies(found)
    for resource in needs:
        above, todo = set[str](), [resource]
        while todo:
            above |= (new := needs[todo.pop()] - above)
            todo += new
        assert resource == "Expiry" or "Expiry" in above, resource
    assert in_order(found)[0] == "Expiry"
    expiry = found["Resources"]["Expiry"]["Properties"]
    assert re.fullmatch(r"rate\((1 minute|\d+ minutes|1 hour|\d+ hours)\)", expiry["ScheduleExpression"])
    assert "StackName" in expiry["Target"]["Input"]["Sub"]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_is_used_is_there(name: str) -> None:
    found = template(name)
    known = {*found["Resources"], *found.get("Parameters", {}), *found.get("Conditions", {})}
    used = {each for part in (found["Resources"], found["Outputs"]) for each in references(part)}
    assert {each for each in used if not each.startswith("AWS::")} <= known
    assert set(found.get("Parameters", {})) <= used | set(references(found.get("Conditions", {})))


def test_nothing_comes_in_from_outside() -> None:
    for groups in of_type(template("ecs.yaml"), "AWS::EC2::SecurityGroup").values():
        for rule in groups.get("SecurityGroupIngress", ()):
            assert "CidrIp" not in rule
            assert rule["SourceSecurityGroupId"]
    assert {
        each["Scheme"] for each in of_type(template("ecs.yaml"), "AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    } == {"internal"}


def test_tasks_on_fargate_are_targets_by_their_address() -> None:
    """Target type ``instance`` passes cfn-lint, and no task ever becomes healthy."""
    found = template("ecs.yaml")
    for target in of_type(found, "AWS::ElasticLoadBalancingV2::TargetGroup").values():
        assert target["TargetType"] == "ip"
        assert target["HealthCheckTimeoutSeconds"] < target["HealthCheckIntervalSeconds"]
    for service in of_type(found, "AWS::ECS::Service").values():
        assert ("LaunchType" in service) != ("CapacityProviderStrategy" in service), "one of them"


def test_the_service_names_containers_and_ports_that_its_task_has() -> None:
    found = template("ecs.yaml")
    tasks = of_type(found, "AWS::ECS::TaskDefinition")
    for service in of_type(found, "AWS::ECS::Service").values():
        containers = {each["Name"]: each for each in tasks[service["TaskDefinition"]["Ref"]]["ContainerDefinitions"]}
        for balancer in service["LoadBalancers"]:
            ports = [each["ContainerPort"] for each in containers[balancer["ContainerName"]]["PortMappings"]]
            assert balancer["ContainerPort"] in ports


def test_the_service_waits_for_its_listener_and_for_the_way_out() -> None:
    """Without a listener the service is refused; without a route no image is pulled."""
    needed = dependencies(template("ecs.yaml"))["Service"]
    assert {"Listener", "Outwards", "RoutesOfA", "RoutesOfB"} <= needed


def test_default_sizes_are_sold_and_logs_do_not_stay() -> None:
    found = template("ecs.yaml")
    parameters = found["Parameters"]
    assert parameters["LoadMemory"]["Default"] in FARGATE_SIZES[parameters["LoadCpu"]["Default"] / 1024]
    assert all(group["RetentionInDays"] == 1 for group in of_type(found, "AWS::Logs::LogGroup").values())


def statements(found: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, role in of_type(found, "AWS::IAM::Role").items():
        for policy in role.get("Policies", ()):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def test_the_guard_s_roles_name_every_action_and_narrow_what_changes_things() -> None:
    for name, statement in statements(template("guard.yaml")):
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        assert not [action for action in actions if "*" in action], name
        if statement["Resource"] == "*" and not all(":Describe" in action or ":Get" in action for action in actions):
            assert statement["Condition"], f"{name}: {actions}"


# Of services that no template uses, of kinds of VPC gateways aside; the cluster's own role makes EKS's profile.
UNUSED = {"cognito-idp:DescribeUserPoolClient", "iam:GetInstanceProfile", "kms:DescribeKey"}
UNUSED |= {"lambda:GetProvisionedConcurrencyConfig"}


def test_cloudformation_s_role_may_read_whatever_the_kinds_of_resources_read() -> None:
    """As their schemas, which cfn-lint brings along, declare it."""
    schemas = Path(str(files("cfnlint.data.schemas"))) / "resources"
    kinds = {body["Type"] for name in RUNS for body in template(name)["Resources"].values()}
    needed = set()
    for schema in (json.loads(file.read_text()) for file in schemas.glob("*.json")):
        if schema["typeName"] in kinds:
            handlers = [schema["handlers"].get(name, {}) for name in ("create", "read", "delete")]
            needed |= {action for handler in handlers for action in handler.get("permissions", ())}
    reads = {action for action in needed if re.search(":(Describe|Get|List)", action)}
    allowed = {
        action
        for name, statement in statements(template("guard.yaml"))
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        if name == "CloudFormationRole"
    }
    assert len(reads) > 40
    assert reads - allowed == UNUSED
    addons = {action for action in needed if re.search("eks:(Create|Delete)Addon", action)}
    assert addons <= allowed


def test_a_cluster_is_in_standard_support_and_measures_cpu() -> None:
    found = template("eks.yaml")
    (cluster,) = of_type(found, "AWS::EKS::Cluster").values()
    assert cluster["UpgradePolicy"] == {"SupportType": "STANDARD"}
    assert float(found["Parameters"]["KubernetesVersion"]["Default"]) > 1.34, "whose standard support has ended"
    assert [addon["AddonName"] for addon in of_type(found, "AWS::EKS::Addon").values()] == ["metrics-server"]


def test_only_services_take_the_guard_s_roles() -> None:
    for role in of_type(template("guard.yaml"), "AWS::IAM::Role").values():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert set(statement["Principal"]) == {"Service"}
        if statement["Principal"]["Service"] != "ec2.amazonaws.com":  # which sends no account along
            assert statement["Condition"]["StringEquals"]["aws:SourceAccount"] == {"Ref": "AWS::AccountId"}
