"""The table by objective: values as measured, winners by interval alone, and only among what was measured."""

from __future__ import annotations

import pandas as pd
import pytest

from experiment_runs import LEVEL_S
from mlscale.analysis.objectives import NO_WINNER, by_objective, shown_objectives
from mlscale.analysis.summary import summarise
from mlscale.runs import Run

COLUMNS = ("torchserve", "rayserve", "eks", "ecs")


@pytest.fixture(scope="module")
def rows(experiment: list[Run]) -> pd.DataFrame:
    measured = summarise(experiment, LEVEL_S)
    return measured.assign(idle_cores=measured["environment"].map({"torchserve": 0.02, "rayserve": 0.2}))


def winners(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["objective"], table["winner"], strict=True))


def test_values_are_means_over_runs_and_the_better_one_wins(rows: pd.DataFrame) -> None:
    table = by_objective(rows, {}, COLUMNS)
    mine = table[(table["objective"] == "mean response") & (table["environment"] == "torchserve")].iloc[0]
    own = rows[(rows["environment"] == "torchserve") & (rows["aa_label"].fillna("A") == "A")]
    assert mine["value"] == pytest.approx(1000 * own["mean_response_s"].mean())
    assert (mine["runs"], mine["known"], mine["among"]) == (6, "measured", "torchserve, rayserve")
    found = winners(table)
    for objective in ("mean response", "T_slo", "seconds over L", "CPU per right answer"):
        assert found[objective] == "torchserve", objective
    assert found["cores at rest"] == NO_WINNER, "without any spread there is no interval"


def test_where_nothing_differs_nobody_wins(rows: pd.DataFrame) -> None:
    same = rows[rows["environment"] == "torchserve"]
    other = same.assign(environment="rayserve", run_id=same["run_id"] + "-again")
    for column in ("mean_response_s", "sd_response_s", "cpu_per_answer_s"):
        other[column] = same[column] * [1.02 if block % 2 else 0.98 for block in same["block"]]
    assert set(winners(by_objective(pd.concat([same, other]), {}, COLUMNS)).values()) == {NO_WINNER}


def test_what_was_not_measured_stands_beside_and_never_wins(rows: pd.DataFrame) -> None:
    better = rows.assign(environment="eks", mode="rehearsal", mean_response_s=0.001, horizon_s=176.0)
    simulated = rows.assign(environment="ecs", mode="simulated", idle_cores=float("nan"))
    table = by_objective(rows, {"rehearsed": better, "simulated": simulated}, COLUMNS)
    assert winners(table)["mean response"] == "torchserve"
    first = table[table["objective"] == "mean response"].set_index("environment")
    assert first["known"].to_dict() == {
        "torchserve": "measured",
        "rayserve": "measured",
        "eks": "rehearsed",
        "ecs": "simulated",
    }
    assert first.loc["eks", "horizon_s"] == 176.0
    shown = shown_objectives(table)
    assert list(shown.columns) == [*COLUMNS, "winner", "among"]
    assert shown.loc["mean response", "eks"] == "1 ms, rehearsed"
    assert shown.loc["cores at rest", "ecs"] == "not known"
    assert by_objective(rows, {}, COLUMNS).query("environment == 'eks'")["known"].eq("not known").all()


def test_many_invalid_runs_are_no_competition(rows: pd.DataFrame) -> None:
    bad = rows.assign(valid=(rows["environment"] != "rayserve") | (rows["block"] > 3))
    table = by_objective(bad, {}, COLUMNS)
    assert set(table["winner"]) == {NO_WINNER}
    assert "measured, not comparable" in shown_objectives(table).loc["mean response", "rayserve"]


def test_who_fails_more_does_not_win(rows: pd.DataFrame) -> None:
    failing = rows.assign(failure_share=[0.02 * (name == "torchserve") for name in rows["environment"]])
    assert winners(by_objective(failing, {}, COLUMNS))["mean response"] == NO_WINNER


def test_a_quicker_recovery_has_to_hold_for_every_window(rows: pd.DataFrame) -> None:
    other = rows.assign(t_slo_confirmed_w30_s=[9.0 if name == "rayserve" else 20.0 for name in rows["environment"]])
    assert winners(by_objective(other, {}, COLUMNS))["T_slo"] == NO_WINNER
