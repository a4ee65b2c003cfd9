"""Forecasts know the past alone, and policies that rest on them are tried on what came after."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.forecast import ahead, next_season
from mlscale_twin.strategy.minimums import DAY_PARTS, PART_S
from mlscale_twin.strategy.paste import daily_minimums, settings_files
from mlscale_twin.strategy.strategies import strategies

DAY = 5.0 + 4.0 * np.sin(np.arange(DAY_PARTS) / DAY_PARTS * 2 * np.pi)


def test_the_future_changes_no_forecast() -> None:
    rates = np.concatenate([DAY, 1.2 * DAY])
    changed = rates.copy()
    changed[150:] = 99.0
    np.testing.assert_array_equal(ahead(rates, DAY_PARTS)[:152], ahead(changed, DAY_PARTS)[:152])


def test_a_day_that_repeats_is_foreseen_and_a_busier_one_nearly() -> None:
    forecast = ahead(np.tile(DAY, 3), DAY_PARTS)
    np.testing.assert_allclose(forecast[2 * DAY_PARTS :], DAY)
    busier = np.concatenate([DAY, 1.5 * DAY])
    later = slice(DAY_PARTS + 5, None)
    np.testing.assert_allclose(ahead(busier, DAY_PARTS)[later], busier[later])
    np.testing.assert_allclose(next_season(busier, DAY_PARTS), 1.5 * 1.5 * DAY)
    assert (ahead(np.array([9.0, 1.0, 0.0, 0.0]), DAY_PARTS) >= 0).all()


@pytest.mark.parametrize(("days", "policies"), [(1, {"scheduled"}), (2, {"scheduled", "predictive"})])
def test_a_forecast_needs_a_day_to_learn_and_a_day_to_be_tried_on(days: int, policies: set[str]) -> None:
    rates = np.repeat(np.concatenate([DAY, 0.5 * DAY])[: days * DAY_PARTS], PART_S)
    profiles = {"k3s": read_profile("k3s")}
    tried = strategies(["k3s"], profiles, Demand(rates), 60, sizes={"cpu_cores": 0.3})
    changing = {each.policy: each for each in tried if each.minimums}
    assert set(changing) == policies
    scheduled = changing["scheduled"]
    day = np.array(scheduled.next_minimums)
    again = np.concatenate([np.add(day, [number * 86_400, 0]) for number in range(days)])
    np.testing.assert_array_equal(
        replicas_at(scheduled.minimums, days), replicas_at(again, days), "the first day's, again"
    )
    if "predictive" in policies:
        assert (replicas_at(changing["predictive"].minimums, 2) != replicas_at(scheduled.minimums, 2))[86_400:].any()


def replicas_at(minimums: npt.ArrayLike, days: int) -> npt.NDArray[np.float64]:
    """In each second of the days."""
    from_s, least = np.asarray(minimums).T
    return np.asarray(least[np.searchsorted(from_s, np.arange(days * 86_400), side="right") - 1])


BEGINS = {
    None: 0,
    datetime(2026, 12, 3, 6, 30): 390,
    datetime(2026, 12, 3, 6, 30, 20, tzinfo=timezone(timedelta(hours=2))): 270,
}


@pytest.mark.parametrize("begins", BEGINS)
def test_schedules_by_the_clock_have_at_least_the_minimums_that_were_simulated(begins: datetime | None) -> None:
    """Every minute of a day: of KEDA's cron triggers, of ECS's scheduled actions, and of the table for Ray Serve."""
    busy = np.where((np.arange(DAY_PARTS) // 7) % 3 == 0, 8.0, 1.0)
    demand = Demand(np.repeat(busy, PART_S))
    for name in ("k3s", "ecs", "rayserve"):
        tried = strategies([name], {name: read_profile(name)}, demand, 60, sizes={"cpu_cores": 0.3})
        strategy = next(each for each in tried if len({least for _, least in each.next_minimums}) > 1)
        minutes = np.maximum.reduceat(replicas_at(strategy.next_minimums, 1), np.arange(0, 86_400, 60))
        wanted = np.roll(minutes, BEGINS[begins])
        at = [(each.minute, each.least) for each in daily_minimums(strategy, begins)]
        found = [next((least for start, least in at[::-1] if start <= minute), at[-1][1]) for minute in range(1440)]
        assert (np.array(found) >= wanted).all()
        assert (np.array(found) > wanted).sum() <= len(at), "no longer than a minute more for each change"
        files = settings_files(strategy, begins)
        if name == "k3s":
            triggers = yaml.safe_load(files["scaledobject.yaml"])["spec"]["triggers"]
            crons = [each["metadata"] for each in triggers if each["type"] == "cron"]
            by_cron = [max([1, *(int(c["desiredReplicas"]) for c in crons if within(c, m))]) for m in range(1440)]
            assert by_cron == found
            assert len(triggers) == len(crons) + 1, "and the signal"
        elif name == "ecs":
            actions = yaml.safe_load(files["scaling.yaml"])["Resources"]["ScalableTarget"]["Properties"]
            assert [each["ScalableTargetAction"]["MinCapacity"] for each in actions["ScheduledActions"]] == [
                least for _, least in at
            ]
        else:
            rows = [line.split(",") for line in files["minimum.csv"].splitlines()[1:]]
            assert [(60 * int(time[:2]) + int(time[3:]), int(least)) for time, least in rows] == at


def within(cron: dict[str, str], minute: int) -> bool:
    """Whether a minute of the day lies between a trigger's start and end, also over midnight."""
    start, end = (60 * int(hour) + int(at) for at, hour, *_ in (cron["start"].split(), cron["end"].split()))
    return start <= minute < end if start < end else minute >= start or minute < end


@pytest.mark.parametrize("parts", [4, 3 * DAY_PARTS // 2, 5 * DAY_PARTS // 2])
def test_a_table_of_minimums_begins_at_the_time_of_day_of_the_trace(parts: int) -> None:
    """Whether or not the trace ends at that time of day. It rises in time for the next day, and what a short
    trace does not cover has the usual minimum."""
    busy = np.tile(np.where(np.arange(DAY_PARTS) < DAY_PARTS // 4, 8.0, 1.0), 3)[:parts]
    demand, profiles = Demand(np.repeat(busy, PART_S)), {"k3s": read_profile("k3s")}
    tried = strategies(["k3s"], profiles, demand, 60, sizes={"cpu_cores": 0.3})
    for policy in {each.policy for each in tried if each.minimums}:
        strategy = next(each for each in tried if each.policy == policy)
        table = replicas_at(strategy.next_minimums, 1)
        known_s = PART_S * min(parts, DAY_PARTS // 4)
        in_time_s = 86_400 - (120 if parts > DAY_PARTS else 0)
        assert min(table[:known_s]) > max(table[known_s:in_time_s]), policy
        assert (table[-1] == table[0]) == (parts > DAY_PARTS)
