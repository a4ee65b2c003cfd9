"""Forecasts know the past alone, and policies that rest on them are tried on what came after."""

from __future__ import annotations

import numpy as np
import pytest

from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.forecast import next_season, one_step_ahead
from mlscale_twin.strategy.paste import settings_files
from mlscale_twin.strategy.strategies import DAY_PARTS, PART_S, strategies

DAY = 5.0 + 4.0 * np.sin(np.arange(DAY_PARTS) / DAY_PARTS * 2 * np.pi)


def test_the_future_changes_no_forecast() -> None:
    rates = np.concatenate([DAY, 1.2 * DAY])
    changed = rates.copy()
    changed[150:] = 99.0
    np.testing.assert_array_equal(one_step_ahead(rates, DAY_PARTS)[:151], one_step_ahead(changed, DAY_PARTS)[:151])


def test_a_day_that_repeats_is_foreseen_and_a_busier_one_nearly() -> None:
    forecast = one_step_ahead(np.tile(DAY, 3), DAY_PARTS)
    np.testing.assert_allclose(forecast[2 * DAY_PARTS :], DAY)
    busier = np.concatenate([DAY, 1.5 * DAY])
    later = slice(DAY_PARTS + 4, None)
    np.testing.assert_allclose(one_step_ahead(busier, DAY_PARTS)[later], busier[later])
    np.testing.assert_allclose(next_season(busier, DAY_PARTS), 1.5 * 1.5 * DAY)
    assert (one_step_ahead(np.array([9.0, 1.0, 0.0, 0.0]), DAY_PARTS) >= 0).all()


@pytest.mark.parametrize(("days", "policies"), [(1, {"scheduled"}), (2, {"scheduled", "predictive"})])
def test_a_forecast_needs_a_day_to_learn_and_a_day_to_be_tried_on(days: int, policies: set[str]) -> None:
    rates = np.repeat(np.concatenate([DAY, 0.5 * DAY])[: days * DAY_PARTS], PART_S)
    profiles = {"k3s": read_profile("k3s")}
    tried = strategies(["k3s"], profiles, Demand(rates), 60, sizes={"cpu_cores": 0.3})
    changing = {each.policy: each for each in tried if each.minimums}
    assert set(changing) == policies
    scheduled = changing["scheduled"]
    assert scheduled.minimums == scheduled.next_minimums * days, "the first day's, again"
    if "predictive" in policies:
        assert changing["predictive"].minimums[DAY_PARTS:] != scheduled.minimums[DAY_PARTS:]
        assert len(settings_files(changing["predictive"])["minimum.csv"].splitlines()) == 1 + DAY_PARTS


@pytest.mark.parametrize("parts", [4, 3 * DAY_PARTS // 2, 5 * DAY_PARTS // 2])
def test_a_table_of_minimums_begins_at_the_time_of_day_of_the_trace(parts: int) -> None:
    """Whether or not the trace ends at that time of day; what a short one does not cover has the usual minimum."""
    busy = np.tile(np.where(np.arange(DAY_PARTS) < DAY_PARTS // 4, 8.0, 1.0), 3)[:parts]
    demand, profiles = Demand(np.repeat(busy, PART_S)), {"k3s": read_profile("k3s")}
    tried = strategies(["k3s"], profiles, demand, 60, sizes={"cpu_cores": 0.3})
    for policy in {each.policy for each in tried if each.minimums}:
        strategy = next(each for each in tried if each.policy == policy)
        rows = [line.split(",") for line in settings_files(strategy)["minimum.csv"].splitlines()[1:]]
        least = [int(row[1]) for row in rows]
        known = min(parts, DAY_PARTS // 4)
        assert min(least[:known]) > max(least[known:]), policy
        assert [int(row[0]) for row in rows] == [PART_S * place for place in range(min(parts + 1, DAY_PARTS))]
