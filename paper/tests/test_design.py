"""Blocks, orders, labels: counted, not believed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop, Staircase
from mlscale_experiment.attempts import State
from mlscale_experiment.execute import estimate_s
from mlscale_experiment.plan import SENSITIVITY, baseline_s, orders, williams
from mlscale_experiment.protocol import Bodies, Protocol, read_protocol
from mlscale_paper import places
from mlscale_paper.design import HOLDOUT_BLOCKS, REHEARSAL_BLOCKS, plan
from mlscale_paper.protocol import current_protocol, default_protocol
from mlscale_paper.variants import CONTAINER, HOLDOUT, LEVELS, NO_MACHINES, PARTITION, REHEARSAL

TWO = ["torchserve", "rayserve"]
THREE = [*TWO, "k3s"]


@pytest.fixture
def protocol() -> Protocol:
    frozen = {"matched": {"torchserve": {"target_ongoing": 1.5}}}
    return Protocol.model_validate({**default_protocol(Bodies(folder="photos", count=3)).model_dump(), **frozen})


@pytest.mark.parametrize("treatments", range(1, 10))
def test_a_williams_square_is_balanced_in_places_and_neighbours(treatments: int) -> None:
    square = williams(treatments)
    assert all(sorted(row) == list(range(treatments)) for row in square)
    for place in range(treatments):
        assert len(set(Counter(row[place] for row in square).values())) == 1
    neighbours = Counter(pair for row in square for pair in pairwise(row))
    assert len(neighbours) == treatments * (treatments - 1), "every ordered pair"
    assert len(set(neighbours.values())) <= 1, "equally often"


@pytest.mark.parametrize(("treatments", "rows"), [(2, 2), (3, 6), (4, 4), (5, 10)])
def test_a_whole_chunk_of_orders_is_a_williams_square(treatments: int, rows: int) -> None:
    drawn = orders(treatments, rows, [7])
    neighbours = Counter(pair for row in drawn for pair in pairwise(row))
    assert len(neighbours) == treatments * (treatments - 1)
    assert len(set(neighbours.values())) == 1


def test_more_blocks_change_nothing_in_front() -> None:
    assert orders(3, 14, [7])[:8] == orders(3, 8, [7])
    assert orders(3, 8, [7]) != orders(3, 8, [8])


def test_the_plan_is_the_same_for_the_same_seed_and_another_for_another(protocol: Protocol) -> None:
    first = plan(TWO, ["core"], 8, protocol, seed=1)
    assert first == plan(TWO, ["core"], 8, protocol, seed=1)
    assert [run.environment for run in first] != [run.environment for run in plan(TWO, ["core"], 8, protocol, seed=2)]
    assert plan(TWO, ["core"], 12, protocol, seed=1)[: len(first)] == first


@pytest.mark.parametrize("environments", [TWO, THREE])
def test_each_block_runs_every_environment_and_one_of_them_twice(protocol: Protocol, environments: list[str]) -> None:
    planned = plan(environments, ["core"], 12, protocol, seed=3)
    doubled = []
    for block in range(1, 13):
        runs = [run for run in planned if run.block == block]
        assert [run.position for run in runs] == list(range(1, len(environments) + 2))
        twice = [run for run in runs if run.aa_label is not None]
        assert sorted(str(run.aa_label) for run in twice) == ["A", "B"]
        assert len({run.environment for run in twice}) == 1
        assert sorted(run.environment for run in runs if run.aa_label != "B") == sorted(environments)
        doubled.append(twice[0].environment)
    assert set(Counter(doubled).values()) == {12 // len(environments)}, "A/A goes round"


def test_every_place_names_what_ran_before_it(protocol: Protocol) -> None:
    for before, run in pairwise(plan(THREE, ["core"], 4, protocol)):
        assert run.predecessor == (before.environment if run.block == before.block else None)


def test_folders_are_distinct_and_tell_where_a_run_stands(protocol: Protocol) -> None:
    planned = plan(TWO, ["core", "open", "sensitivity"], 6, protocol)
    folders = [run.folder for run in planned]
    assert len(set(folders)) == len(folders)
    assert planned[0].folder.startswith("core/block-01/1-")
    fitting = {v.name for v in SENSITIVITY if not v.environments or set(v.environments) & set(TWO)}
    assert {run.folder.split("/")[1] for run in planned if run.cell == "sensitivity"} == fitting


def test_the_baseline_is_drawn_once_per_block_and_lies_in_its_range(protocol: Protocol) -> None:
    planned = plan(TWO, ["core", "open"], 40, protocol, seed=5)
    steps: dict[int, set[float]] = {}
    for run in planned:
        steps.setdefault(run.block, set()).add(run.schedule.boundaries_s[1])
    assert all(len(found) == 1 for found in steps.values()), "the same for every run of a block"
    drawn = [next(iter(found)) for found in steps.values()]
    assert all(45 <= value <= 60 for value in drawn)
    assert len(set(drawn)) == 40
    assert 50 < sum(drawn) / 40 < 55
    assert baseline_s(protocol, 5, 1) != baseline_s(protocol, 6, 1)


def test_the_open_cell_is_the_open_loop_twin(protocol: Protocol) -> None:
    closed, opened = (plan(TWO, [cell], 1, protocol)[0].schedule for cell in ("core", "open"))
    assert isinstance(closed, ClosedLoop)
    assert isinstance(opened, OpenLoop)
    assert closed.duration_s == opened.duration_s
    assert closed.boundaries_s == opened.boundaries_s
    assert isinstance(opened.rate, Staircase)
    assert [step.rate_rps for step in opened.rate.steps] == [protocol.open_baseline_rps, protocol.open_step_rps]


def test_container_is_of_those_that_scale_containers(protocol: Protocol) -> None:
    planned = plan([*TWO, "k3s"], ["container", "core"], 2, protocol)
    extra = [run for run in planned if run.cell == "container"]
    assert [(run.environment, run.variant) for run in extra] == [("k3s", variant.name) for variant in CONTAINER] * 3
    assert {(run.aa_label, run.predecessor) for run in extra} == {(None, None)}
    assert [run.block for run in extra] == [block for block in (1, 2, 3) for _ in CONTAINER]
    assert [run for run in planned if run.cell == "core"] == plan([*TWO, "k3s"], ["core"], 2, protocol)
    assert all(run.cell == "core" for run in plan(TWO, ["container", "core"], 2, protocol))
    with pytest.raises(MlscaleError, match="none of them scales containers"):
        plan(TWO, ["container"], 2, protocol)


def test_the_rehearsal_has_a_cell_of_its_own_and_no_part_in_the_others(protocol: Protocol) -> None:
    planned = plan(["k3s", "torchserve", "eks"], ["core"], 4, protocol)
    assert [run for run in planned if run.cell == "core"] == plan(["k3s", "torchserve"], ["core"], 4, protocol)
    own = [run for run in planned if run.cell == "rehearsal"]
    variants = {boot.variant.name for boot in (*REHEARSAL, NO_MACHINES)}
    for block in range(1, REHEARSAL_BLOCKS + 1):
        inside = [run for run in own if run.block == block]
        assert {run.variant for run in inside} == variants, "every variant once in a block"
        assert [run.position for run in inside] == list(range(1, len(variants) + 1))
        assert len({run.schedule.boundaries_s[1] for run in inside}) == 1, "with the same baseline"
    assert {run.environment for run in own if run.variant == NO_MACHINES.variant.name} == {"k3s"}
    assert {run.environment for run in own if run.variant != NO_MACHINES.variant.name} == {"eks"}
    without = plan(["eks"], ["core"], 4, protocol)
    assert {run.variant for run in without} == variants - {NO_MACHINES.variant.name}
    with pytest.raises(MlscaleError, match="none of them is rehearsed"):
        plan(TWO, ["rehearsal"], 2, protocol)


def test_a_step_is_watched_longer_where_machines_boot_longer(protocol: Protocol) -> None:
    planned = {run.variant: run for run in plan(["k3s", "eks"], ["core"], 1, protocol) if run.block == 1}
    for boot in REHEARSAL:
        schedule = planned[boot.variant.name].schedule
        end_s = schedule.boundaries_s[2] if boot.down else schedule.duration_s
        watched_s = end_s - schedule.boundaries_s[1]
        assert watched_s == pytest.approx(150 + boot.at_most_s)
        assert len(schedule.stages) == (3 if boot.down else 2)  # type: ignore[union-attr]
        assert planned[boot.variant.name].scaling.items() >= boot.variant.scaling.items()


def test_a_quick_rehearsal_is_one_run(protocol: Protocol) -> None:
    (run,) = [run for run in plan(["k3s", "eks"], ["core"], 1, protocol, quick=True) if run.environment == "eks"]
    assert (run.cell, run.variant, run.schedule) == ("rehearsal", "boot-10s", protocol.quick_schedule())


def test_the_hold_out_has_three_schedules_and_balanced_levels() -> None:
    protocol = current_protocol()
    held = plan([*THREE, "eks"], ["holdout"], 1, protocol)
    schedules = Counter((run.environment, run.variant) for run in held)
    assert schedules == {
        (name, f"{shape}-x{level:g}"): LEVELS.count(level)
        for name in [*THREE, "eks"]
        for shape in ("step", "ramp", "burst")
        for level in LEVELS
    }
    for block in range(1, HOLDOUT_BLOCKS + 1):
        levels = [run.variant for run in held if run.block == block and run.environment == "k3s"]
        assert len({variant.rpartition("-")[2] for variant in levels}) > 1, "levels are not confounded with blocks"
    assert not {run.schedule for run in plan(THREE, ["core"], 8, protocol)} & {run.schedule for run in held}


def test_a_ramp_rises_evenly_and_a_burst_goes_back() -> None:
    protocol = current_protocol()
    held = {run.variant: run.schedule for run in plan(["k3s"], ["holdout"], 1, protocol)}
    ramp, burst = held["ramp-x1"], held["burst-x1.2"]
    assert isinstance(ramp, OpenLoop)
    assert isinstance(ramp.rate, Staircase)
    rises = np.diff([step.rate_rps for step in ramp.rate.steps])
    assert rises == pytest.approx(rises.mean(), abs=0.002)
    assert ramp.rate.steps[-1].rate_rps == pytest.approx(next(each for each in HOLDOUT if each.open_loop).peak["k3s"])
    assert isinstance(burst, ClosedLoop)
    low, high, after = (stage.clients for stage in burst.stages)
    assert low < after < high


def test_the_hold_out_fits_into_150_minutes() -> None:
    """With one run in ten repeated, on the published runs' host, whose start-up times the protocol has."""
    protocol = read_protocol(places.reference_protocol_file())
    assert protocol is not None
    planned = plan(THREE, ["holdout"], 1, protocol)
    states = [State(run, (), (), 3) for run in planned]
    assert 1.1 * estimate_s(states, protocol) < 150 * 60


def test_some_environments_of_the_hold_out_are_a_part_of_the_same_plan(protocol: Protocol) -> None:
    whole = {run.folder for run in plan([*THREE, "eks"], ["holdout"], 1, protocol) if run.cell == "holdout"}
    parts = [plan(names, ["holdout"], 1, protocol) for names in (["k3s"], ["rayserve"], ["eks", "torchserve"])]
    assert {run.folder for part in parts for run in part if run.cell == "holdout"} == whole


def test_sensitivity_changes_one_factor_at_a_time(protocol: Protocol) -> None:
    planned = plan(THREE, ["sensitivity"], 8, protocol)
    each = sum(len(variant.environments) or len(THREE) for variant in SENSITIVITY)
    assert len(planned) == each * 4
    assert all(run.aa_label is None for run in planned)
    assert {run.environment for run in planned if run.variant == "sync-15s"} == {"k3s"}
    assert {run.environment for run in planned if run.variant == "default-backoff"} == {"rayserve"}
    for run in planned:
        factors = [
            run.arm != "matched",
            run.connections != "fresh",
            "cpu_period_s" in run.scaling,
            "sync_period_s" in run.scaling,
            "readiness_period_s" in run.scaling,
            "backoff_multiplier" in run.scaling,
        ]
        assert sum(factors) == (run.variant != "reference"), run.variant
    blocks = [run.block for run in planned]
    assert blocks == sorted(blocks), "every factor and the reference take turns"


def test_matched_settings_are_those_that_the_protocol_froze(protocol: Protocol) -> None:
    for run in plan(TWO, ["core", "shipped"], 1, protocol):
        frozen = (run.environment, run.arm) == ("torchserve", "matched")
        assert run.scaling.get("target_ongoing") == (1.5 if frozen else None)


def test_every_arm_and_cell_has_the_protocols_replicas_and_quota(protocol: Protocol) -> None:
    small = protocol.model_copy(update={"replicas": 3, "cpu_cores": 0.25})
    planned = plan([*THREE, "eks"], ["core", "shipped", "open", "sensitivity", "partition"], 1, small)
    assert {run.scaling["max_replicas"] for run in planned} == {3}
    assert {run.scaling["cpu_cores"] for run in planned} == {0.25}


def test_shipped_is_the_defaults_in_six_blocks(protocol: Protocol) -> None:
    planned = plan(THREE, ["shipped"], 8, protocol)
    assert len(planned) == 6 * 3
    assert {run.arm for run in planned} == {"shipped"}
    assert {run.aa_label for run in planned} == {None}


def test_partition_runs_the_application_whole_and_in_components_at_the_same_total(protocol: Protocol) -> None:
    planned = plan(THREE, ["partition"], 8, protocol)
    assert len(planned) == len(PARTITION) * 3 * 3
    for run in planned:
        assert run.partitioned == (run.variant == "partitioned")
        assert run.scaling.get("min_replicas") == (None if run.partitioned else 2), "one of each component"


def test_quick_is_one_block_of_a_minute_without_aa(protocol: Protocol) -> None:
    planned = plan(TWO, ["core"], 8, protocol, quick=True)
    assert sorted(run.environment for run in planned) == sorted(TWO)
    assert {run.aa_label for run in planned} == {None}
    assert {run.schedule.duration_s for run in planned} == {60.0}


@pytest.mark.parametrize(
    ("environments", "cells", "blocks", "named"),
    [
        ([], ["core"], 8, "no environment"),
        (["torchserve", "torchserve"], ["core"], 8, "torchserve: named twice"),
        (TWO, ["cor"], 8, "unknown cell cor"),
        (TWO, [], 8, "none named"),
        (TWO, ["core"], 0, "0 blocks"),
    ],
)
def test_what_makes_no_plan_is_one_line(
    protocol: Protocol, environments: list[str], cells: list[str], blocks: int, named: str
) -> None:
    with pytest.raises(MlscaleError, match=named):
        plan(environments, cells, blocks, protocol)
