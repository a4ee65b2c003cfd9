"""The twin's parts against slow, obvious versions of them, and what must hold whatever happens."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from queues import EXPONENTIAL

from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop
from mlscale.runs.schedule import ClosedStage, Constant
from mlscale_twin import earliest
from mlscale_twin import engine as engine_module
from mlscale_twin.cfs import done_by, finish, runs_from
from mlscale_twin.engine import Engine
from mlscale_twin.layout import LOST, OK, REFUSED, TIMED_OUT
from mlscale_twin.settings import Clients, Polling, Processor, Queueing, Routing, Service

STEP_S = 1e-4


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
            done_by(began_s + share * (ends_s - began_s), began_s, work_s, phase_s, period, used_s, quota, period_s)
            for share in np.linspace(0, 1, 21)
        ]
        assert shares[0] == 0
        assert shares[-1] == pytest.approx(work_s, abs=1e-9)
        assert np.all(np.diff(shares) >= -1e-12)


@pytest.mark.parametrize("number", [1, 2, 3, 16, 40])
def test_the_first_of_a_tournament_is_the_earliest_and_of_equals_the_one_with_the_lowest_number(number: int) -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 9, number).astype(float)
    times_s, owners = earliest.tournament(truth)
    for _ in range(4000):
        assert (times_s[earliest.TOP], owners[earliest.TOP]) == (truth.min(), truth.argmin())
        owner, drawn = int(rng.integers(number)), rng.random()
        truth[owner] = math.inf if drawn < 0.3 else rng.integers(0, 9) if drawn < 0.6 else drawn * 1e-9
        earliest.put(times_s, owners, owner, truth[owner])
    assert earliest.nobody(number)[0][earliest.TOP] == math.inf


def world(seed: int = 0, routing: Routing = "random", **clients: float | bool) -> Engine:
    schedule = OpenLoop(duration_s=300.0, rate=Constant(rate_rps=6.0))
    return Engine(
        schedule, EXPONENTIAL, Processor(quota_cores=0.8), [Queueing(routing, 20)], Clients(**clients),  # type: ignore[arg-type]
        most_replicas=16, photos=5, seed=seed,
    )  # fmt: skip


def shaken(seed: int, routing: Routing) -> Engine:
    """Replicas come, go and die every few seconds; clients give up after 6 s."""
    engine, rng, there = world(seed, routing, timeout_s=6.0, cancels=True), np.random.default_rng(seed), []
    for t_s in np.arange(0, 300, 2.5):
        engine.advance(float(t_s))
        there = [place for place in there if engine.is_there(place)]
        if len(there) < 2 or (len(there) < 10 and rng.random() < 0.6):
            there.append(engine.come())
        else:
            place = there.pop(int(rng.integers(len(there))))
            (engine.go if rng.random() < 0.7 else engine.die)(place)
    engine.advance(400.0)
    return engine


@pytest.mark.parametrize("routing", get_args(Routing))
def test_every_request_ends_once_whatever_happens(routing: Routing) -> None:
    engine = shaken(3, routing)
    rows = engine.take_rows()
    assert len(rows) == engine.arrived() == len(np.unique(rows["number"]))
    assert set(rows["status"]) >= {OK, TIMED_OUT}
    assert LOST in rows["status"]
    took_s = rows["done_s"] - rows["intended_s"]
    assert (took_s >= 0).all()
    assert took_s.max() <= 6.0 + 1e-9
    answered = rows[rows["status"] == OK]
    whole = answered["queue_s"] + answered["inference_s"]
    assert np.allclose(whole, answered["done_s"] - answered["intended_s"])
    assert engine.ongoing() == 0 == engine.waiting()


def test_same_seed_same_bytes() -> None:
    one, other, third = (shaken(seed, "two-choices").take_rows() for seed in (5, 5, 6))
    assert one.tobytes() == other.tobytes()
    assert one.tobytes() != third.tobytes()


def test_steps_of_any_length_lead_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that has to grow, an output that has to be emptied and a clock that is stopped often change nothing."""
    found = []
    for room, rows, step_s in ((4096, 65_536, 300.0), (2, 8, 0.37)):
        monkeypatch.setattr(engine_module, "_ROOM", room)
        monkeypatch.setattr(engine_module, "_ROWS", rows)
        engine = world(seed=9, routing="shared-queue")
        for _ in range(4):
            engine.come()
        for t_s in np.arange(step_s, 300 + step_s, step_s):
            engine.advance(float(t_s))
        engine.advance(2000.0)
        found.append(engine.take_rows())
    assert len(found[0]) > 1500
    for name in found[0].dtype.names or ():
        assert np.allclose(found[0][name], found[1][name], atol=1e-9, equal_nan=True), name


def polled(clients: dict[float, int], replicas: int, service: Service, processor: Processor | None = None) -> Any:
    """Rows of clients' first requests, so many from each time on, to replicas that a polled queue asks after 0.1, 0.2,
    0.4 s."""
    stages = tuple(ClosedStage(start_s=at_s, clients=number) for at_s, number in clients.items())
    schedule = ClosedLoop(duration_s=max(clients) + 0.01, stages=stages, think_mean_s=0)
    queue = Queueing("polled-queue", polling=Polling(first_pause_s=0.1, longest_pause_s=0.4))
    engine = Engine(schedule, service, processor or Processor(), [queue], Clients(), most_replicas=replicas)
    for _ in range(replicas):
        engine.come()
    engine.advance(500.0)
    rows = engine.take_rows()
    return rows[np.argsort(rows["intended_s"] + rows["queue_s"], kind="stable")]


def test_a_queue_that_asks_lets_replicas_stand_idle_until_it_asks_again() -> None:
    """The second request asks at 0 (twice), 0.1, 0.3, 0.7, then every 0.4 s; the replica is free from 0.5 s on."""
    rows = polled({0: 2}, 1, Service(0.5))
    assert rows["queue_s"] == pytest.approx([0.0, 0.7])
    assert polled({0: 2}, 1, Service(0.8))["queue_s"][1] == pytest.approx(1.1)


def test_who_finds_a_replica_free_sends_the_request_that_waits_longest_and_asks_on_for_its_own() -> None:
    """Two ask for a lone replica: the third request's asker, at 0.25, 0.35 and 0.55 s, for the second's; then, at 0.95
    and 1.35 s, for its own."""
    rows = polled({0: 2, 0.25: 3}, 1, Service(0.5))
    assert rows["intended_s"] + rows["queue_s"] == pytest.approx([0.0, 0.55, 1.35])
    assert list(rows["client"]) == [0, 1, 2]


def test_to_be_asked_costs_a_replica_at_work() -> None:
    """Four questions (0 twice, 0.1, 0.3) come before 0.5 s of work are done; the next, at 0.7, finds it free."""
    rows = polled({0: 2}, 1, Service(0.5, ask_cpu_s=(0.01,)))
    assert rows["inference_s"] == pytest.approx([0.54, 0.5])
    assert polled({0: 1}, 1, Service(0.5, ask_cpu_s=(0.01,)))["inference_s"] == pytest.approx([0.5])
    limited = polled({0: 2}, 1, Service(0.1, ask_cpu_s=(0.01,)), Processor(quota_cores=0.5, period_s=0.05))
    assert limited["inference_s"][0] > 0.1 / 0.5, "out of the same quota"


def test_who_finds_a_replica_free_for_its_own_request_sends_what_waits_too() -> None:
    """Four wait from 0.2 s on, and two ask. At 0.9 the first finds the replica free, and by the same books again and
    again: of three sent two are rejected, in whose places and the fourth's two ask eight times until 1.41."""
    rows = polled({0: 1, 0.2: 5}, 1, Service(0.5, ask_cpu_s=(0.001,)))
    begins_s = rows["intended_s"] + rows["queue_s"]
    assert begins_s[:2] == pytest.approx([0.0, 0.9])
    assert rows["inference_s"][0] == pytest.approx(0.5 + 8 * 0.001)
    assert rows["inference_s"][1] == pytest.approx(0.5 + 2 * 0.001 + 8 * 0.001)
    assert list(rows["client"]) == [0, 1, 2, 3, 4], "those rejected keep their places"


def test_who_stands_still_answers_in_the_next_period() -> None:
    """0.03 s of quota in 0.1 s: the replica that is asked at 0.05 s runs again at 0.1 s."""
    for asked_s, heard_s in ((0.01, 0.01), (0.03, 0.1), (0.05, 0.1), (0.12, 0.12), (0.135, 0.2)):
        assert runs_from(asked_s, 0.0, 0.0, 0, 0.0, 0.3, 0.1) == pytest.approx(heard_s)
    assert runs_from(0.05, math.inf, 0.0, 0, 0.02, 0.3, 0.1) == 0.05, "at rest, with quota left"
    assert runs_from(0.05, math.inf, 0.0, 1, 0.01, 0.3, 0.1) == pytest.approx(0.1), "what follows an answer lasts"


def test_work_outside_the_clock_of_a_service_is_seen_in_the_queue() -> None:
    """Of 20 ms each before and after 10 ms of service: who comes at once waits until all of it is over."""
    rows = polled({0: 2}, 1, Service(0.01, ahead_cpu_s=(0.02,), after_cpu_s=(0.02,)))
    assert rows["inference_s"] == pytest.approx([0.01, 0.01])
    assert rows["queue_s"] == pytest.approx([0.02, 0.12])


def test_two_of_many_replicas_are_asked() -> None:
    """Ten come at once to ten idle replicas: who asks two that were just taken asks again, and finds one in time."""
    queue_s = polled({0: 10}, 10, Service(30.0))["queue_s"]
    assert queue_s[0] == 0 < queue_s.max() < 30


def test_an_overload_without_bound_ends_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_MOST_ROOM", 512)
    engine = Engine(
        OpenLoop(duration_s=1000.0, rate=Constant(rate_rps=50.0)), EXPONENTIAL, Processor(), [Queueing()], Clients(),
        most_replicas=1,
    )  # fmt: skip
    engine.come()
    with pytest.raises(MlscaleError, match="requests are open"):
        engine.advance(1000.0)


def test_no_replica_no_service() -> None:
    """A queue of its own needs a replica (503); a shared one waits for one."""
    for routing, status in (("random", REFUSED), ("shared-queue", TIMED_OUT)):
        engine = world(routing=routing, timeout_s=3.0)  # type: ignore[arg-type]
        engine.advance(400.0)
        assert set(engine.take_rows()["status"]) <= {status, REFUSED}


def test_clients_send_what_the_load_generator_would() -> None:
    """The same photos in the same order, and nothing outside the stages."""
    stages = (ClosedStage(start_s=0, clients=2), ClosedStage(start_s=30, clients=5), ClosedStage(start_s=60, clients=1))
    schedule = ClosedLoop(duration_s=90, stages=stages, think_mean_s=0.5)
    engine = Engine(
        schedule, Service(0.05), Processor(), [Queueing()], Clients(), most_replicas=8, photos=7, seed=4, block=2
    )
    for _ in range(8):
        engine.come()
    engine.advance(200.0)
    rows = engine.take_rows()
    from mlscale.loadgen.schedules import photo_order

    for client in range(5):
        mine = rows[rows["client"] == client]
        order = photo_order(4, 2, client, 7)
        assert list(mine["photo"]) == [order[k % 7] for k in range(len(mine))]
    late = rows[rows["intended_s"] > 60.0]
    assert set(late["client"]) == {0}
    assert rows["intended_s"].max() < 90
    assert set(rows[rows["intended_s"] < 30.0]["client"]) == {0, 1}


def test_a_partitioned_application_is_a_small_network() -> None:
    """Each call is a service of the second component between two of the first, whose replica waits meanwhile."""
    samples = np.stack([np.full((1, 1), 0.03), np.full((1, 1), 0.05)])
    service = Service(distribution="measured", samples_s=samples, calls=np.array([[2]]))
    engine = Engine(
        OpenLoop(duration_s=100.0, rate=Constant(rate_rps=0.5), arrivals="even"), service, Processor(),
        [Queueing(), Queueing()], Clients(), most_replicas=4,
    )  # fmt: skip
    engine.come(0)
    engine.come(1)
    engine.advance(200.0)
    rows = engine.take_rows()
    assert np.allclose(rows["done_s"] - rows["intended_s"], 3 * 0.03 + 2 * 0.05)
    assert engine.arrived(1) == 2 * len(rows)
