"""What the time to boot does: parts that add up, and a slope that is 1 where nothing hides the boot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlscale.analysis.boot_time_response import (
    NO_MACHINES,
    PARTS,
    _surplus,
    benefit_of_room,
    boot_time_rows,
    slope_on_boot,
)
from mlscale.analysis.provisioning import machine_states
from mlscale.runs import Event, ReplicaSample, Run
from synthetic_runs import Shape, info, make_run, requests_frame, write_run

LEVEL_S = 0.3


def rehearsal(path: Path, boot_s: float, seed: int = 0, **settings: Any) -> Run:
    scaling = {"app": {"cpu_cores": 0.3, "max_replicas": 4, "boot": f"{boot_s:g}s", "buffer_replicas": 0, **settings}}
    shape = Shape(boot_s=boot_s, detection_s=9.0, clients=(2, 18))
    labels: dict[str, Any] = {"environment": "eks", "mode": "rehearsal", "level": "container+machine"}
    return make_run(path, seed=seed, shape=shape, scaling=scaling, **labels)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("dose")
    runs = [rehearsal(folder / f"{boot:g}-{k}", boot, k) for boot in (0.0, 10.0, 30.0, 60.0) for k in range(2)]
    plain = make_run(folder / "plain", shape=Shape(detection_s=9.0, clients=(2, 18)), environment="k3s")
    return boot_time_rows([*runs, plain], LEVEL_S)


def test_the_boot_time_is_the_one_that_was_observed(rows: pd.DataFrame) -> None:
    assert list(rows["variant"].drop_duplicates()) == ["boot 0s", "boot 10s", "boot 30s", "boot 60s", NO_MACHINES]
    assert rows["boot_s"].tolist()[:8] == pytest.approx([0, 0, 10, 10, 30, 30, 60, 60])
    assert rows["boot_s"].isna().tolist()[8]


def test_the_parts_follow_one_another_and_add_up(rows: pd.DataFrame) -> None:
    reached = rows[~rows["t_slo_censored"].astype(bool)]
    assert len(reached) >= 8
    parts = reached[[f"{name}_s" for name in PARTS]]
    assert (parts >= 0).all(axis=None)
    assert parts.sum(axis=1).to_numpy() == pytest.approx(reached["t_slo_s"].to_numpy())
    waited = reached[reached["variant"].isin(["boot 30s", "boot 60s"])]
    assert waited["machine_s"].to_numpy() == pytest.approx(waited["boot_s"].to_numpy() + 2.8, abs=0.2)
    assert reached[reached["variant"] == NO_MACHINES]["machine_s"].eq(0).all()


def test_what_was_not_reached_has_no_recovery(tmp_path: Path) -> None:
    (row,) = boot_time_rows([rehearsal(tmp_path / "late", 90.0)], 0.05).to_dict("records")
    assert row["t_slo_censored"]
    assert row["detection_s"] > 8
    assert row["machine_s"] > 90
    assert row["recovery_s"] != row["recovery_s"]


def test_where_nothing_hides_the_boot_a_second_of_it_costs_a_second(rows: pd.DataFrame) -> None:
    line = slope_on_boot(rows[rows["boot_s"].isna() | (rows["boot_s"] > 5)])
    assert line is not None
    assert line.low < 1 < line.high or line.slope == pytest.approx(1, abs=0.1)
    assert (line.n, line.left_out) == (6, "")
    late = slope_on_boot(rows.assign(t_slo_censored=rows["t_slo_censored"] | (rows.index == rows.index[7])))
    assert late is not None
    assert late.left_out == ", at least: without 1 that did not recover"
    assert slope_on_boot(rows[rows["variant"].isin(["boot 0s", "boot 10s"])]) is None, "two boot times are no line"


def test_a_machine_that_comes_for_placeholders_is_waited_for_by_nobody(tmp_path: Path) -> None:
    """Pods found room at once; a machine that was asked for then came late, and is no part of the response."""
    requests = requests_frame([*range(40, 160)], [0.9 if 45 <= t < 65 else 0.1 for t in range(40, 160)])
    numbers = [ReplicaSample(t, "app", 1 if t < 50 else 2, 0, 1 if t < 62 else 2) for t in range(40, 165)]
    events = [
        Event(50.0, "app", "scale_decision", detail={"from": 1, "to": 2}),
        Event(50.1, "app", "replica_created", "a"),
        Event(50.2, "app", "replica_scheduled", "a"),
        Event(51.0, "app", "machine_requested", "m"),
        Event(62.0, "app", "replica_ready", "a"),
        Event(77.0, "app", "machine_booted", "m"),
        Event(78.0, "app", "machine_ready", "m"),
    ]
    scaling = {"app": {"max_replicas": 4, "boot": "ec2", "buffer_replicas": 2}}
    run = write_run(tmp_path / "kept", requests, info(environment="eks", scaling=scaling), [*numbers, *events])
    (row,) = boot_time_rows([run], LEVEL_S).to_dict("records")
    assert row["boot_s"] == pytest.approx(26.0)
    assert row["machine_s"] == pytest.approx(0.2)
    assert row["container_s"] == pytest.approx(11.8)


def test_room_kept_free_is_no_dose(rows: pd.DataFrame) -> None:
    more = rows.assign(variant=rows["variant"].where(rows["variant"] != "boot 60s", "boot 60s, room for 2 kept free"))
    line = slope_on_boot(more)
    assert line is not None
    assert line.n == 6


def test_machines_are_counted_exactly_and_end(tmp_path: Path) -> None:
    at = [
        (2.0, "machine_requested", "m"),
        (5.0, "machine_booted", "m"),
        (5.5, "machine_registered", "m"),
        (6.0, "machine_ready", "m"),
        (16.0, "machine_removed", "m"),
    ]
    events = [Event(t, "app", kind, name) for t, kind, name in at]  # type: ignore[arg-type]
    run = write_run(tmp_path / "run", requests_frame([50.0], 0.1), info(), events)
    machines = machine_states(run).set_index("t_s")
    assert list(machines.columns) == ["booting", "joining", "ready"]
    assert list(machines.index) == [2.0, 5.0, 6.0, 16.0], "changes alone"
    assert machines.loc[5.0].tolist() == [0, 1, 0]
    assert machines.loc[16.0].tolist() == [0, 0, 0]
    assert _surplus(run, 10.0) == pytest.approx(6.0 - 155.0), "beyond one machine, to the end at 165 s"
    assert _surplus(run, 20.0) == pytest.approx(-145.0)


def test_a_pod_that_came_after_the_recovery_was_not_waited_for(tmp_path: Path) -> None:
    """Room kept free for one of the two pods that the step asks for: m_t is back before the second has a machine."""
    sent = [40 + k / 5 for k in range(600)]
    requests = requests_frame(sent, [0.9 if 45 <= t < 65 else 0.1 for t in sent])
    numbers = [ReplicaSample(t, "app", 1 if t < 50 else 3, 0, 1 if t < 62 else 2 + (t >= 95)) for t in range(40, 165)]
    at = [(50.1, "created", "a"), (50.1, "created", "b"), (50.2, "scheduled", "a"), (62.0, "ready", "a")]
    at += [(80.0, "scheduled", "b"), (95.0, "ready", "b")]
    events = [Event(t, "app", f"replica_{kind}", name) for t, kind, name in at]  # type: ignore[arg-type]
    decided = Event(50.0, "app", "scale_decision", detail={"from": 1, "to": 3})
    scaling = {"app": {"max_replicas": 4, "boot": "ec2", "buffer_replicas": 1}}
    run = write_run(tmp_path / "kept", requests, info(environment="eks", scaling=scaling), [*numbers, decided, *events])
    (row,) = boot_time_rows([run], LEVEL_S).to_dict("records")
    assert row["t_slo_s"] < 30
    assert row["machine_s"] == pytest.approx(0.2)
    assert row["container_s"] == pytest.approx(11.8)
    assert row["recovery_s"] == pytest.approx(row["t_slo_s"] - 17.0)


def test_room_kept_free_is_judged_by_both_clocks(rows: pd.DataFrame) -> None:
    """A first recovery that is 10 s sooner, and as many seconds over L in all."""
    plain = pd.DataFrame({"block": [1, 2, 3], "variant": "boot ec2", "t_slo_s": [60.0, 61, 62], "over_level_s": 70.0})
    kept = plain.assign(
        variant="boot ec2, room for 2 kept free", t_slo_s=[50.0, 52, 51], over_level_s=[69.0, 70.0, 71.0]
    )
    found = benefit_of_room(pd.concat([plain, kept], ignore_index=True)).set_index("figure")
    assert found.loc["T_slo", "difference_s"] == pytest.approx(-10.0)
    assert found.loc["T_slo", "high_s"] < 0
    assert found.loc["seconds over L", "low_s"] < 0 < found.loc["seconds over L", "high_s"]
    assert found["blocks"].tolist() == [3, 3]
    assert benefit_of_room(rows).empty
