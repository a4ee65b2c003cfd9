"""Cold starts and the share of new replicas, on runs whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from mlscale.analysis.coldstart import PHASES, cold_starts, pull_s
from mlscale.analysis.sharing import new_replica_share
from mlscale.runs import Event, Observation, ReplicaSample, Run
from synthetic_runs import info, requests_frame, write_run

INFO = info(facts={"resources_from": "cgroups"})


def a_start(timeline: dict[str, float] | None, pull: str = "already present on machine") -> list[Observation]:
    """Created at 50, bound at 50.2, seen to start at 51, ready at 70."""
    detail = {"timeline": timeline, "pull": pull}
    return [
        Event(50.0, "app", "replica_created", "app-1"),
        Event(50.2, "app", "replica_scheduled", "app-1"),
        Event(51.0, "app", "replica_started", "app-1"),
        Event(70.0, "app", "replica_ready", "app-1", detail=detail),
        Event(60.0, "app", "replica_created", "app-2"),
    ]


def measured(folder: Path, observations: Sequence[Observation]) -> Run:
    return write_run(folder / "run", requests_frame([1.0], 0.1), INFO, observations)


def test_a_start_is_split_and_its_parts_are_the_whole(tmp_path: Path) -> None:
    ready_wall_s = (INFO.wall_start + timedelta(seconds=66.5)).timestamp()
    own = {"python_s": 1.0, "import_s": 12.0, "weights_s": 1.5, "first_s": 0.5, "ready_wall_s": ready_wall_s}
    (row,) = cold_starts(measured(tmp_path, a_start(own))).to_dict("records")
    assert row["subject"] == "app-1", "a pod that never became ready is left out"
    assert row["start_s"] == pytest.approx(66.5 - 15.0 - 50.2), "up to the process's start, by the server's clock"
    assert row["probe_s"] == pytest.approx(70.0 - 66.5)
    assert (row["schedule_s"], row["pull_s"]) == (pytest.approx(0.2), 0.0)
    assert sum(row[name] for name in PHASES) == pytest.approx(row["total_s"]) == pytest.approx(20.0)


def test_without_the_application_s_word_its_parts_are_unknown_and_not_nothing(tmp_path: Path) -> None:
    (row,) = cold_starts(measured(tmp_path, a_start(None))).to_dict("records")
    assert row["start_s"] == pytest.approx(0.8), "up to the moment the container was seen to run"
    assert np.isnan([row[name] for name in ("python_s", "import_s", "weights_s", "first_s", "probe_s")]).all()
    assert row["total_s"] == 20.0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ('Container image "a:1" already present on machine', 0.0),
        ('Successfully pulled image "a:1" in 2.345s (2.345s including waiting). Image size: 90 bytes.', 2.345),
        ('Successfully pulled image "a:1" in 1m2.5s (1m3s including waiting)', 62.5),
        ('Successfully pulled image "a:1" in 840ms (1s including waiting)', 0.84),
    ],
)
def test_how_long_a_pull_took(said: str, seconds: float) -> None:
    assert pull_s(said) == pytest.approx(seconds)


def test_a_pull_that_nobody_told_of_is_unknown() -> None:
    assert np.isnan(pull_s(None))
    assert np.isnan(pull_s("something else"))


def test_the_share_of_new_replicas_and_what_would_be_fair(tmp_path: Path) -> None:
    intended = np.arange(45.0, 65.0, 0.25)
    new = (intended >= 55) & (np.arange(len(intended)) % 4 == 0)
    names = np.where(new, "app-2", "app-1")
    observations = [
        Event(-5.0, "app", "replica_created", "app-1"),
        ReplicaSample(40.0, "app", 1, 0, 1),
        Event(50.0, "app", "replica_created", "app-2"),
        ReplicaSample(55.0, "app", 2, 0, 2),
    ]
    run = write_run(tmp_path / "run", requests_frame(intended, 0.01, replica_id=names), INFO, observations)
    found = new_replica_share(run)
    assert found["t_s"].tolist() == [2.5, 7.5, 12.5, 17.5]
    assert found["share"].tolist() == pytest.approx([0.0, 0.0, 0.25, 0.25])
    assert found["fair"].tolist() == pytest.approx([0.0, 0.5, 0.5, 0.5])
    assert found["answers"].sum() == len(intended)
