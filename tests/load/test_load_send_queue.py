"""Both queues against a server of known speed, in virtual time."""

from __future__ import annotations

import heapq
from collections import Counter

import pytest

from mlscale.loadgen.schedules import THINKS, WHOLE, body_order, send_times, split, think_times
from mlscale.loadgen.send_queue import CLIENT_STRIDE, ClosedQueue, Due, OpenQueue, make_queue
from mlscale.runs import ClosedLoop, ClosedStage, Constant, OpenLoop


def play(queue: ClosedQueue | OpenQueue, service_s: float) -> list[Due]:
    """Everything sent at the moment it is intended and answered ``service_s`` later."""
    sent: list[Due] = []
    open_now: list[tuple[float, int, Due]] = []
    while True:
        due_s = queue.next_s()
        if open_now and (due_s is None or open_now[0][0] <= due_s):
            done_s, _, answered = heapq.heappop(open_now)
            queue.answered(answered, done_s)
        elif due_s is None:
            return sent
        else:
            sent.append(queue.take())
            heapq.heappush(open_now, (sent[-1].intended_s + service_s, len(sent), sent[-1]))


def closed(think_s: float = 0.0) -> ClosedLoop:
    stages = (
        ClosedStage(start_s=0, clients=2),
        ClosedStage(start_s=10, clients=5),
        ClosedStage(start_s=20, clients=1),
        ClosedStage(start_s=25, clients=3),
    )
    return ClosedLoop(duration_s=30, stages=stages, think_mean_s=think_s)


def test_an_open_queue_is_its_schedule() -> None:
    schedule = OpenLoop(duration_s=30, rate=Constant(rate_rps=100))
    sent = play(OpenQueue(schedule, 3, 1, 7), service_s=2.0)
    assert [due.intended_s for due in sent] == [t for s in send_times(schedule, 3, 1) for t in s.intended_s.tolist()]
    assert [due.request_id for due in sent] == list(range(len(sent)))
    order = body_order(3, 1, 0, 7)
    assert [due.body for due in sent] == [order[k % 7] for k in range(len(sent))]
    parts = [due for part in split(schedule, 3) for due in play(OpenQueue(schedule, 3, 1, 7, part), 0.1)]
    assert sorted(parts, key=lambda due: due.request_id) == sent


def test_without_photos_and_without_requests() -> None:
    assert {due.body for due in play(OpenQueue(OpenLoop(duration_s=9, rate=Constant(rate_rps=5)), 0, 0, 0), 1)} == {0}
    assert make_queue(OpenLoop(duration_s=9, rate=Constant(rate_rps=0)), 0, 0, 0, WHOLE).next_s() is None


def test_clients_without_think_time_keep_the_server_busy() -> None:
    """Five clients at 0.1 s each make 50 requests a second; two make 20."""
    sent = play(ClosedQueue(closed(), 0, 0, 4), service_s=0.1)
    per_stage = Counter(due.load_stage for due in sent)
    assert per_stage[0] == pytest.approx(200, abs=2)
    assert per_stage[1] == pytest.approx(500, abs=5)
    assert per_stage[2] == pytest.approx(50, abs=1)
    assert per_stage[3] == pytest.approx(150, abs=3)
    for stage, clients in enumerate((2, 5, 1, 3)):
        assert {due.client for due in sent if due.load_stage == stage} == set(range(clients))


def test_each_client_sends_thinks_and_shows_its_photos_in_its_order() -> None:
    schedule = closed(think_s=0.01)
    sent = play(ClosedQueue(schedule, 9, 2, 6), service_s=0.05)
    mine = [due for due in sent if due.client == 0]
    assert len(mine) > 2 * THINKS
    thinks = [t for chunk in range(len(mine) // THINKS + 1) for t in think_times(schedule, 9, 2, 0, chunk)]
    expected_s = 0.0
    for k, due in enumerate(mine):
        assert due.request_id == k
        assert due.intended_s == pytest.approx(expected_s, abs=1e-9)
        expected_s = due.intended_s + 0.05 + thinks[k]
    order = body_order(9, 2, 0, 6)
    assert [due.body for due in mine] == [order[k % 6] for k in range(len(mine))]


def test_joining_clients_send_at_once_and_leaving_ones_begin_nothing_more() -> None:
    sent = play(ClosedQueue(closed(think_s=1.0), 1, 0, 0), service_s=0.3)
    for client, (joins, leaves) in {2: ([10.0, 25.0], [(20.0, 25.0)]), 4: ([10.0], [(20.0, 30.0)])}.items():
        mine = [due.intended_s for due in sent if due.client == client]
        assert set(joins) <= set(mine)
        assert not any(a <= t < b for t in mine for a, b in [(0.0, 10.0), *leaves])
    assert max(due.intended_s for due in sent) < 30


def test_an_answer_that_outlasts_its_clients_absence_does_not_double_the_client() -> None:
    queue = ClosedQueue(closed(), 0, 0, 0)
    sent = play(queue, service_s=17.0)
    mine = [due.intended_s for due in sent if due.client == 2]
    assert mine == [10.0, 27.0]  # open over the gap from 20 to 25, so the next is due when it is done


def test_parts_of_a_closed_loop_are_its_clients() -> None:
    schedule = closed(think_s=0.2)
    whole = play(ClosedQueue(schedule, 4, 0, 3), service_s=0.1)
    parts = [due for part in split(schedule, 3) for due in play(ClosedQueue(schedule, 4, 0, 3, part), 0.1)]
    assert sorted(parts, key=lambda due: due.request_id) == sorted(whole, key=lambda due: due.request_id)
    assert len({due.request_id for due in whole}) == len(whole)
    assert all(due.request_id // CLIENT_STRIDE == due.client for due in whole)
