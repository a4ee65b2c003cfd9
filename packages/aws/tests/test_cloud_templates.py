"""The templates and policies in cloud/: what cfn-lint finds, and rules for what it does not look at. Each rule is tried
on the files as they are, and all of them on files with an error put in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest
from aws_account import TEMPLATES, dependencies, in_order, read_template, references

import mlscale.serving
from mlscale_aws.load_job import CONTAINER
from mlscale_aws.observation import SERVICE
from mlscale_aws.settings import FARGATE_SIZES

Cloud = Mapping[str, Any]
TEXTS: Final = {file.name: file.read_text() for file in TEMPLATES.iterdir()}
NAMES: Final = sorted(name for name in TEXTS if name.endswith(".yaml"))
RUNS: Final = [name for name in NAMES if name != "guard.yaml"]
SERVER: Final = Path(mlscale.serving.__file__).with_name("server.py").read_text()
SOURCES: Final = [(TEMPLATES.parent / name).read_text() for name in ("environment.py", "deployed.py")]
SCALABLE: Final = "AWS::ApplicationAutoScaling::ScalableTarget"
POLICY: Final = "AWS::ApplicationAutoScaling::ScalingPolicy"
RULES: Final[list[Callable[[Cloud], None]]] = []


def rule(function: Callable[[Cloud], None]) -> Callable[[Cloud], None]:
    RULES.append(function)
    return function


def parsed(texts: Mapping[str, str]) -> Cloud:
    return {name: read_template(text) if name.endswith(".yaml") else json.loads(text) for name, text in texts.items()}


def lint(file: Path) -> str:
    """What cfn-lint finds; empty: nothing."""
    argv = [str(Path(sys.executable).with_name("cfn-lint")), "--format", "json", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return "" if json.loads(done.stdout or "[0]") == [] else done.stdout + done.stderr


def of_type(found: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {name: body["Properties"] for name, body in found["Resources"].items() if body["Type"] == kind}


def only(found: Mapping[str, Any], kind: str) -> Any:
    (body,) = of_type(found, kind).values()
    return body


def actions_of(statement: Mapping[str, Any]) -> list[str]:
    return [statement["Action"]] if isinstance(statement["Action"], str) else list(statement["Action"])


def statements(cloud: Cloud, role: str) -> Iterator[Mapping[str, Any]]:
    for policy in of_type(cloud["guard.yaml"], "AWS::IAM::Role")[role].get("Policies", ()):
        yield from policy["PolicyDocument"]["Statement"]


def allowed(cloud: Cloud, role: str) -> set[str]:
    return {action for statement in statements(cloud, role) for action in actions_of(statement)}


@pytest.mark.parametrize("name", NAMES)
def test_cfn_lint_finds_nothing(name: str) -> None:
    assert not lint(TEMPLATES / name)


@rule
def everything_hangs_on_the_expiry_which_is_made_first_and_removed_last(cloud: Cloud) -> None:
    for found in (cloud[name] for name in RUNS):
        needs = dependencies(found)
        for resource in needs:
            above, todo = set[str](), [resource]
            while todo:
                above |= (new := needs[todo.pop()] - above)
                todo += new
            assert resource == "Expiry" or "Expiry" in above, resource
        assert in_order(found)[0] == "Expiry"


@rule
def the_expiry_deletes_the_stack(cloud: Cloud) -> None:
    """Scheduler's universal target takes the API's parameters, whose case matters; the action begins in lower case."""
    for found in (cloud[name] for name in RUNS):
        expiry = only(found, "AWS::Scheduler::Schedule")
        rate = re.fullmatch(r"rate\((\d+) (minute|hour)(s?)\)", expiry["ScheduleExpression"])
        assert rate is not None
        assert (rate[1] == "1") == (rate[3] == "")
        assert expiry["StartDate"] == {"Ref": "ExpiresAt"}
        target = expiry["Target"]
        assert json.loads(target["Input"]["Sub"].replace("${AWS::StackName}", "this")) == {"StackName": "this"}
        assert target["Arn"]["Sub"].endswith(":aws-sdk:cloudformation:deleteStack")
        assert target["RoleArn"] == {"Ref": "SchedulerRoleArn"}
    assert allowed(cloud, "SchedulerRole") == {"cloudformation:DeleteStack"}


@rule
def every_name_that_is_used_is_there(cloud: Cloud) -> None:
    for found in (cloud[name] for name in NAMES):
        known = {*found["Resources"], *found.get("Parameters", {}), *found.get("Conditions", {})}
        used = {each for part in (found["Resources"], found["Outputs"]) for each in references(part)}
        assert {each for each in used if not each.startswith("AWS::")} <= known
        assert set(found.get("Parameters", {})) <= used | set(references(found.get("Conditions", {})))


@rule
def nothing_comes_in_from_outside(cloud: Cloud) -> None:
    found = cloud["ecs.yaml"]
    inline = [group.get("SecurityGroupIngress", ()) for group in of_type(found, "AWS::EC2::SecurityGroup").values()]
    separate = of_type(found, "AWS::EC2::SecurityGroupIngress").values()
    for each in [*(each for group in inline for each in group), *separate]:
        assert not {"CidrIp", "CidrIpv6", "SourcePrefixListId"} & set(each)
        assert each["SourceSecurityGroupId"]
    assert only(found, "AWS::ElasticLoadBalancingV2::LoadBalancer")["Scheme"] == "internal"


@rule
def the_load_reaches_the_balancer_and_the_balancer_the_tasks(cloud: Cloud) -> None:
    """And all of them the internet, as a group without rules of its own for what goes out lets them."""
    found = cloud["ecs.yaml"]
    groups = of_type(found, "AWS::EC2::SecurityGroup")
    assert not of_type(found, "AWS::EC2::SecurityGroupEgress")
    assert not [name for name, group in groups.items() if "SecurityGroupEgress" in group]
    listener = only(found, "AWS::ElasticLoadBalancingV2::Listener")
    target = only(found, "AWS::ElasticLoadBalancingV2::TargetGroup")
    assert listener["Protocol"] == target["Protocol"] == "HTTP"
    for to, source, port in (
        ("BalancerGroup", "LoadGroup", listener["Port"]),
        ("TaskGroup", "BalancerGroup", target["Port"]),
    ):
        (ingress,) = groups[to]["SecurityGroupIngress"]
        assert ingress["SourceSecurityGroupId"] == {"Ref": source}
        assert ingress["FromPort"] == ingress["ToPort"] == port
    assert only(found, "AWS::ElasticLoadBalancingV2::LoadBalancer")["SecurityGroups"] == [{"Ref": "BalancerGroup"}]


@rule
def tasks_on_fargate_are_targets_by_their_address(cloud: Cloud) -> None:
    """Target type ``instance`` passes cfn-lint, and no task ever becomes healthy."""
    target = only(cloud["ecs.yaml"], "AWS::ElasticLoadBalancingV2::TargetGroup")
    assert target["TargetType"] == "ip"
    assert 'add_get("' + target["HealthCheckPath"] + '"' in SERVER
    assert target["HealthCheckTimeoutSeconds"] < target["HealthCheckIntervalSeconds"]
    service = only(cloud["ecs.yaml"], "AWS::ECS::Service")
    assert ("LaunchType" in service) != ("CapacityProviderStrategy" in service), "one of them"
    assert service["HealthCheckGracePeriodSeconds"] >= 60, "a task that still starts is not replaced"
    for task in of_type(cloud["ecs.yaml"], "AWS::ECS::TaskDefinition").values():
        assert task["RequiresCompatibilities"] == [service["LaunchType"]]


@rule
def tasks_and_machines_reach_their_registry(cloud: Cloud) -> None:
    """There is no NAT: without an address of its own a task or machine can't pull its image."""
    network = only(cloud["ecs.yaml"], "AWS::ECS::Service")["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "ENABLED"
    assert network["SecurityGroups"] == [{"Ref": "TaskGroup"}]
    assert network["Subnets"] == [{"Ref": "SubnetA"}, {"Ref": "SubnetB"}]
    assert all(subnet["MapPublicIpOnLaunch"] for subnet in of_type(cloud["eks.yaml"], "AWS::EC2::Subnet").values())
    for found in (cloud[name] for name in RUNS):
        route = only(found, "AWS::EC2::Route")
        assert (route["GatewayId"], route["DestinationCidrBlock"]) == ({"Ref": "InternetGateway"}, "0.0.0.0/0")
        assert dependencies(found)["Attachment"] == {"Vpc", "InternetGateway"}
        assert "Attachment" in dependencies(found)["Outwards"]
        zones = [subnet["AvailabilityZone"]["Select"] for subnet in of_type(found, "AWS::EC2::Subnet").values()]
        assert sorted(number for number, _ in zones) == [0, 1], "ELB and EKS want two zones"


@rule
def the_service_names_containers_and_ports_that_its_task_has(cloud: Cloud) -> None:
    found = cloud["ecs.yaml"]
    service, target = only(found, "AWS::ECS::Service"), only(found, "AWS::ElasticLoadBalancingV2::TargetGroup")
    task = of_type(found, "AWS::ECS::TaskDefinition")[service["TaskDefinition"]["Ref"]]
    containers = {each["Name"]: each for each in task["ContainerDefinitions"]}
    (forward,) = only(found, "AWS::ElasticLoadBalancingV2::Listener")["DefaultActions"]
    assert service["Cluster"] == {"Ref": "Cluster"}, "else the account's default one"
    for balancer in service["LoadBalancers"]:
        assert balancer["TargetGroupArn"] == forward["TargetGroupArn"] == {"Ref": "Targets"}
        container = containers[balancer["ContainerName"]]
        assert balancer["ContainerPort"] in [each["ContainerPort"] for each in container["PortMappings"]]
        assert container["Command"][container["Command"].index("--port") + 1] == str(target["Port"])


@rule
def what_the_program_names_is_in_the_stack(cloud: Cloud) -> None:
    """By the stack's name its cluster, log and schedule are found, and roles are allowed to use them."""
    found, named = cloud["ecs.yaml"], {"Ref": "AWS::StackName"}
    assert only(found, "AWS::ECS::Cluster")["ClusterName"] == named
    assert only(found, "AWS::Logs::LogGroup")["LogGroupName"] == named
    assert all(only(cloud[name], "AWS::Scheduler::Schedule")["Name"] == named for name in RUNS)
    assert only(cloud["eks.yaml"], "AWS::EKS::Cluster")["Name"] == named
    assert only(found, "AWS::ECS::Service")["ServiceName"] == SERVICE
    read = {name for text in SOURCES for name in re.findall(r'outputs\["(\w+)"\]', text)}
    assert read == set(found["Outputs"])
    for task in of_type(found, "AWS::ECS::TaskDefinition").values():
        (container,) = task["ContainerDefinitions"]
        logs = container["LogConfiguration"]["Options"]
        assert task["Family"]["Sub"].startswith("${AWS::StackName}-")
        assert task["ExecutionRoleArn"] == {"Ref": "ExecutionRoleArn"}, "by which the image is pulled"
        assert logs["awslogs-group"] == {"Ref": "Logs"}
        assert logs["awslogs-stream-prefix"] == container["Name"]
        program = find_spec(container["EntryPoint"][-1])
        assert program is not None
        assert program.origin is not None
        options = [each for each in container.get("Command", ()) if str(each).startswith("--")]
        assert all(f'"{option}"' in Path(program.origin).read_text() for option in options)
    (load,) = of_type(found, "AWS::ECS::TaskDefinition")["Load"]["ContainerDefinitions"]
    assert load["Name"] == CONTAINER


@rule
def each_parameter_goes_where_it_belongs(cloud: Cloud) -> None:
    found = cloud["ecs.yaml"]
    tasks, target = of_type(found, "AWS::ECS::TaskDefinition"), only(found, SCALABLE)
    tracking = only(found, POLICY)["TargetTrackingScalingPolicyConfiguration"]
    given = {f"Task{name}": tasks["Application"][name] for name in ("Cpu", "Memory")}
    given |= {f"Load{name}": tasks["Load"][name] for name in ("Cpu", "Memory")}
    given |= {f"{name}Tasks": target[f"{name}Capacity"] for name in ("Min", "Max")}
    given |= {name: tracking[name] for name in ("ScaleOutCooldown", "ScaleInCooldown")}
    given["TargetCpuPercent"] = tracking["TargetValue"]
    assert only(found, "AWS::ECS::Service")["DesiredCount"] == given["MinTasks"]
    assert given == {name: {"Ref": name} for name in given}
    condition, often, seldom = tracking["PredefinedMetricSpecification"]["PredefinedMetricType"]["If"]
    assert found["Conditions"][condition] == {"Equals": [{"Ref": "MetricPeriod"}, "20"]}
    assert often == f"{seldom}HighResolution"


@rule
def the_service_waits_for_its_listener_and_for_the_way_out(cloud: Cloud) -> None:
    """Without a listener the service is refused; without a route no image is pulled."""
    assert {"Listener", "Outwards", "RoutesOfA", "RoutesOfB"} <= dependencies(cloud["ecs.yaml"])["Service"]


@rule
def the_service_is_scaled_by_its_name(cloud: Cloud) -> None:
    found = cloud["ecs.yaml"]
    for scaled in (only(found, kind) for kind in (SCALABLE, POLICY)):
        assert scaled["ServiceNamespace"] == "ecs"
        assert scaled["ScalableDimension"] == "ecs:service:DesiredCount"
        assert scaled["ResourceId"] == {"Sub": "service/${Cluster}/${Service.Name}"}
    assert "Scalable" in dependencies(found)["Tracking"], "the policy of a target that is registered"


@rule
def what_fails_is_seen_and_what_is_logged_arrives(cloud: Cloud) -> None:
    found = cloud["ecs.yaml"]
    breaker = only(found, "AWS::ECS::Service")["DeploymentConfiguration"]["DeploymentCircuitBreaker"]
    assert breaker == {"Enable": True, "Rollback": False}
    (load,) = of_type(found, "AWS::ECS::TaskDefinition")["Load"]["ContainerDefinitions"]
    assert load["LogConfiguration"]["Options"]["mode"] == "blocking", "by default it drops lines (ECS's API reference)"


@rule
def default_sizes_are_sold_and_logs_do_not_stay(cloud: Cloud) -> None:
    parameters = cloud["ecs.yaml"]["Parameters"]
    assert parameters["LoadMemory"]["Default"] in FARGATE_SIZES[parameters["LoadCpu"]["Default"] / 1024]
    assert only(cloud["ecs.yaml"], "AWS::Logs::LogGroup")["RetentionInDays"] == 1


@rule
def the_guard_s_roles_name_every_action_and_narrow_what_changes_things(cloud: Cloud) -> None:
    for name in of_type(cloud["guard.yaml"], "AWS::IAM::Role"):
        for statement in statements(cloud, name):
            actions = actions_of(statement)
            assert not [action for action in actions if "*" in action], name
            reads = all(":Describe" in action or ":Get" in action for action in actions)
            if statement["Resource"] == "*" and not reads:
                assert statement["Condition"], f"{name}: {actions}"
            if "ecr:BatchGetImage" in actions:
                assert statement["Resource"]["Sub"].endswith(":${AWS::AccountId}:repository/mlscale-*")


# For properties that no template sets: instance profiles (the cluster's own role makes EKS's), keys, pod identities,
# VPN gateways, encrypted VPCs, rules for what goes out, replaced routes, users' pools, reserved capacity, attributes of
# listeners, registered targets, scheduled scaling, functions, delivered and protected logs.
UNUSED: Final = {
    "application-autoscaling:PutScheduledAction", "cognito-idp:DescribeUserPoolClient", "ec2:AttachVpnGateway",
    "ec2:AuthorizeSecurityGroupEgress", "ec2:CreateVpcEncryptionControl", "ec2:DetachVpnGateway",
    "ec2:ReplaceRouteTableAssociation", "ec2:RevokeSecurityGroupEgress", "eks:CreatePodIdentityAssociation",
    "eks:DeletePodIdentityAssociation", "elasticloadbalancing:ModifyCapacityReservation",
    "elasticloadbalancing:ModifyListenerAttributes", "elasticloadbalancing:RegisterTargets",
    "elasticloadbalancing:SetSecurityGroups", "firehose:TagDeliveryStream", "iam:AddRoleToInstanceProfile",
    "iam:CreateInstanceProfile", "iam:DeleteInstanceProfile", "iam:GetInstanceProfile",
    "iam:RemoveRoleFromInstanceProfile", "iam:TagInstanceProfile", "kms:CreateGrant", "kms:DescribeKey",
    "lambda:DeleteProvisionedConcurrencyConfig", "lambda:GetProvisionedConcurrencyConfig",
    "lambda:PutProvisionedConcurrencyConfig", "logs:CreateLogDelivery", "logs:DeleteDataProtectionPolicy",
    "logs:PutBearerTokenAuthentication", "logs:PutDataProtectionPolicy", "logs:PutIndexPolicy",
    "logs:PutResourcePolicy", "s3:REST.PUT.OBJECT",
}  # fmt: skip
# ELB checks these for whoever calls it, and no schema names them (Elastic Load Balancing user guide, "API permissions":
# CreateLoadBalancer, CreateTargetGroup; the last: kubernetes-sigs/aws-load-balancer-controller#3917).
ELB_CHECKS: Final = {
    "ec2:DescribeAccountAttributes",
    "ec2:DescribeAddresses",
    "ec2:DescribeInternetGateways",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "iam:CreateServiceLinkedRole",
    "ec2:GetSecurityGroupsForVpc",
}


@cache
def declared(kinds: frozenset[str]) -> frozenset[str]:
    """The actions that making, reading and deleting such resources needs, as declared by their schemas, which cfn-lint
    brings along."""
    needed = set()
    for file in (Path(str(files("cfnlint.data.schemas"))) / "resources").glob("*.json"):
        schema = json.loads(file.read_text())
        if schema["typeName"] in kinds:
            handlers = [schema["handlers"].get(name, {}) for name in ("create", "read", "delete")]
            needed |= {action for handler in handlers for action in handler.get("permissions", ())}
    return frozenset(needed)


@rule
def cloudformation_s_role_may_do_what_the_kinds_of_resources_need(cloud: Cloud) -> None:
    needed = declared(frozenset(body["Type"] for name in RUNS for body in cloud[name]["Resources"].values()))
    may = allowed(cloud, "CloudFormationRole")
    assert needed - may == UNUSED
    (of_eks,) = [each for each in statements(cloud, "CloudFormationRole") if "eks:CreateCluster" in each["Action"]]
    kinds = [each["Sub"].rpartition("/")[0].rpartition(":")[2] for each in of_eks["Resource"]]
    assert kinds == ["cluster", "access-entry", "addon"]
    assert may >= ELB_CHECKS
    (linked,) = [each for each in statements(cloud, "CloudFormationRole") if "LinkedRole" in str(each["Action"])]
    services = {f"{service}.amazonaws.com" for service in ("ecs", "eks", "elasticloadbalancing")}
    services.add(f"{only(cloud['ecs.yaml'], SCALABLE)['ServiceNamespace']}.application-autoscaling.amazonaws.com")
    assert set(linked["Condition"]["StringEquals"]["iam:AWSServiceName"]) == services


@rule
def ecs_pulls_images_and_writes_logs(cloud: Cloud) -> None:
    """What AWS's own policy for it allows, AmazonECSTaskExecutionRolePolicy (ECS developer guide)."""
    needed = {f"ecr:{name}" for name in ("GetAuthorizationToken", "BatchGetImage", "GetDownloadUrlForLayer")}
    needed |= {"ecr:BatchCheckLayerAvailability", "logs:CreateLogStream", "logs:PutLogEvents"}
    assert allowed(cloud, "ExecutionRole") == needed


@rule
def a_cluster_is_in_standard_support_and_measures_cpu(cloud: Cloud) -> None:
    found = cloud["eks.yaml"]
    assert only(found, "AWS::EKS::Cluster")["UpgradePolicy"] == {"SupportType": "STANDARD"}
    assert float(found["Parameters"]["KubernetesVersion"]["Default"]) > 1.34, "whose standard support has ended"
    assert only(found, "AWS::EKS::Addon")["AddonName"] == "metrics-server"


@rule
def a_cluster_is_in_auto_mode(cloud: Cloud) -> None:
    """Its three parts are on together, or the API refuses (EKS API reference, CreateCluster); the roles' policies are
    the user guide's ("Amazon EKS Auto Mode cluster IAM role", "node IAM role"); access entries need that mode."""
    cluster = only(cloud["eks.yaml"], "AWS::EKS::Cluster")
    balancing, disks = (
        cluster["KubernetesNetworkConfig"]["ElasticLoadBalancing"],
        cluster["StorageConfig"]["BlockStorage"],
    )
    assert balancing["Enabled"] is disks["Enabled"] is cluster["ComputeConfig"]["Enabled"] is True
    assert cluster["BootstrapSelfManagedAddons"] is False
    assert cluster["AccessConfig"]["AuthenticationMode"] == "API"
    roles = of_type(cloud["guard.yaml"], "AWS::IAM::Role")
    for role, names in (
        (
            "EksClusterRole",
            [f"EKS{part}Policy" for part in ("Cluster", "Compute", "BlockStorage", "LoadBalancing", "Networking")],
        ),
        ("EksNodeRole", ["EKSWorkerNodeMinimalPolicy", "EC2ContainerRegistryPullOnly"]),
    ):
        attached = [each["Sub"].partition("iam::aws:policy/Amazon")[2] for each in roles[role]["ManagedPolicyArns"]]
        assert sorted(attached) == sorted(names)


# Who takes a role, and whether it says for which account: EC2 does not, of CloudFormation nothing is documented.
TAKEN_BY: Final = {
    "CloudFormationRole": ("cloudformation.amazonaws.com", "StringEqualsIfExists"),
    "SchedulerRole": ("scheduler.amazonaws.com", "StringEquals"),
    "ExecutionRole": ("ecs-tasks.amazonaws.com", "StringEquals"),
    "EksClusterRole": ("eks.amazonaws.com", "StringEquals"),
    "EksNodeRole": ("ec2.amazonaws.com", None),
}


@rule
def only_its_service_takes_each_of_the_guard_s_roles(cloud: Cloud) -> None:
    roles = of_type(cloud["guard.yaml"], "AWS::IAM::Role")
    assert set(roles) == set(TAKEN_BY)
    for name, (service, condition) in TAKEN_BY.items():
        (statement,) = roles[name]["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": service}
        # EKS tags its sessions in Auto Mode (user guide, "Amazon EKS Auto Mode cluster IAM role").
        tagging = ["sts:TagSession"] if name == "EksClusterRole" else []
        assert actions_of(statement) == ["sts:AssumeRole", *tagging]
        account = {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
        assert statement.get("Condition") == ({condition: account} if condition else None)


@rule
def every_role_that_a_stack_names_may_be_passed(cloud: Cloud) -> None:
    """By CloudFormation's role to the services; by the user, CloudFormation's role, and the one of the load's task."""
    named = {"ExecutionRole", "SchedulerRole", "EksClusterRole", "EksNodeRole"}
    passing = [each for each in statements(cloud, "CloudFormationRole") if "iam:PassRole" in actions_of(each)]
    assert {each["GetAtt"] for statement in passing for each in statement["Resource"]} == {f"{n}.Arn" for n in named}
    (by_user,) = [each for each in cloud["user-policy.json"]["Statement"] if "iam:PassRole" in actions_of(each)]
    roles = of_type(cloud["guard.yaml"], "AWS::IAM::Role")
    prefixes = [
        roles[name]["RoleName"]["Sub"].removesuffix("${AWS::Region}")
        for name in ("CloudFormationRole", "ExecutionRole")
    ]
    assert by_user["Resource"] == [f"arn:aws:iam::*:role/{prefix}*" for prefix in prefixes]
    services = [TAKEN_BY[name][0] for name in ("CloudFormationRole", "ExecutionRole")]
    assert by_user["Condition"] == {"StringEquals": {"iam:PassedToService": services}}


@rule
def users_change_stacks_of_runs_alone(cloud: Cloud) -> None:
    """Not the guard, by whose roles they could do anything; nor what they import into a stack."""
    allows = [each for each in cloud["user-policy.json"]["Statement"] if each["Effect"] == "Allow"]
    for statement in allows:
        changes = [each for each in actions_of(statement) if re.match("cloudformation:(?!Describe|List)", each)]
        assert not changes or statement["Resource"] == "arn:aws:cloudformation:*:*:stack/mlscale-run-*/*"
    (denial,) = [each for each in cloud["user-policy.json"]["Statement"] if each["Effect"] == "Deny"]
    assert (denial["Action"], denial["Resource"]) == ("cloudformation:CreateChangeSet", "*")
    assert denial["Condition"] == {"ForAnyValue:StringLike": {"cloudformation:ImportResourceTypes": ["*"]}}


@pytest.mark.parametrize("holds", RULES, ids=lambda holds: holds.__name__)
def test_the_files_as_they_are(holds: Callable[[Cloud], None]) -> None:
    holds(parsed(TEXTS))


# Each passes a careless reading, and would break, cost or expose a run.
SEEDED: Final = [
    ("ecs.yaml", "ScalableDimension: ecs:service:DesiredCount", "ScalableDimension: ecs:service:desiredCount"),
    ("ecs.yaml", "service/${Cluster}/${Service.Name}", "service/${Service.Name}/${Cluster}"),
    ("ecs.yaml", "    DependsOn: Scalable\n", ""),
    ("ecs.yaml", "    DependsOn: Attachment\n", ""),
    ("ecs.yaml", "DependsOn: [Listener, Outwards, RoutesOfA, RoutesOfB]", "DependsOn: [Listener]"),
    ("ecs.yaml", '{"StackName":"${AWS::StackName}"}', '{"stackName":"${AWS::StackName}"}'),
    ("ecs.yaml", '{"StackName":"${AWS::StackName}"}', '{"StackName":"StackName"}'),
    ("ecs.yaml", '{"StackName":"${AWS::StackName}"}', '{"StackName":${AWS::StackName}}'),
    ("ecs.yaml", "cloudformation:deleteStack", "cloudformation:DeleteStack"),
    ("ecs.yaml", "      StartDate: !Ref ExpiresAt\n", ""),
    ("ecs.yaml", "rate(15 minutes)", "rate(15 minute)"),
    ("ecs.yaml", "HealthCheckPath: /readyz", "HealthCheckPath: /ready"),
    ("ecs.yaml", "TargetType: ip", "TargetType: instance"),
    ("ecs.yaml", "AssignPublicIp: ENABLED", "AssignPublicIp: DISABLED"),
    (
        "ecs.yaml",
        "          FromPort: 8080\n          ToPort: 8080\n",
        "          FromPort: 80\n          ToPort: 80\n",
    ),
    ("ecs.yaml", "Scheme: internal", "Scheme: internet-facing"),
    (
        "ecs.yaml",
        "  Balancer:\n",
        "  Open:\n    Type: AWS::EC2::SecurityGroupIngress\n    Properties: {GroupId: !GetAtt TaskGroup.GroupId, "
        "IpProtocol: tcp, FromPort: 8080, ToPort: 8080, CidrIp: 0.0.0.0/0}\n  Balancer:\n",
    ),
    ("ecs.yaml", "              mode: blocking\n", ""),
    ("ecs.yaml", "      RetentionInDays: 1\n", ""),
    ("eks.yaml", '{"StackName":"${AWS::StackName}"}', '{"Stackname":"${AWS::StackName}"}'),
    ("guard.yaml", "Service: scheduler.amazonaws.com", "Service: events.amazonaws.com"),
    ("guard.yaml", "Action: cloudformation:DeleteStack", "Action: cloudformation:DeleteStacks"),
    ("guard.yaml", "                  - !GetAtt ExecutionRole.Arn\n", ""),
    ("guard.yaml", "                  - ec2:GetSecurityGroupsForVpc\n", ""),
    ("guard.yaml", "StringEqualsIfExists", "StringEquals"),
    ("guard.yaml", "repository/mlscale-*", "repository/*"),
    ("ecs.yaml", "SourceSecurityGroupId: !Ref BalancerGroup", "SourceSecurityGroupId: !Ref LoadGroup"),
    ("ecs.yaml", "      Protocol: HTTP\n      Port: 80\n", "      Protocol: HTTP\n      Port: 8080\n"),
    ("ecs.yaml", "[1, !GetAZs '']", "[0, !GetAZs '']"),
    ("ecs.yaml", "DestinationCidrBlock: 0.0.0.0/0", "DestinationCidrBlock: 10.0.0.0/8"),
    ("ecs.yaml", "awslogs-stream-prefix: load", "awslogs-stream-prefix: loads"),
    ("ecs.yaml", "LogGroupName: !Ref AWS::StackName", "LogGroupName: !Sub /mlscale/${AWS::StackName}"),
    ("ecs.yaml", "mlscale.loadgen.remote_job", "mlscale.loadgen.job"),
    ("ecs.yaml", "MinCapacity: !Ref MinTasks", "MinCapacity: !Ref MaxTasks"),
    ("ecs.yaml", "            - ECSServiceAverageCPUUtilizationHighResolution\n", ""),
    ("eks.yaml", "MapPublicIpOnLaunch: true", "MapPublicIpOnLaunch: false"),
    ("eks.yaml", "BlockStorage: {Enabled: true}", "BlockStorage: {Enabled: false}"),
    ("ecs.yaml", "      Cluster: !Ref Cluster\n", ""),
    ("ecs.yaml", "      HealthCheckGracePeriodSeconds: 120\n", ""),
    ("ecs.yaml", "      InternetGatewayId: !Ref InternetGateway\n", ""),
    ("guard.yaml", "                  - ecr:GetDownloadUrlForLayer\n", ""),
    ("guard.yaml", "                  - scheduler:CreateSchedule\n", ""),
    ("guard.yaml", "[sts:AssumeRole, sts:TagSession]", "sts:AssumeRole"),
    ("guard.yaml", "ContainerRegistryPullOnly", "ContainerRegistryReadOnly"),
    ("user-policy.json", "stack/mlscale-run-*/*", "stack/mlscale-*/*"),
    ("user-policy.json", '"iam:PassedToService": ["cloudformation.amazonaws.com", ', '"iam:PassedToService": ['),
]


@pytest.mark.parametrize(("name", "right", "wrong"), SEEDED)
def test_an_error_put_in_is_caught(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    assert right in TEXTS[name]
    changed = {**TEXTS, name: TEXTS[name].replace(right, wrong, 1)}
    (tmp_path / name).write_text(changed[name])
    assert any(not holds_for(each, parsed(changed)) for each in RULES) or lint(tmp_path / name)


def holds_for(holds: Callable[[Cloud], None], cloud: Cloud) -> bool:
    try:
        holds(cloud)
    except (AssertionError, LookupError, ValueError, TypeError):
        return False
    return True
