"""Karpenter's batching, packing and consolidation, case by case."""

from __future__ import annotations

import pytest

from mlscale_twin.policies.karpenter import (
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


def kind(name: str, cores: float, gib: float, price: float) -> InstanceType:
    capacity = Resources(round(cores * 1000), round(gib * GIB))
    return InstanceType(name, capacity, Resources(capacity.cpu_milli - 100, capacity.memory_bytes - GIB // 4), price)


SMALL, MEDIUM, LARGE = kind("small", 1, 2, 1.0), kind("medium", 2, 4, 1.9), kind("large", 4, 8, 3.6)
POOL = PoolSettings((SMALL, MEDIUM, LARGE), budget=1.0)


def pods(number: int, cores: float = 0.5, gib: float = 0.5) -> list[PodRequest]:
    asked = Resources(round(cores * 1000), round(gib * GIB))
    return [PodRequest(f"p{count}", asked, float(count)) for count in range(number)]


def test_a_batch_waits_a_second_after_the_last_pod_and_ten_in_all() -> None:
    assert batch_ends_s(5.0, 5.0, POOL) == 6.0
    assert batch_ends_s(5.0, 5.9, POOL) == 6.9
    assert batch_ends_s(5.0, 14.8, POOL) == 15.0


def test_pods_go_onto_what_is_there_first() -> None:
    there = Machine("m0", MEDIUM, tuple(pods(1)))
    done = provision([PodRequest("late", Resources(500, GIB // 2))], [there], POOL)
    assert done.placed == {"late": "m0"}
    assert done.new == []


def test_one_machine_is_asked_for_as_long_as_a_type_has_room_and_the_cheapest_is_launched() -> None:
    done = provision(pods(3), [], POOL)
    assert [(each.type.name, len(each.pods)) for each in done.new] == [("medium", 3)]
    done = provision(pods(8), [], POOL)
    assert [(each.type.name, len(each.pods)) for each in done.new] == [("large", 7), ("small", 1)]


def test_the_largest_pods_are_packed_first() -> None:
    mixed = [PodRequest("little", Resources(100, GIB // 8)), PodRequest("much", Resources(3800, GIB))]
    done = provision(mixed, [], POOL)
    assert [[pod.name for pod in each.pods] for each in done.new] == [["much", "little"]]


def test_limits_count_the_largest_type_that_may_be_launched() -> None:
    limited = PoolSettings((SMALL,), {"memory_bytes": 4 * GIB})
    done = provision(pods(3, cores=0.9), [], limited)
    assert len(done.new) == 2
    assert done.unplaced == {"p2": "all types exceed the limits"}
    done = provision(pods(1, cores=0.9), [Machine("m0", SMALL, tuple(pods(1, 0.9))), Machine("m1", SMALL)], limited)
    assert done.placed == {"p0": "m1"}


def test_a_pod_that_no_type_has_room_for() -> None:
    assert provision(pods(1, cores=5), [], POOL).unplaced == {"p0": "no type has room for it"}


def test_empty_machines_go_first_and_together() -> None:
    there = [Machine("m0", SMALL), Machine("m1", SMALL), Machine("m2", SMALL, tuple(pods(1)))]
    found = disrupt(there, 100.0, POOL)
    assert (found.machines, found.rule, found.replacement) == (("m0", "m1"), "empty", None)


def test_a_machine_is_left_alone_until_it_was_quiet_and_the_budget_holds() -> None:
    calm = PoolSettings((SMALL,), consolidate_after_s=30.0, budget=1.0)
    assert disrupt([Machine("m0", SMALL, quiet_since_s=80.0)], 100.0, calm).rule == "hold"
    assert disrupt([Machine("m0", SMALL, quiet_since_s=70.0)], 100.0, calm).rule == "empty"
    tight = PoolSettings((SMALL,), budget=0.1)
    assert len(disrupt([Machine(f"m{n}", SMALL) for n in range(11)], 100.0, tight).machines) == 2, "rounded up"
    assert disrupt([Machine("m0", SMALL)], 100.0, PoolSettings((SMALL,), consolidate_after_s=None)).rule == "hold"


def test_pods_of_one_move_onto_the_others() -> None:
    there = [Machine("m0", MEDIUM, tuple(pods(1))), Machine("m1", MEDIUM, (PodRequest("q", Resources(500, GIB)),) * 2)]
    found = disrupt(there, 100.0, POOL)
    assert (found.machines, found.replacement) == (("m0",), None)
    assert disrupt(there, 100.0, PoolSettings((MEDIUM,), policy="WhenEmpty")).rule == "hold"


def test_two_that_are_half_empty_become_one_that_is_cheaper() -> None:
    there = [Machine("m0", LARGE, tuple(pods(1))), Machine("m1", LARGE, (PodRequest("q", Resources(3000, GIB)),))]
    found = disrupt(there, 100.0, PoolSettings((SMALL, LARGE), budget=1.0))
    assert (found.machines, found.replacement, found.rule) == (("m0",), None, "single")
    alone = disrupt([Machine("m0", LARGE, tuple(pods(1)))], 100.0, POOL)
    assert (alone.machines, alone.replacement, alone.rule) == (("m0",), SMALL, "single")


@pytest.mark.parametrize("number", [2, 3, 5])
def test_the_most_go_together(number: int) -> None:
    there = [Machine(f"m{n}", SMALL, (PodRequest(f"q{n}", Resources(100, GIB // 8)),)) for n in range(number)]
    found = disrupt(there, 100.0, POOL)
    assert len(found.machines) == number - 1 if number > 2 else found.rule in ("multi", "single")
