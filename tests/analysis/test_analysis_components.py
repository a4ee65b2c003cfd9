"""Components of a run: replicas in all, visits, where a request's time went."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from mlscale.analysis.components import by_component, replicas_in_all, response_breakdown, visits
from mlscale.analysis.provisioning import _first_answers


def _replicas(*rows: tuple[float, str, int, int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["t_s", "component", "desired", "starting", "ready"])


def test_each_components_sample_stands_until_its_next() -> None:
    samples = (0.0, "a", 1, 0, 1), (0.2, "b", 1, 1, 0), (1.0, "a", 2, 1, 1), (1.2, "b", 1, 0, 1), (1.2, "a", 2, 0, 2)
    found = replicas_in_all(_replicas(*samples))
    assert found.to_numpy().tolist() == [
        [0.0, 1, 0, 1],
        [0.2, 2, 1, 1],
        [1.0, 3, 2, 1],
        [1.2, 3, 0, 3],
    ]


def test_one_component_stays_as_it_is() -> None:
    samples = _replicas((0.0, "a", 1, 0, 1), (0.5, "a", 2, 1, 1))
    assert replicas_in_all(samples)[["t_s", "desired"]].to_numpy().tolist() == [[0.0, 1], [0.5, 2]]


def _run(*, partitioned: bool) -> Any:
    requests = pd.DataFrame(
        {
            "request_id": [1, 2, 3],
            "intended_s": [0.0, 1.0, 2.0],
            "done_s": [0.5, 1.8, 2.1],
            "status": ["ok", "ok", "http_5xx"],
            "replica_id": ["f1", "f2", "f1"],
            "queue_s": [0.05, 0.1, 0.0],
            "inference_s": [0.4, 0.6, 0.1],
        }
    )
    hops = pd.DataFrame(
        [
            (1, "front", "f1", 0.05, 0.05, 0.1),
            (1, "back", "b1", 0.2, 0.05, 0.2),
            (2, "front", "f2", 1.1, 0.1, 0.2),
            (2, "back", "b1", 1.3, 0.1, 0.1),
            (2, "back", "b2", 1.5, 0.1, 0.1),
            (3, "front", "f1", 2.0, 0.0, 0.1),
        ],
        columns=["request_id", "component", "replica_id", "start_s", "queue_s", "inference_s"],
    )
    names = ("front", "back") if partitioned else ("app",)
    resources = pd.DataFrame(
        [
            (t, component, f"{component}-1", "replica", cores, 1e6, 10.0 * t, throttled * t, 0.0)
            for t in (0.0, 1.0, 2.0)
            for component, cores, throttled in ((names[0], 0.2, 1.0), (names[-1], 0.3, 5.0))[: len(names)]
        ],
        columns=[
            "t_s",
            "component",
            "subject",
            "role",
            "cpu_cores",
            "rss_bytes",
            "nr_periods",
            "nr_throttled",
            "throttled_s",
        ],
    )
    replicas = _replicas(*((t, name, 1, 0, 1) for t in (0.0, 1.0) for name in names))
    return SimpleNamespace(
        requests=requests,
        hops=hops if partitioned else hops.iloc[:0],
        resources=resources,
        replicas=replicas,
        event_list=[],
        info=SimpleNamespace(components=names),
    )


def test_visits_of_a_partitioned_run_are_its_hops_and_of_a_whole_one_its_requests() -> None:
    assert len(visits(_run(partitioned=True))) == 6
    whole = visits(_run(partitioned=False))
    assert whole["component"].tolist() == ["app"] * 3
    assert whole["inference_s"].tolist() == [0.4, 0.6, 0.1]


def test_what_each_component_did_per_right_answer() -> None:
    table = by_component(_run(partitioned=True), 0.0, 2.0)
    assert table["visits_per_request"].tolist() == [1.0, 1.5]
    assert table["work_s"].tolist() == pytest.approx([0.15, 0.4 / 3])
    assert table["work_per_request_s"].tolist() == pytest.approx([0.15, 0.2])
    assert table["cpu_s"].tolist() == pytest.approx([0.4, 0.6])
    assert table["cpu_per_request_s"].tolist() == pytest.approx([0.2, 0.3])
    assert table["throttled_share"].tolist() == pytest.approx([0.1, 0.5])
    assert math.isnan(by_component(_run(partitioned=True), 50.0, 60.0)["visits_per_request"].iloc[0])


def test_the_way_adds_up_to_the_response() -> None:
    found = response_breakdown(_run(partitioned=True))
    assert found["request_id"].tolist() == [1, 2]
    parts = ["front waits", "front works", "back waits", "back works", "rest"]
    assert found[parts].sum(axis=1).tolist() == pytest.approx(found["response_s"].tolist())
    assert found["back works"].tolist() == pytest.approx([0.2, 0.2])
    assert found["rest"].tolist() == pytest.approx([0.1, 0.1])


def test_a_called_replicas_first_answer_counts() -> None:
    assert _first_answers(_run(partitioned=True), 0.0, 9.0) == {"f1": 0.5, "f2": 1.8, "b1": 0.5, "b2": 1.8}
    assert _first_answers(_run(partitioned=False), 0.0, 9.0) == {"f1": 0.5, "f2": 1.8}
