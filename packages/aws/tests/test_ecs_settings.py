"""What AWS does not offer is refused, and the arm that has no equal there names the nearest one."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlscale_aws.settings import FARGATE_SIZES, EcsScaling


@pytest.mark.parametrize(
    ("cores", "memory_mib"), [(0.25, 512), (0.25, 2048), (0.5, 4096), (4.0, 30_720), (16.0, 122_880)]
)
def test_sizes_that_fargate_sells(cores: float, memory_mib: int) -> None:
    assert EcsScaling(cpu_cores=cores, memory_mib=memory_mib).memory_mib == memory_mib


@pytest.mark.parametrize(
    ("cores", "memory_mib", "words"),
    [(0.3, 512, "no tasks of 0.3 vCPU"), (0.25, 256, "not 256"), (0.25, 1536, "not 1536"), (8.0, 20_000, "not 20000")],
)
def test_other_sizes_are_refused_and_ec2_takes_them(cores: float, memory_mib: int, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        EcsScaling(cpu_cores=cores, memory_mib=memory_mib)
    assert EcsScaling(cpu_cores=cores, memory_mib=memory_mib, launch="ec2").cpu_cores == cores


def test_a_custom_metric_is_read_once_a_minute() -> None:
    assert EcsScaling(metric="in_flight", target=1.0).metric_period_s == 60
    with pytest.raises(ValidationError, match="metric=cpu only"):
        EcsScaling(metric="in_flight", target=1.0, metric_period_s=20)


def test_fewest_instances_above_the_most_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"min_instances \(10\) is above max_instances \(2\)"):
        EcsScaling(launch="ec2", min_instances=10, max_instances=2)


@pytest.mark.parametrize("arm", ["shipped", "matched", "static-min", "static-max"])
def test_every_arm_exists_on_aws(arm: str) -> None:
    settings = EcsScaling.of_arm(arm)
    assert EcsScaling.model_validate(settings.model_dump()) == settings
    assert settings.cpu_cores in FARGATE_SIZES


def test_a_protocol_s_size_becomes_the_next_larger_one() -> None:
    assert EcsScaling.sized({"max_replicas": 3, "cpu_cores": 0.3}) == {
        "max_replicas": 3,
        "cpu_cores": 0.5,
        "memory_mib": 1024,
    }
    assert EcsScaling.sized({"max_replicas": 3, "cpu_cores": 0.25})["memory_mib"] == 512
    assert EcsScaling.sized({"max_replicas": 3}) == {"max_replicas": 3}
