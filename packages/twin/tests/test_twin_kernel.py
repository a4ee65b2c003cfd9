"""The kernel's parts against slow, obvious versions, and its invariants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from numba import njit
from queues import EXPONENTIAL

from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop
from mlscale.runs.schedule import ClosedStage, Constant
from mlscale_twin import cfs, tournament
from mlscale_twin import engine as engine_module
from mlscale_twin.engine import Engine
from mlscale_twin.layout import LOST, OK, REFUSED, TIMED_OUT
from mlscale_twin.settings import Clients, Polling, Processor, Queueing, Routing, Service

STEP_S = 1e-4


def from_python(function: Callable[..., Any]) -> Any:
    """A function that is only inlined, made callable from Python."""
    return njit(lambda *arguments: function(*arguments))


finish, next_run_s, work_done_s = from_python(cfs.finish), from_python(cfs.next_run_s), from_python(cfs.work_done_s)
set_time = from_python(tournament.set_time)


def stepped(began_s: float, work_s: float, phase_s: float, used_s: float, quota: float, period_s: float) -> float:
    """When the work is done, by small steps of time; ``used_s``: of the period in which it begins."""
    period = math.floor((began_s - phase_s) / period_s)
    t_s, left_s, room_s = began_s, work_s, quota * period_s - used_s
    while left_s > 1e-12:
        now = math.floor((t_s - phase_s) / period_s + 1e-9)
        if now != period:
            period, room_s = now, quota * period_s
        step_s = min(STEP_S, phase_s + (period + 1) * period_s - t_s)
        ran_s = min(step_s, left_s, max(0.0, room_s))
        left_s, room_s = left_s - ran_s, room_s - ran_s
        t_s += ran_s if left_s <= 1e-12 else step_s
    return t_s


def test_quota_periods_as_by_small_steps() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        quota, period_s = float(rng.uniform(0.05, 0.95)), float(rng.choice([0.01, 0.1]))
        phase_s, work_s = float(rng.uniform(0, period_s)), float(rng.uniform(0.0005, 0.2))
        began_s = 1.0 + float(rng.uniform(0, period_s))
        period = math.floor((began_s - phase_s) / period_s)
        used_s = float(rng.uniform(0, quota * period_s)) if rng.random() < 0.5 else 0.0
        ends_s, last, used_then_s = finish(began_s, work_s, phase_s, period, used_s, quota, period_s)
        assert ends_s == pytest.approx(stepped(began_s, work_s, phase_s, used_s, quota, period_s), abs=2.5 * STEP_S)
        assert 0 <= used_then_s <= quota * period_s + 1e-9
        assert last >= period
        shares = [
            work_done_s(began_s + share * (ends_s - began_s), began_s, work_s, phase_s, period, used_s, quota, period_s)
            for share in np.linspace(0, 1, 21)
        ]
        assert shares[0] == 0
        assert shares[-1] == pytest.approx(work_s, abs=1e-9)
        assert np.all(np.diff(shares) >= -1e-12)


@pytest.mark.parametrize("number", [1, 2, 3, 16, 40])
def test_a_tournament_is_won_by_the_earliest_time_then_by_the_lowest_number(number: int) -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 9, number).astype(float)
    times_s, owners = tournament.build(truth)
    for _ in range(4000):
        assert (times_s[tournament.ROOT], owners[tournament.ROOT]) == (truth.min(), truth.argmin())
        owner, drawn = int(rng.integers(number)), rng.random()
        truth[owner] = math.inf if drawn < 0.3 else rng.integers(0, 9) if drawn < 0.6 else drawn * 1e-9
        set_time(times_s, owners, owner, truth[owner])
    assert tournament.empty(number)[0][tournament.ROOT] == math.inf


def world(seed: int = 0, routing: Routing = "random", **clients: float | bool) -> Engine:
    schedule = OpenLoop(duration_s=300.0, rate=Constant(rate_rps=6.0))
    return Engine(
        schedule, EXPONENTIAL, Processor(quota_cores=0.8), [Queueing(routing, 20)], Clients(**clients),  # type: ignore[arg-type]
        max_replicas=16, photos=5, seed=seed,
    )  # fmt: skip


def churned(seed: int, routing: Routing) -> Engine:
    """Replicas are added, drained and killed every few seconds; clients time out after 6 s."""
    engine, rng, present = world(seed, routing, timeout_s=6.0, cancels=True), np.random.default_rng(seed), []
    for t_s in np.arange(0, 300, 2.5):
        engine.advance(float(t_s))
        present = [slot for slot in present if engine.is_present(slot)]
        if len(present) < 2 or (len(present) < 10 and rng.random() < 0.6):
            present.append(engine.add_replica())
        else:
            slot = present.pop(int(rng.integers(len(present))))
            (engine.drain_replica if rng.random() < 0.7 else engine.kill_replica)(slot)
    engine.advance(400.0)
    return engine


@pytest.mark.parametrize("routing", get_args(Routing))
def test_every_request_ends_exactly_once(routing: Routing) -> None:
    engine = churned(3, routing)
    rows = engine.take_rows()
    assert len(rows) == len(np.unique(rows["number"]))
    assert set(rows["status"]) >= {OK, TIMED_OUT}
    assert LOST in rows["status"]
    took_s = rows["done_s"] - rows["intended_s"]
    assert (took_s >= 0).all()
    assert took_s.max() <= 6.0 + 1e-9
    answered = rows[rows["status"] == OK]
    whole = answered["queue_s"] + answered["inference_s"]
    assert np.allclose(whole, answered["done_s"] - answered["intended_s"])
    assert engine.ongoing() == 0


def test_same_seed_same_bytes() -> None:
    first, repeated, third = (churned(seed, "two-choices").take_rows() for seed in (5, 5, 6))
    assert first.tobytes() == repeated.tobytes()
    assert first.tobytes() != third.tobytes()


def test_results_do_not_depend_on_steps_or_array_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Growing the request table, flushing the output and stopping the clock often change nothing."""
    results = []
    for room, rows, step_s in ((4096, 65_536, 300.0), (2, 8, 0.37)):
        monkeypatch.setattr(engine_module, "_INITIAL_ROWS", room)
        monkeypatch.setattr(engine_module, "_OUTPUT_ROWS", rows)
        engine = world(seed=9, routing="shared-queue")
        for _ in range(4):
            engine.add_replica()
        for t_s in np.arange(step_s, 300 + step_s, step_s):
            engine.advance(float(t_s))
        engine.advance(2000.0)
        results.append(engine.take_rows())
    assert len(results[0]) > 1500
    for name in results[0].dtype.names or ():
        assert np.allclose(results[0][name], results[1][name], atol=1e-9, equal_nan=True), name


def poll_rows(clients: dict[float, int], replicas: int, service: Service, processor: Processor | None = None) -> Any:
    """Rows of clients' first requests, with so many clients from each time on; backoffs of 0.1, 0.2,
    0.4 s."""
    stages = tuple(ClosedStage(start_s=at_s, clients=number) for at_s, number in clients.items())
    schedule = ClosedLoop(duration_s=max(clients) + 0.01, stages=stages, think_mean_s=0)
    queue = Queueing("polled-queue", polling=Polling(initial_backoff_s=0.1, max_backoff_s=0.4))
    engine = Engine(schedule, service, processor or Processor(), [queue], Clients(), max_replicas=replicas)
    for _ in range(replicas):
        engine.add_replica()
    engine.advance(500.0)
    rows = engine.take_rows()
    return rows[np.argsort(rows["intended_s"] + rows["queue_s"], kind="stable")]


def test_replicas_of_a_polled_queue_stay_idle_until_the_next_poll() -> None:
    """The second request's poller polls at 0 (twice), 0.1, 0.3, 0.7, then every 0.4 s; the replica is free at 0.5 s."""
    rows = poll_rows({0: 2}, 1, Service(0.5))
    assert rows["queue_s"] == pytest.approx([0.0, 0.7])
    assert poll_rows({0: 2}, 1, Service(0.8))["queue_s"][1] == pytest.approx(1.1)


def test_a_poller_sends_the_longest_waiting_request_and_continues_for_its_own() -> None:
    """Two poll a lone replica: the third request's poller at 0.25, 0.35 and 0.55 s, which sends the second request, and
    at 0.95 and 1.35 s, which sends its own."""
    rows = poll_rows({0: 2, 0.25: 3}, 1, Service(0.5))
    assert rows["intended_s"] + rows["queue_s"] == pytest.approx([0.0, 0.55, 1.35])
    assert list(rows["client"]) == [0, 1, 2]


def test_polls_cost_a_busy_replica_cpu() -> None:
    """Four polls (0 twice, 0.1, 0.3) come before 0.5 s of work are done; the next, at 0.7, finds it free."""
    rows = poll_rows({0: 2}, 1, Service(0.5, poll_cpu_s=(0.01,)))
    assert rows["inference_s"] == pytest.approx([0.54, 0.5])
    assert poll_rows({0: 1}, 1, Service(0.5, poll_cpu_s=(0.01,)))["inference_s"] == pytest.approx([0.5])
    limited = poll_rows({0: 2}, 1, Service(0.1, poll_cpu_s=(0.01,)), Processor(quota_cores=0.5, period_s=0.05))
    assert limited["inference_s"][0] > 0.1 / 0.5, "polls use the same quota"


def test_a_poller_that_sends_its_own_request_sends_all_waiting_ones() -> None:
    """Four wait from 0.2 s on, and two poll. At 0.9 the first finds the replica free, repeatedly by the same cache: of
    three requests sent, two are rejected. For these and the fourth, two pollers poll eight times until 1.41."""
    rows = poll_rows({0: 1, 0.2: 5}, 1, Service(0.5, poll_cpu_s=(0.001,)))
    begins_s = rows["intended_s"] + rows["queue_s"]
    assert begins_s[:2] == pytest.approx([0.0, 0.9])
    assert rows["inference_s"][0] == pytest.approx(0.5 + 8 * 0.001)
    assert rows["inference_s"][1] == pytest.approx(0.5 + 2 * 0.001 + 8 * 0.001)
    assert list(rows["client"]) == [0, 1, 2, 3, 4], "rejected requests keep their places"


def test_a_throttled_replica_answers_in_the_next_period() -> None:
    """0.03 s of quota in 0.1 s: a replica polled at 0.05 s runs again at 0.1 s."""
    for polled_s, answered_s in ((0.01, 0.01), (0.03, 0.1), (0.05, 0.1), (0.12, 0.12), (0.135, 0.2)):
        assert next_run_s(polled_s, 0.0, 0.0, 0, 0.0, 0.3, 0.1) == pytest.approx(answered_s)
    assert next_run_s(0.05, math.inf, 0.0, 0, 0.02, 0.3, 0.1) == 0.05, "idle, with quota left"
    assert next_run_s(0.05, math.inf, 0.0, 1, 0.01, 0.3, 0.1) == pytest.approx(0.1), "still cleaning up after an answer"


def test_work_outside_the_service_clock_adds_to_queueing() -> None:
    """20 ms each before and after 10 ms of service: the next request waits for all of it."""
    rows = poll_rows({0: 2}, 1, Service(0.01, ahead_cpu_s=(0.02,), after_cpu_s=(0.02,)))
    assert rows["inference_s"] == pytest.approx([0.01, 0.01])
    assert rows["queue_s"] == pytest.approx([0.02, 0.12])


def test_a_request_that_waits_keeps_its_replica_without_cpu() -> None:
    """Work ends under the quota as without; then the request waits, and so does what a poll added."""
    limited = Processor(quota_cores=0.5, period_s=0.05)
    rows = poll_rows({0: 1}, 1, Service(0.1, waits_s=(0.2,)), limited)
    assert rows["inference_s"] == pytest.approx(poll_rows({0: 1}, 1, Service(0.1), limited)["inference_s"] + 0.2)
    polled = poll_rows({0: 2}, 1, Service(0.1, poll_cpu_s=(0.01,), waits_s=(0.2,)), limited)
    without = poll_rows({0: 2}, 1, Service(0.1, poll_cpu_s=(0.01,)), limited)
    assert polled["inference_s"][0] >= without["inference_s"][0] + 0.19


def test_two_of_many_replicas_are_polled() -> None:
    """Ten requests at once, ten idle replicas: a poller whose two were just taken polls again until it finds one."""
    queue_s = poll_rows({0: 10}, 10, Service(30.0))["queue_s"]
    assert queue_s[0] == 0 < queue_s.max() < 30


def test_an_unbounded_overload_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_MAX_ROWS", 512)
    engine = Engine(
        OpenLoop(duration_s=1000.0, rate=Constant(rate_rps=50.0)), EXPONENTIAL, Processor(), [Queueing()], Clients(),
        max_replicas=1,
    )  # fmt: skip
    engine.add_replica()
    with pytest.raises(MlscaleError, match="requests are open"):
        engine.advance(1000.0)


def test_without_replicas_requests_fail() -> None:
    """A per-replica queue needs a replica (503); a shared one waits for one."""
    for routing, status in (("random", REFUSED), ("shared-queue", TIMED_OUT)):
        engine = world(routing=routing, timeout_s=3.0)  # type: ignore[arg-type]
        engine.advance(400.0)
        assert set(engine.take_rows()["status"]) <= {status, REFUSED}


def test_clients_send_what_the_load_generator_would() -> None:
    """The same photos in the same order, and nothing outside the stages."""
    stages = (ClosedStage(start_s=0, clients=2), ClosedStage(start_s=30, clients=5), ClosedStage(start_s=60, clients=1))
    schedule = ClosedLoop(duration_s=90, stages=stages, think_mean_s=0.5)
    engine = Engine(
        schedule, Service(0.05), Processor(), [Queueing()], Clients(), max_replicas=8, photos=7, seed=4, block=2
    )
    for _ in range(8):
        engine.add_replica()
    engine.advance(200.0)
    rows = engine.take_rows()
    from mlscale.loadgen.schedules import body_order

    for client in range(5):
        own = rows[rows["client"] == client]
        order = body_order(4, 2, client, 7)
        assert list(own["photo"]) == [order[k % 7] for k in range(len(own))]
    late = rows[rows["intended_s"] > 60.0]
    assert set(late["client"]) == {0}
    assert rows["intended_s"].max() < 90
    assert set(rows[rows["intended_s"] < 30.0]["client"]) == {0, 1}


def test_a_partitioned_application_is_a_small_network() -> None:
    """Each call is a service of the second component between two of the first, whose replica is held meanwhile."""
    samples = np.stack([np.full((1, 1), 0.03), np.full((1, 1), 0.05)])
    service = Service(distribution="measured", samples_s=samples, calls=np.array([[2]]))
    engine = Engine(
        OpenLoop(duration_s=100.0, rate=Constant(rate_rps=0.5), arrivals="even"), service, Processor(),
        [Queueing(), Queueing()], Clients(), max_replicas=4,
    )  # fmt: skip
    engine.add_replica(0)
    engine.add_replica(1)
    engine.advance(200.0)
    rows = engine.take_rows()
    assert np.allclose(rows["done_s"] - rows["intended_s"], 3 * 0.03 + 2 * 0.05)
