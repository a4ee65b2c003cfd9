"""The figures of notebook 08, and the plan of its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlscale import environments
from mlscale.analysis.summary import summarise
from mlscale.measurement.settings import settings_of
from mlscale.notebook.parameters import PartitionParameters
from mlscale.plots.style import plotted
from mlscale.runs import Run, Validity
from mlscale_paper import partition_runs, places
from mlscale_paper.applications import code_reader
from mlscale_paper.partition_theory import expectations
from mlscale_paper.plots.partition import compared, expected, measured, time_parts
from synthetic_runs import Shape, make_run


def test_what_is_expected_is_drawn_for_each_way() -> None:
    numbers = plotted(expected((0.06, 0.09), (2, 2)))
    assert set(numbers["way"]) == {"whole", "overlapping", "blocking"}
    at_rest = numbers[numbers["rate_rps"] == numbers["rate_rps"].min()]
    assert at_rest["response_s"].to_numpy() == pytest.approx(0.15, rel=0.05)
    assert numbers.groupby("way")["rate_rps"].max()["blocking"] < numbers.groupby("way")["rate_rps"].max()["whole"]


def test_the_whole_application_does_once_what_both_components_do() -> None:
    services_s, whole_s = (0.06, 0.09), 0.14
    table = expectations(services_s, 4, light_rps=0.01, whole_s=whole_s)
    whole = table[table["way"] == "whole"].iloc[0]
    assert whole["capacity_rps"] == pytest.approx(4 / whole_s)
    assert whole["response_s"] == pytest.approx(whole_s, rel=1e-3)
    parts = table[table["way"] != "whole"]
    pd.testing.assert_frame_equal(
        parts, expectations(services_s, 4, light_rps=0.01)[lambda rows: rows["way"] != "whole"]
    )
    assert parts["response_s"].min() > whole["response_s"]
    numbers = plotted(expected(services_s, (2, 2), whole_s=whole_s))
    least_s = numbers.groupby("way")["response_s"].min()
    assert least_s["whole"] == pytest.approx(whole_s, rel=1e-2)
    assert least_s["overlapping"] > 1.05 * least_s["whole"]


def test_runs_are_points_and_parts_are_stacked() -> None:
    rows = [
        {"environment": name, "way": way, "stage": stage, "mean_response_s": 0.1, "answers_rps": 9.0}
        for name in ("torchserve", "rayserve")
        for way in partition_runs.WAYS[:2]
        for stage in ("light", "heavy")
    ]
    axes = measured(pd.DataFrame(rows))
    assert [ax.get_title(loc="left") for ax in axes.ravel()] == ["light load", "heavy load", "heavy load"]
    assert len(plotted(axes.ravel()[2])) == 4
    parts = pd.DataFrame(rows).assign(**{"localiser works": 0.05, "rest": 0.01})
    drawn = time_parts(parts)
    assert len(drawn.ravel()) == 2
    assert plotted(drawn.ravel()[0])["localiser works"].tolist() == [0.05] * 4


def test_every_way_of_an_environment_comes_before_any_comes_again_and_all_have_the_same_total() -> None:
    p = PartitionParameters(repeats=2)
    planned = partition_runs._planned(p)
    assert [(name, way) for _, name, way, _ in planned[:5]] == [
        ("torchserve", "whole"),
        ("torchserve", "split"),
        ("rayserve", "whole"),
        ("rayserve", "split"),
        ("rayserve", "split, overlapping"),
    ]
    assert planned[5:] == [(1, *rest) for _, *rest in planned[:5]]
    for _, name, way, settings in planned:
        scalings = settings_of(environments.get(name), code_reader(partitioned=way != "whole"), p.arm, settings)
        assert sum(one.max_replicas * one.cpu_cores for one in scalings.values()) == pytest.approx(1.2)
        assert all(one.min_replicas == one.max_replicas for one in scalings.values())


def test_the_light_load_is_light_and_the_heavy_one_heavy() -> None:
    light, heavy = partition_runs.default_schedule().stages
    assert light.clients < heavy.clients
    assert partition_runs.default_schedule().duration_s - heavy.start_s > 2 * partition_runs.SETTLING_S


def _blocks(folder: Path, slower: float) -> list[Run]:
    """The cell ``partition`` on TorchServe, three blocks; the partitioned runs' work is ``slower`` times as long."""
    found = []
    for block in (1, 2, 3):
        for way, factor in (("whole", 1.0), ("partitioned", slower)):
            shape = Shape(baseline_s=20.0, horizon_s=40.0, service_s=0.1 * factor * (1 + 0.05 * block))
            labels: dict[str, Any] = {"cell": f"partition/{way}", "block": block}
            found.append(make_run(folder / f"{block}-{way}", seed=block, shape=shape, **labels))
    return found


def test_ways_are_compared_within_blocks(tmp_path: Path) -> None:
    runs = _blocks(tmp_path, slower=1.3)
    other = make_run(tmp_path / "core", cell="core")
    table = partition_runs.compared_ways([*runs, other])
    assert table["label"].tolist() == ["mean response", "sd of response", "CPU per answer"]
    mean = table.iloc[0]
    rows = summarise(runs, None)
    whole, partitioned = (rows[rows["cell"] == f"partition/{way}"] for way in ("whole", "partitioned"))
    ratios = partitioned["mean_response_s"].to_numpy() / whole["mean_response_s"].to_numpy()
    assert mean["by_block"] == pytest.approx(tuple(ratios))
    assert mean["ratio"] == pytest.approx(np.exp(np.log(ratios).mean()))
    half = 4.303 * np.log(ratios).std(ddof=1) / np.sqrt(3)  # t quantile, 2 degrees of freedom
    assert mean["high"] == pytest.approx(mean["ratio"] * np.exp(half), rel=1e-3)
    axes = compared(table)
    assert plotted(axes)["ratio"].tolist() == pytest.approx(table["ratio"].tolist())
    assert f"{mean['ratio']:.2f}" in axes[0, 0].figure.get_suptitle()
    left, right = axes[0, 0].get_xlim()
    assert left < min(table["low"].min(), 1.0)
    assert right > table["high"].max()
    assert len(partition_runs.shown_comparison(table)) == 3


def test_ways_with_too_many_invalid_runs_are_not_compared(tmp_path: Path) -> None:
    runs = _blocks(tmp_path / "good", slower=1.0)[:5]
    labels: dict[str, Any] = {"cell": "partition/partitioned", "block": 3, "validity": Validity(valid=False)}
    bad = make_run(tmp_path / "bad", shape=Shape(baseline_s=20.0, horizon_s=40.0), **labels)
    axes = compared(partition_runs.compared_ways([*runs, bad]))
    assert plotted(axes)["ratio"].isna().all()
    assert "1 of 3 runs" in axes[0, 0].texts[0].get_text().replace("\n", " ")
    assert axes[0, 0].figure.get_suptitle().endswith("not comparable")


def test_runs_outside_the_cell_have_no_ratio(tmp_path: Path) -> None:
    assert partition_runs.compared_ways([make_run(tmp_path / "r")]).empty
    assert partition_runs.compared_ways([make_run(tmp_path / "whole", cell="partition/whole")]).empty


def test_published_runs_are_drawn_where_no_others_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = _blocks(tmp_path / "reference" / "partition", slower=1.0)
    monkeypatch.setattr(places, "reference", lambda: tmp_path / "reference")
    found = partition_runs.runs_of_splits(PartitionParameters())
    assert {run.info.run_id for run in found} == {run.info.run_id for run in runs}
    one = partition_runs.runs_of_splits(PartitionParameters(run_dirs=(runs[0].path,)))
    assert [run.info.run_id for run in one] == [runs[0].info.run_id]
