"""Traffic as requests in each second, from whatever an open loop says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlscale.loadgen.schedule_files import read_schedule
from mlscale.runs import MlscaleError
from mlscale.runs.schedule import ClosedLoop, ClosedStage, Constant, OpenLoop, Ramp, Sine, Spike, Staircase, Step
from mlscale_twin.strategy.demand import Demand, demand_of


def open_loop(rate: object, duration_s: float = 600.0) -> OpenLoop:
    return OpenLoop(duration_s=duration_s, rate=rate)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rate", "requests"),
    [
        (Constant(rate_rps=2.0), 1200.0),
        (Staircase(steps=(Step(start_s=0, rate_rps=1), Step(start_s=300, rate_rps=3))), 1200.0),
        (Ramp(from_rps=0.0, to_rps=4.0), 1200.0),
        (Sine(mean_rps=2.0, amplitude_rps=2.0, period_s=300.0), 1200.0),
        (Spike(base_rps=1.0, spike_rps=11.0, at_s=100.0, width_s=60.0), 1200.0),
    ],
)
def test_every_shape_has_as_many_requests_as_its_rate_says(rate: object, requests: float) -> None:
    demand = demand_of(open_loop(rate))
    assert demand.duration_s == 600
    assert demand.rates_rps.sum() == pytest.approx(requests, rel=1e-3)


def test_a_trace_of_arrivals_is_counted_by_the_second(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("TIMESTAMP\n2026-01-01T00:00:00+02:00\n2026-01-01T00:00:00.5+02:00\n2025-12-31T22:00:03Z\n")
    assert demand_of(read_schedule(file)).rates_rps.tolist() == [2.0, 0.0, 0.0, 1.0]
    file.write_text("time_s,rate_rps\n0,2\n10,4\n20,0\n")
    assert demand_of(read_schedule(file)).rates_rps.sum() == pytest.approx(60.0)
    file.write_text("time_s,rate_rps\n0,10\n0.25,0\n1.75,8\n2,0\n")
    assert demand_of(read_schedule(file)).rates_rps.tolist() == [2.5, 2.0], "rows shorter than a second count"


def test_what_tells_nothing_of_the_traffic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match="open loop"):
        demand_of(ClosedLoop(duration_s=10, stages=(ClosedStage(start_s=0, clients=2),)))
    with pytest.raises(MlscaleError, match="no requests"):
        demand_of(open_loop(Constant(rate_rps=0.0)))
    with pytest.raises(MlscaleError, match="days"):
        demand_of(open_loop(Constant(rate_rps=1.0), 20 * 86_400.0))


def test_windows_stand_for_the_whole_trace() -> None:
    rates = np.concatenate([np.linspace(1.0, 5.0, 3600), np.linspace(5.0, 1.0, 3600)])
    rates[3000:3100] = 20.0
    demand = Demand(rates)
    windows = demand.windows(8, 300)
    assert (windows[0].start, windows[0].end) == (3000, 3300), "the busiest minute, with certainty"
    assert len({window.start for window in windows}) == 8
    seconds = sum(window.weight * (window.end - window.start) for window in windows)
    requests = sum(window.weight * rates[window.start : window.end].sum() for window in windows)
    assert seconds == pytest.approx(7200)
    assert requests == pytest.approx(rates.sum())
    assert demand.windows(24, 300) == [(0, 7200, 1.0)], "no longer than they"


def test_windows_of_the_same_rate_all_stand_for_as_much() -> None:
    windows = Demand(np.ones(3000)).windows(4, 300)
    assert [window.weight for window in windows] == [1.0, 3.0, 3.0, 3.0]


def test_a_window_is_the_same_traffic_as_a_schedule() -> None:
    demand = Demand(np.repeat([1.0, 3.0, 2.0], 100))
    again = demand_of(demand.window(50, 250))
    np.testing.assert_allclose(again.rates_rps, demand.rates_rps[50:250])
    assert demand.by_part(100).tolist() == [1.0, 3.0, 2.0]
    assert demand.busiest_rps(60) == 3.0
