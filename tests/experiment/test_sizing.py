"""What the pilot concludes from what it measured."""

from __future__ import annotations

import math

import pytest

from mlscale.experiment.sizing import DEMAND, UTILISATION, Measured, level, step_clients, think_time, utilisation


def test_two_clients_use_the_middle_of_the_range() -> None:
    found = {"one": Measured(10.0, 0.1, 5)}
    think_s = think_time(found)
    assert UTILISATION[0] < utilisation(found["one"], think_s) < UTILISATION[1]
    assert utilisation(found["one"], think_s) == pytest.approx(math.sqrt(0.12), rel=0.01)


def test_one_think_time_serves_environments_of_about_the_same_speed() -> None:
    found = {"fast": Measured(10.0, 0.1, 5), "slow": Measured(8.5, 0.1, 5)}
    think_s = think_time(found)
    used = [utilisation(measured, think_s) for measured in found.values()]
    assert math.prod(used) == pytest.approx(0.12, rel=0.02)
    assert UTILISATION[0] < used[0] < used[1] < UTILISATION[1]


def test_the_slowest_is_held_at_the_upper_end_so_that_it_does_not_grow_before_the_step() -> None:
    found = {"fast": Measured(11.7, 0.06, 5), "slow": Measured(7.7, 0.08, 5)}
    think_s = think_time(found)
    assert utilisation(found["slow"], think_s) == pytest.approx(UTILISATION[1], rel=0.02)
    assert utilisation(found["slow"], think_s) <= UTILISATION[1]
    assert utilisation(found["fast"], think_s) < UTILISATION[0]


def test_the_step_asks_for_two_and_a_half_to_three_replicas() -> None:
    found = {"one": Measured(10.0, 0.1, 5)}
    think_s = think_time(found)
    clients = step_clients(found, think_s)
    assert DEMAND[0] <= utilisation(found["one"], think_s, clients) <= DEMAND[1]


def test_a_replica_too_slow_for_any_think_time_gets_none() -> None:
    assert think_time({"slow": Measured(0.001, 50.0, 5)}) > 0
    assert think_time({"slow": Measured(1.0, 100.0, 5)}) == 0.0


def test_the_level_lies_above_the_slowest_plateau_on_a_grid() -> None:
    assert level({"a": 0.2, "b": 0.31}) == 0.5
    assert level({"a": 0.2}) == 0.3
