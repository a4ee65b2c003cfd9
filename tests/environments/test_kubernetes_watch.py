"""Follow a list: resumed, relisted, nothing lost; pods' lives and the HPA's decisions from what is seen."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_shapes import ORIGIN_T, WALL, at, change, event, hpa, pod, running, terminated, waiting

from mlscale.environments.kubernetes.client import Refused
from mlscale.environments.kubernetes.hpa import HpaWatch, quantity
from mlscale.environments.kubernetes.list_watch import Follower, Relist, known_within
from mlscale.environments.kubernetes.pods import PodWatch
from mlscale.runs import Event

SETTLED = (("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size"),)
GROWING = (
    ("AbleToScale", "True", "SucceededRescale", "the HPA controller was able to update the target scale to 3"),
    ("ScalingActive", "True", "ValidMetricFound", "the HPA was able to successfully calculate a replica count"),
)


def listing(version: str, *items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "items": list(items)}


def test_a_list_then_its_watch() -> None:
    follower = Follower("pods")
    first = follower.listed(listing("10", pod("a", version="7")), 1.0, WALL)
    assert [(one.kind, one.gap_s) for one in first] == [("ADDED", 0.0)]
    assert follower.version == "10"
    (second,) = follower.event({"type": "MODIFIED", "object": pod("a", version="11")}, 2.0, WALL)
    assert (second.kind, second.t, follower.version) == ("MODIFIED", 2.0, "11")
    assert follower.event({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}}, 3.0, WALL) == []
    assert follower.version == "20", "a bookmark moves the place to resume from"
    (gone,) = follower.event({"type": "DELETED", "object": pod("a", version="21")}, 4.0, WALL)
    assert gone.kind == "DELETED"


def test_410_asks_for_a_new_list_which_yields_only_what_differs_with_the_gap() -> None:
    follower = Follower("pods")
    stays, changes, goes = pod("stays", version="1"), pod("changes", version="2"), pod("goes", version="3")
    follower.listed(listing("3", stays, changes, goes), 1.0, WALL)
    gone = {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old resource version"}}
    with pytest.raises(Relist):
        follower.event(gone, 5.0, WALL)
    again = follower.listed(listing("9", stays, pod("changes", version="8"), pod("new", version="9")), 6.0, WALL)
    seen = {one.thing["metadata"]["name"]: (one.kind, one.gap_s) for one in again}
    assert seen == {"goes": ("DELETED", 5.0), "changes": ("MODIFIED", 5.0), "new": ("ADDED", 5.0)}


def test_a_watch_that_is_refused_says_so() -> None:
    with pytest.raises(Refused, match="403 Forbidden"):
        Follower("pods").event(
            {"type": "ERROR", "object": {"code": 403, "reason": "Forbidden", "message": "no"}}, 1.0, WALL
        )


def test_how_exactly_a_moment_is_known() -> None:
    seen = change("pods", pod(), seconds=0.3)
    assert known_within(seen, "2026-11-25T12:00:00Z") == pytest.approx(0.3)
    assert known_within(seen, "2026-11-25T12:00:05Z") == 1.0, "the server's clock is ahead: a second stands in"
    assert known_within(seen, None) == 1.0
    assert known_within(change("pods", pod(), 0.3, gap_s=7.0), "2026-11-25T12:00:00Z") == 7.0


def kinds(events: list[Event]) -> list[str]:
    return [one.kind for one in events]


def test_a_pods_life() -> None:
    watch = PodWatch(ORIGIN_T)
    assert kinds(watch.take(change("pods", pod(), 0.1, "ADDED"))) == ["replica_created"]
    assert kinds(watch.take(change("pods", pod(scheduled=True), 0.2))) == ["replica_scheduled"]
    assert watch.take(change("pods", pod(scheduled=True, state=waiting("ContainerCreating")), 0.3)) == []
    (started,) = watch.take(change("pods", pod(scheduled=True, state=running()), 1.5))
    assert (started.kind, started.t_s, started.subject) == ("replica_started", 1.5, "app-1")
    assert (started.source_time, started.known_within_s) == (WALL.isoformat(), pytest.approx(1.5))
    assert [(one.starting, one.ready) for one in watch.sample(2.0, {"app": 1})] == [(1, 0)]
    up = pod(scheduled=True, ready=True, state=running())
    assert kinds(watch.take(change("pods", up, 9.0))) == ["replica_ready"]
    assert watch.take(change("pods", up, 9.5)) == [], "each once"
    assert [(one.starting, one.ready) for one in watch.sample(9.5, {"app": 1})] == [(0, 1)]
    ending = pod(scheduled=True, ready=True, state=running(), deleted=True)
    assert kinds(watch.take(change("pods", ending, 20.0))) == ["replica_draining"]
    assert [(one.starting, one.ready) for one in watch.sample(20.0, {"app": 1})] == [(0, 0)], "it no longer counts"
    ended = pod(scheduled=True, state=terminated(143), deleted=True)
    assert watch.take(change("pods", ended, 21.0)) == [], "its end was asked for"
    assert kinds(watch.take(change("pods", ended, 22.0, "DELETED"))) == ["replica_removed"]


def test_what_was_missed_while_nothing_could_be_seen_is_told_at_once_and_in_order() -> None:
    whole = pod(scheduled=True, ready=True, state=running())
    events = PodWatch(ORIGIN_T).take(change("pods", whole, 5.0, "ADDED", gap_s=4.0))
    assert kinds(events) == ["replica_created", "replica_scheduled", "replica_started", "replica_ready"]
    assert all(one.known_within_s >= 4.0 for one in events)


def test_a_container_that_ends_by_itself_has_failed_and_starts_again() -> None:
    watch = PodWatch(ORIGIN_T)
    watch.take(change("pods", pod(scheduled=True, ready=True, state=running()), 1.0))
    (failed,) = watch.take(change("pods", pod(scheduled=True, state=terminated(137, "OOMKilled")), 2.0))
    assert (failed.kind, failed.detail["reason"]) == ("replica_failed", "OOMKilled, exit code 137")
    again = pod(scheduled=True, state=running(), last_state=terminated(137, "OOMKilled"), restarts=1)
    assert kinds(watch.take(change("pods", again, 4.0))) == ["replica_failed", "replica_started"]


def test_an_image_that_can_not_be_pulled_is_a_failure_once() -> None:
    watch = PodWatch(ORIGIN_T)
    pulling = pod(scheduled=True, state=waiting("ErrImagePull", "not found"))
    assert kinds(watch.take(change("pods", pulling, 1.0)))[-1] == "replica_failed"
    assert watch.take(change("pods", pulling, 2.0)) == []


def test_a_decision_is_told_once_by_whoever_says_it_first() -> None:
    watch = HpaWatch("app", ORIGIN_T, 1)
    told = event("HorizontalPodAutoscaler", "app", "SuccessfulRescale", "New size: 3; reason: cpu above target")
    (first,) = watch.take_event(change("events", told, 15.2, "ADDED"))
    assert (first.detail["from"], first.detail["to"], first.detail["reason"]) == (1, 3, "cpu above target")
    after = watch.take(change("autoscalers", hpa(3, *GROWING, cpu=140), 15.3))
    assert [(one.detail["from"], one.detail["to"]) for one in after] == [(3, 3)], "the status only adds its numbers"
    assert after[0].detail["value"] == 140
    assert watch.desired == 3


def test_a_status_that_comes_first_gives_reason_and_numbers() -> None:
    watch = HpaWatch("app", ORIGIN_T, 1)
    (decided,) = watch.take(change("autoscalers", hpa(3, *GROWING, flying="2750m"), 15.3))
    assert (decided.kind, decided.detail["from"], decided.detail["to"]) == ("scale_decision", 1, 3)
    assert (decided.detail["metric"], decided.detail["value"], decided.detail["target"]) == (
        "mlscale_in_flight",
        2.75,
        1.0,
    )
    assert "SucceededRescale" in decided.detail["reason"]
    told = event("HorizontalPodAutoscaler", "app", "SuccessfulRescale", "New size: 3; reason: external metric")
    assert watch.take_event(change("events", told, 15.4, "ADDED")) == []


def test_a_hold_is_told_when_its_reasons_change() -> None:
    watch = HpaWatch("app", ORIGIN_T, 1)
    assert watch.take(change("autoscalers", hpa(0), 1.0)) == [], "it has not looked yet"
    (first,) = watch.take(change("autoscalers", hpa(1, *SETTLED, cpu=40), 15.0))
    assert (first.detail["from"], first.detail["to"]) == (1, 1)
    assert watch.take(change("autoscalers", hpa(1, *SETTLED, cpu=44), 30.0)) == [], "another number, the same reasons"
    failing = (("ScalingActive", "False", "FailedGetResourceMetric", "no metrics returned from resource metrics API"),)
    (unable,) = watch.take(change("autoscalers", hpa(1, *failing), 45.0))
    assert "no metrics returned" in unable.detail["reason"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("250m", 0.25), ("12345678n", 0.012345678), ("2", 2.0), ("64Mi", 64 * 2**20), ("1k", 1000.0), ("1e3", 1000.0)],
)
def test_quantities(text: str, number: float) -> None:
    assert quantity(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "much", "5x", "1 Mi"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a quantity|Invalid number"):
        quantity(text)


def test_stamps_are_of_the_same_clock() -> None:
    assert at(1.0).timestamp() - WALL.timestamp() == 1.0
