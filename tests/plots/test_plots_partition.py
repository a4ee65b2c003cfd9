"""The figures of notebook 08, and the plan of its runs."""

from __future__ import annotations

import pandas as pd
import pytest

from mlscale import environments
from mlscale.experiment import splits
from mlscale.experiment.applications import code_reader
from mlscale.experiment.parameters import PartitionParameters
from mlscale.experiment.settings import settings_of
from mlscale.plots import plotted
from mlscale.plots.partition import expected, measured, time_parts


def test_what_is_expected_is_drawn_for_each_way() -> None:
    numbers = plotted(expected((0.06, 0.09), (2, 2)))
    assert set(numbers["way"]) == {"whole", "overlapping", "blocking"}
    at_rest = numbers[numbers["rate_rps"] == numbers["rate_rps"].min()]
    assert at_rest["response_s"].to_numpy() == pytest.approx(0.15, rel=0.05)
    assert numbers.groupby("way")["rate_rps"].max()["blocking"] < numbers.groupby("way")["rate_rps"].max()["whole"]


def test_runs_are_points_and_parts_are_stacked() -> None:
    rows = [
        {"environment": name, "way": way, "stage": stage, "mean_response_s": 0.1, "answers_rps": 9.0}
        for name in ("torchserve", "rayserve")
        for way in splits.WAYS[:2]
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
    planned = splits._planned(p)
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
    light, heavy = splits.default_schedule().stages
    assert light.clients < heavy.clients
    assert splits.default_schedule().duration_s - heavy.start_s > 2 * splits.SETTLING_S
