"""Send times: exact where they are exact, exponential where they are random, the same for any number of workers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from mlscale.loadgen.schedule_files import read_schedule
from mlscale.loadgen.schedules import (
    THINKS,
    WHOLE,
    WorkerShare,
    active_intervals,
    body_order,
    first_active_s,
    load_events,
    send_times,
    split,
    think_times,
)
from mlscale.loadgen.shapes import Linear, Sinusoid, cumulative_of
from mlscale.runs import (
    SCHEDULE,
    ClosedLoop,
    ClosedStage,
    Constant,
    MlscaleError,
    OpenLoop,
    Ramp,
    Sine,
    Spike,
    Staircase,
    Step,
    Trace,
)

SHAPES = [
    Constant(rate_rps=40),
    Staircase(steps=(Step(start_s=0, rate_rps=5), Step(start_s=10, rate_rps=0), Step(start_s=25, rate_rps=60))),
    Ramp(from_rps=0, to_rps=50),
    Ramp(from_rps=50, to_rps=0),
    Sine(mean_rps=30, amplitude_rps=30, period_s=17, phase_rad=-1.2),
    Spike(base_rps=4, spike_rps=90, at_s=20, width_s=5),
]


def times(
    schedule: OpenLoop, seed: int = 7, block: int = 0, part: WorkerShare = WHOLE, chunk: int = 1024
) -> np.ndarray:
    return np.concatenate([s.intended_s for s in send_times(schedule, seed, block, part=part, chunk=chunk)] or [[]])


def rate_at(shape: object, t: float, duration_s: float) -> float:
    match shape:
        case Constant(rate_rps=rate):
            return rate
        case Staircase(steps=steps):
            return [step.rate_rps for step in steps if step.start_s <= t][-1]
        case Ramp(from_rps=a, to_rps=b):
            return a + (b - a) * t / duration_s
        case Sine(mean_rps=m, amplitude_rps=a, period_s=p, phase_rad=phase):
            return m + a * np.sin(2 * np.pi * t / p + phase)
        case Spike(base_rps=base, spike_rps=spike, at_s=at, width_s=width):
            return spike if at <= t < at + width else base
    raise AssertionError(shape)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.shape)
def test_even_arrival_k_is_where_the_integral_of_the_rate_reaches_k(shape: Constant) -> None:
    schedule = OpenLoop(duration_s=60, rate=shape, arrivals="even")
    sent = times(schedule)
    breaks = [b for b in (10.0, 20.0, 25.0) if b < 60]
    for k in [0, 1, len(sent) // 3, len(sent) // 2, len(sent) - 1]:
        area, _ = integrate.quad(
            lambda t: rate_at(shape, t, 60), 0, sent[k], points=[b for b in breaks if b < sent[k]] or None, limit=200
        )
        assert area == pytest.approx(k, abs=1e-6)
    total, _ = integrate.quad(lambda t: rate_at(shape, t, 60), 0, 60, points=breaks, limit=200)
    assert len(sent) == np.ceil(total - 1e-6)
    assert (np.diff(sent) >= 0).all()


def test_a_constant_rate_is_sent_to_the_bit() -> None:
    assert times(OpenLoop(duration_s=60, rate=Constant(rate_rps=50), arrivals="even")).tolist() == [
        k / 50 for k in range(3000)
    ]


def test_a_constant_rate_sends_what_a_staircase_of_it_sends() -> None:
    steps = (Step(start_s=0, rate_rps=37), Step(start_s=59, rate_rps=1))
    constant = times(OpenLoop(duration_s=60, rate=Constant(rate_rps=37)))
    staircase = times(OpenLoop(duration_s=60, rate=Staircase(steps=steps)))
    assert constant[constant < 59].tolist() == staircase[staircase < 59].tolist()


def test_nothing_is_sent_while_the_rate_is_zero() -> None:
    steps = (Step(start_s=0, rate_rps=0), Step(start_s=5, rate_rps=2), Step(start_s=8, rate_rps=0))
    for arrivals in ("even", "poisson"):
        sent = times(OpenLoop(duration_s=30, rate=Staircase(steps=steps), arrivals=arrivals))
        assert len(sent) > 0
        assert ((sent >= 5) & (sent <= 8)).all()
    assert len(times(OpenLoop(duration_s=30, rate=Constant(rate_rps=0)))) == 0
    assert len(times(OpenLoop(duration_s=30, rate=Sine(mean_rps=0, amplitude_rps=0, period_s=3)))) == 0


def test_the_sine_is_inverted_to_float_precision() -> None:
    sine = Sinusoid(30, 30, 17, -1.2)
    events = np.linspace(0, 1e6, 20_001)
    assert np.abs(sine.cumulative(sine.inverse(events)) - events).max() < 1e-7


def test_a_ramp_to_zero_ends_there() -> None:
    ramp = Linear(50, 0, 60)
    assert ramp.inverse(np.array([0.0, 1500.0])).tolist() == [0.0, 60.0]
    assert np.isinf(ramp.inverse(np.array([1500.1])))[0]


def test_poisson_gaps_are_exponential() -> None:
    sent = times(OpenLoop(duration_s=2000, rate=Constant(rate_rps=25)))
    gaps = np.diff(sent, prepend=0.0)
    assert stats.kstest(gaps, "expon", args=(0, 1 / 25)).pvalue > 0.01
    # gaps of a Poisson process are independent, and its counts as spread as they are large
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02
    counts = np.bincount((sent // 1).astype(int), minlength=2000)
    assert 0.9 < counts.var() / counts.mean() < 1.1


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.shape)
def test_poisson_arrivals_follow_the_rate(shape: Constant) -> None:
    """By time rescaling, Lambda of the arrivals of a Poisson process has unit exponential gaps."""
    schedule = OpenLoop(duration_s=60, rate=shape)
    grid = np.linspace(0, 60, 120_001)
    rates = np.array([rate_at(shape, t, 60) for t in grid])
    area = np.concatenate(([0.0], np.cumsum((rates[1:] + rates[:-1]) / 2 * np.diff(grid))))
    rescaled = [np.diff(np.interp(times(schedule, seed), grid, area), prepend=0.0) for seed in range(12)]
    assert stats.kstest(np.concatenate(rescaled), "expon").pvalue > 0.01


@pytest.mark.parametrize("arrivals", ["even", "poisson"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.shape)
def test_times_do_not_depend_on_the_chunk_and_do_on_seed_and_block(shape: Constant, arrivals: str) -> None:
    schedule = OpenLoop(duration_s=60, rate=shape, arrivals=arrivals)
    assert times(schedule, chunk=3).tolist() == times(schedule, chunk=100_000).tolist()
    if arrivals == "poisson":
        assert times(schedule, seed=0)[0] != times(schedule, seed=1)[0]
        assert times(schedule, block=0)[0] != times(schedule, block=1)[0]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_the_parts_of_an_open_loop_are_the_schedule(workers: int) -> None:
    schedule = OpenLoop(duration_s=60, rate=SHAPES[5])
    whole = {(int(i), t, int(g)) for i, t, g in rows(schedule, WorkerShare(0, 1))}
    parts = [list(rows(schedule, part)) for part in split(schedule, workers)]
    together = [(int(i), t, int(g)) for part in parts for i, t, g in part]
    assert len(together) == len(whole)
    assert set(together) == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def rows(schedule: OpenLoop, part: WorkerShare) -> list[tuple[int, float, int]]:
    return [
        row
        for sends in send_times(schedule, 3, part=part)
        for row in zip(sends.request_id, sends.intended_s.tolist(), sends.load_stage, strict=True)
    ]


def test_load_stages_are_those_of_the_intended_times() -> None:
    schedule = OpenLoop(duration_s=60, rate=SHAPES[5], arrivals="even")
    for _, t, stage in rows(schedule, WorkerShare(0, 1)):
        assert stage == (0 if t < 20 else 1 if t < 25 else 2)


def test_too_many_workers_for_the_clients() -> None:
    schedule = closed((0, 2), (10, 3))
    assert len(split(schedule, 3)) == 3
    with pytest.raises(MlscaleError, match="4 processes"):
        split(schedule, 4)


def closed(*stages: tuple[float, int], duration_s: float = 60, think_s: float = 0.5) -> ClosedLoop:
    return ClosedLoop(
        duration_s=duration_s,
        stages=tuple(ClosedStage(start_s=start_s, clients=clients) for start_s, clients in stages),
        think_mean_s=think_s,
    )


def test_the_clients_of_a_stage_are_the_first_ones() -> None:
    schedule = closed((0, 2), (10, 5), (20, 3), (30, 5))
    assert active_intervals(schedule, 1) == ((0, 60),)
    assert active_intervals(schedule, 2) == ((10, 60),)
    assert active_intervals(schedule, 4) == ((10, 20), (30, 60))
    assert active_intervals(schedule, 5) == ()
    for t in np.arange(0.5, 60, 1):
        active = sum(any(a <= t < b for a, b in active_intervals(schedule, client)) for client in range(8))
        assert active == [stage.clients for stage in schedule.stages if stage.start_s <= t][-1]


def test_first_active_moment() -> None:
    intervals = ((10.0, 20.0), (30.0, 60.0))
    assert [first_active_s(intervals, t) for t in (0, 15, 20, 40, 60)] == [10.0, 15, 30.0, 40, None]


def test_think_times_are_exponential_and_each_client_has_its_own() -> None:
    schedule = closed((0, 2), think_s=0.4)
    drawn = np.concatenate([think_times(schedule, 5, 1, client, chunk) for client in range(20) for chunk in range(10)])
    assert len(np.unique(drawn)) == len(drawn) == 200 * THINKS
    assert stats.kstest(drawn, "expon", args=(0, 0.4)).pvalue > 0.01
    assert think_times(schedule, 5, 1, 3, 2).tolist() == think_times(schedule, 5, 1, 3, 2).tolist()
    constant = schedule.model_copy(update={"think": "constant"})
    assert set(think_times(constant, 5, 1, 0, 0)) == {0.4}


def test_body_orders_are_permutations_of_seed_block_and_client() -> None:
    orders = {(s, b, c): tuple(body_order(s, b, c, 30)) for s in (0, 1) for b in (0, 1) for c in (0, 1)}
    assert all(sorted(order) == list(range(30)) for order in orders.values())
    assert len(set(orders.values())) == len(orders)
    assert tuple(body_order(1, 1, 1, 30)) == orders[(1, 1, 1)]


def test_load_steps_name_what_changes() -> None:
    events = load_events(closed((0, 2), (45, 9)), 3.0)
    assert [(event.t_s, event.kind, dict(event.detail)) for event in events] == [
        (3.0, "load_step", {"stage": 0, "clients": 2}),
        (48.0, "load_step", {"stage": 1, "clients": 9}),
    ]
    steps = load_events(OpenLoop(duration_s=60, rate=SHAPES[1]), 0.0)
    assert [event.detail["rate_rps"] for event in steps] == [5, 0, 60]


def test_a_schedule_file_is_read_and_its_trace_found_beside_it(tmp_path: Path) -> None:
    (tmp_path / "arrivals.csv").write_text("time_s\n0\n0.5\n2.25\n")
    file = tmp_path / "schedule.json"
    schedule = OpenLoop(duration_s=10, rate=Trace(file="arrivals.csv", speed=2))
    file.write_text(schedule.model_dump_json())
    read = read_schedule(file)
    assert isinstance(read, OpenLoop)
    assert times(read).tolist() == [0.0, 0.25, 1.125]
    assert isinstance(read.rate, Trace)
    assert len(read.rate.sha256) == 64
    assert SCHEDULE.validate_json(read.model_dump_json()) == read
    (tmp_path / "arrivals.csv").write_text("time_s\n0\n")
    with pytest.raises(MlscaleError, match="changed"):
        times(read)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "Invalid JSON"),
        ("[]", "object"),
        ('{"loop": "sideways"}', "loop"),
        ('{"loop": "open", "duration_s": 5, "rate": {"shape": "constant", "rate_rps": -3}}', "rate_rps"),
        ('{"loop": "open", "duration_s": 5, "rate": {"shape": "constant", "rate_rps": NaN}}', "rate_rps"),
        ('{"loop": "open", "duration_s": 0, "rate": {"shape": "constant", "rate_rps": 3}}', "duration_s"),
        ('{"loop": "open", "duration_s": 1e18, "rate": {"shape": "constant", "rate_rps": 3}}', "duration_s"),
        ('{"loop": "open", "duration_s": 5, "rate": {"shape": "zigzag"}}', "rate"),
        ('{"loop": "closed", "duration_s": 5, "stages": []}', "stages"),
        ('{"loop": "closed", "duration_s": 5, "stages": [{"start_s": 1, "clients": 2}]}', "first stage"),
        ('{"loop": "closed", "duration_s": 5, "stages": [{"start_s": 0, "clients": 2}], "x": 1}', "x"),
    ],
)
def test_a_malformed_schedule_is_one_line_that_names_the_field(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "schedule.json"
    file.write_text(text)
    with pytest.raises(MlscaleError) as caught:
        read_schedule(file)
    assert named in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_never_ends_is_no_schedule() -> None:
    with pytest.raises(MlscaleError, match="larger than 64 MiB"):
        read_schedule("/dev/zero")


def test_a_missing_schedule(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match="No such file"):
        read_schedule(tmp_path / "none.json")


def test_every_shape_survives_its_json() -> None:
    for shape in SHAPES:
        schedule = OpenLoop(duration_s=60, rate=shape)
        assert SCHEDULE.validate_python(json.loads(schedule.model_dump_json())) == schedule
        assert cumulative_of(shape, 60).inverse(np.array([0.5]))[0] > 0
