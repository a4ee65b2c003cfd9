"""Karpenter's batching, packing and consolidation, case by case."""

from __future__ import annotations

import pytest

from mlscale_twin.policies.karpenter import (
    Disruption,
    InstanceType,
    Machine,
    PodRequest,
    PoolSettings,
    Resources,
    batch_ends_s,
    disrupt,
    provision,
)

GIB = 2**30


def instance_type(name: str, cores: float, gib: float, price: float) -> InstanceType:
    capacity = Resources(round(cores * 1000), round(gib * GIB))
    return InstanceType(name, capacity, Resources(capacity.cpu_milli - 100, capacity.memory_bytes - GIB // 4), price)


SMALL, MEDIUM, LARGE = (
    instance_type("small", 1, 2, 1.0),
    instance_type("medium", 2, 4, 1.9),
    instance_type("large", 4, 8, 3.6),
)
POOL = PoolSettings((SMALL, MEDIUM, LARGE))


def pods(number: int, cores: float = 0.5, gib: float = 0.5) -> list[PodRequest]:
    requests = Resources(round(cores * 1000), round(gib * GIB))
    return [PodRequest(f"p{count}", requests, float(count)) for count in range(number)]


def test_a_batch_closes_one_second_after_the_last_pod_and_after_ten_at_most() -> None:
    assert batch_ends_s(5.0, 5.0) == 6.0
    assert batch_ends_s(5.0, 5.9) == 6.9
    assert batch_ends_s(5.0, 14.8) == 15.0


def test_present_machines_are_filled_first() -> None:
    present = Machine("m0", MEDIUM, tuple(pods(1)))
    result = provision([PodRequest("late", Resources(500, GIB // 2))], [present], POOL)
    assert (result.new, result.unplaced) == ([], [])


def test_pods_share_a_new_machine_while_a_type_fits_and_the_cheapest_is_launched() -> None:
    result = provision(pods(3), [], POOL)
    assert [(machine.type.name, len(machine.pods)) for machine in result.new] == [("medium", 3)]
    result = provision(pods(8), [], POOL)
    assert [(machine.type.name, len(machine.pods)) for machine in result.new] == [("large", 7), ("small", 1)]


def test_the_largest_pods_are_packed_first() -> None:
    mixed = [PodRequest("little", Resources(100, GIB // 8)), PodRequest("much", Resources(3800, GIB))]
    result = provision(mixed, [], POOL)
    assert [[pod.name for pod in machine.pods] for machine in result.new] == [["much", "little"]]


def test_limits_count_the_largest_type_that_may_be_launched() -> None:
    limited = PoolSettings((SMALL,), 4 * GIB)
    result = provision(pods(3, cores=0.9), [], limited)
    assert len(result.new) == 2
    assert result.unplaced == ["p2"]
    result = provision(pods(1, cores=0.9), [Machine("m0", SMALL, tuple(pods(1, 0.9))), Machine("m1", SMALL)], limited)
    assert (result.new, result.unplaced) == ([], []), "the second machine has room"


def test_a_pod_larger_than_every_type_is_unplaced() -> None:
    assert provision(pods(1, cores=5), [], POOL).unplaced == ["p0"]


def test_empty_machines_are_removed_first_and_together() -> None:
    present = [Machine("m0", SMALL), Machine("m1", SMALL), Machine("m2", SMALL, tuple(pods(1)))]
    assert disrupt(present, 100.0, POOL) == Disruption(("m0", "m1"))


def test_consolidation_waits_for_a_quiet_period() -> None:
    calm = PoolSettings((SMALL,), consolidate_after_s=30.0)
    assert disrupt([Machine("m0", SMALL, quiet_since_s=80.0)], 100.0, calm) == Disruption()
    assert disrupt([Machine("m0", SMALL, quiet_since_s=70.0)], 100.0, calm) == Disruption(("m0",))


def test_pods_move_to_the_other_machines() -> None:
    present = [
        Machine("m0", MEDIUM, tuple(pods(1))),
        Machine("m1", MEDIUM, (PodRequest("q", Resources(500, GIB)),) * 2),
    ]
    assert disrupt(present, 100.0, POOL) == Disruption(("m0",))
    assert disrupt(present, 100.0, PoolSettings((MEDIUM,), policy="WhenEmpty")) == Disruption()


def test_half_empty_machines_are_consolidated_or_replaced_by_a_cheaper_one() -> None:
    present = [Machine("m0", LARGE, tuple(pods(1))), Machine("m1", LARGE, (PodRequest("q", Resources(3000, GIB)),))]
    assert disrupt(present, 100.0, PoolSettings((SMALL, LARGE))) == Disruption(("m0",))
    assert disrupt([Machine("m0", LARGE, tuple(pods(1)))], 100.0, POOL) == Disruption(("m0",), SMALL)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_as_many_machines_as_possible_are_removed_together(number: int) -> None:
    present = [Machine(f"m{n}", SMALL, (PodRequest(f"q{n}", Resources(100, GIB // 8)),)) for n in range(number)]
    assert len(disrupt(present, 100.0, POOL).machines) == number - 1
