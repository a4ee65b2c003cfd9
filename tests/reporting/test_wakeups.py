"""Waking up, as a report shows it: from simulated runs whose numbers are known."""

from __future__ import annotations

import pytest

from mlscale import figures
from mlscale.analysis.wakeup import PARTS, wake_ups
from mlscale.cost import read_prices
from mlscale.measurement.measure import step_of
from mlscale.plots.style import plotted
from mlscale.reporting.document import Table
from mlscale.reporting.wakeups import at_rest, wake_up_sections
from mlscale.runs import OpenLoop, Run, Staircase
from mlscale.runs.schedule import Step
from mlscale_twin.simulate import SimulateOptions, simulate

STEPS = ((0.0, 0.0), (100.0, 1.0), (101.0, 0.0))


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """KEDA's, with none and with one replica at least."""
    steps = tuple(Step(start_s=at_s, rate_rps=rate_rps) for at_s, rate_rps in STEPS)
    schedule = OpenLoop(duration_s=160.0, rate=Staircase(steps=steps), arrivals="even")
    patient = SimulateOptions(timeout_s=120.0)
    return [simulate("keda", schedule=schedule, scaling={"min_replicas": least}, options=patient) for least in (0, 1)]


def test_a_pulse_is_no_step(runs: list[Run]) -> None:
    assert [run.info.step_s for run in runs] == [None, None]
    steps = (Step(start_s=0.0, rate_rps=1.0), Step(start_s=20.0, rate_rps=3.0), Step(start_s=40.0, rate_rps=1.0))
    assert step_of(OpenLoop(duration_s=60.0, rate=Staircase(steps=steps))) == 20.0
    ramp = tuple(Step(start_s=5.0 * number, rate_rps=1.0 + number) for number in range(4))
    assert step_of(OpenLoop(duration_s=60.0, rate=Staircase(steps=ramp))) == 5.0


def test_a_ramp_of_short_steps_starts_where_it_first_rises() -> None:
    steps = tuple(Step(start_s=20.0 + at, rate_rps=1.0 + at) for at in range(5))
    schedule = OpenLoop(duration_s=60.0, rate=Staircase(steps=(Step(start_s=0.0, rate_rps=0.5), *steps)))
    assert step_of(schedule) == 20.0


def test_a_decision_that_was_read_late_is_no_later_than_what_follows_from_it(runs: list[Run]) -> None:
    run = runs[0]
    events = run.events.copy()
    late = events["kind"] == "scale_decision"
    events.loc[late, "t_s"] += 5.0
    tables = {"requests": run.requests, "events": events, "replicas": run.replicas, "resources": run.resources}
    (row,) = wake_ups([Run.in_memory(run.info, {**tables, "hops": run.hops})], 0.5).to_dict("records")
    (before,) = wake_ups([run], 0.5).to_dict("records")
    assert all(row[part] >= 0 for part in PARTS if row[part] == row[part])
    assert row["decision_s"] == pytest.approx(before["decision_s"], abs=1.0)


def test_one_wake_up_in_parts_beside_what_one_replica_costs(runs: list[Run]) -> None:
    (section,) = wake_up_sections(runs, 0.5, pictures=True)
    waking, resting = (element for element in section.elements if isinstance(element, Table))
    row = waking.cells.loc["Kubernetes (KEDA)"]
    took_s = float(runs[0].requests["done_s"].iloc[0] - runs[0].requests["sent_s"].iloc[0])
    assert float(row["in all (s)"]) == pytest.approx(took_s, abs=0.006)
    assert (row["wake-ups"], row["requests"], row["late"], row["wrong"], row["lost"]) == ("1", "1", "1", "0", "0")
    assert [each.split("'")[-1] for each in map(str, resting.cells.index.get_level_values(1))] == ["0", "1"]


def test_rest_is_priced_by_what_is_reserved(runs: list[Run]) -> None:
    rest = at_rest(runs, read_prices())["USD a month"]
    prices = read_prices()
    cores = runs[1].info.scaling["app"]["cpu_cores"]
    assert rest.loc[("keda", 0)] == pytest.approx(0.0, abs=0.02)
    assert rest.loc[("keda", 1)] == pytest.approx(730 * cores * prices.local_core_h, rel=0.05)


def test_the_figure_has_a_point_for_each_environment(runs: list[Run]) -> None:
    figure = figures.wake_up(runs[:1], wake_ups(runs[:1], 0.5), {"keda": 3.0})
    (row,) = plotted(figure).to_dict("records")
    assert (row["environment"], row["saved_usd"]) == ("keda", 3.0)
    assert row["low"] == row["wake_s"] == row["high"]


def test_runs_that_never_slept_have_no_section(runs: list[Run]) -> None:
    assert wake_up_sections(runs[1:], 0.5) == []
