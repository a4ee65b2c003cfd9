"""What can be compared is said before any table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mlscale.analysis.comparability import comparability_sentences
from mlscale.analysis.summary import summarise
from synthetic_runs import Shape, make_experiment, make_run

SHORT = Shape(horizon_s=20.0)


def sentences(tmp_path: Path, *changes: dict[str, Any]) -> list[str]:
    runs = [
        make_run(tmp_path / str(number), seed=number, shape=SHORT, block=None, **one)
        for number, one in enumerate(changes)
    ]
    return comparability_sentences(summarise(runs, 0.5))


def test_two_folders_of_own_runs_stand_side_by_side(tmp_path: Path) -> None:
    mine = {"app": "mine:make", "entries": {"app": "mine:make"}}
    said = sentences(tmp_path, {"environment": "torchserve", **mine}, {"environment": "rayserve", **mine})
    assert said[0].startswith("torchserve (1 run), rayserve (1 run) can be compared: side by side, without an interval")
    assert said[1].startswith("Mean response: torchserve / rayserve = ")
    assert said[1].endswith("in these runs (1 and 1); how much of it is chance is not known.")


def test_different_models_are_not_pooled(tmp_path: Path) -> None:
    """Nor are two that the user gave the same name: the entry counts."""
    for one, other in (("mine", "other"), ("mine", "mine")):
        said = sentences(
            tmp_path / other,
            {"environment": "torchserve", "app": one, "entries": {"app": "one:make"}},
            {"environment": "torchserve", "app": other, "entries": {"app": "two:make"}},
        )
        assert said[0].startswith("Not compared with one another are runs that differ in the application: ")
        assert "one:make" in said[0]
        assert "two:make" in said[0]
        assert sum("all runs are of one environment: torchserve (1 run)" in sentence for sentence in said) == 2


def test_runs_without_quotas_are_a_kind_of_their_own(tmp_path: Path) -> None:
    without = {"facts": {"sandbox": {"limited": False}}}
    said = sentences(tmp_path, {"environment": "torchserve", **without}, {"environment": "rayserve"})
    assert said[0] == "Not compared with one another are runs that differ in the CPU quota: none; in force."
    assert not any("can be compared" in sentence for sentence in said)
    said = sentences(tmp_path / "2", *({"environment": name, **without} for name in ("torchserve", "rayserve")))
    assert "can be compared" in said[0]


def test_runs_on_a_cluster_are_not_compared_with_sandboxes_without_quotas(tmp_path: Path) -> None:
    without = {"facts": {"sandbox": {"limited": False}}}
    there = {"scaling": {"app": {"address": "http://head:8265"}}}
    said = sentences(
        tmp_path, {"environment": "torchserve", **without}, {"environment": "rayserve", **without, **there}
    )
    expected = "the CPU quota: none; none, on http://head:8265."
    assert said[0] == f"Not compared with one another are runs that differ in {expected}"
    assert not any("can be compared" in sentence for sentence in said)


def test_different_loads_are_named_outside_blocks(tmp_path: Path) -> None:
    """As where each run of a user's own model had a load fitted to it anew."""
    runs = [
        make_run(tmp_path / name, shape=replace(SHORT, think_s=think_s), block=None, environment=name)
        for name, think_s in (("torchserve", 2.0), ("rayserve", 1.5))
    ]
    (said, *_) = comparability_sentences(summarise(runs, 0.5))
    assert "different loads (2, then 12 clients, think time 2 s; 2, then 12 clients, think time 1.5 s)" in said


def test_the_cell_that_is_there_is_named(tmp_path: Path) -> None:
    runs = make_experiment(tmp_path, {"torchserve": SHORT, "rayserve": SHORT}, blocks=6)
    (sentence,) = comparability_sentences(summarise(runs, 0.5).assign(cell="mine"))
    assert sentence.endswith(
        "6 blocks, with intervals but without p-values, which are given in cell core alone, not in mine."
    )


def test_simulated_runs_other_files_and_blocks_are_named(tmp_path: Path) -> None:
    said = sentences(tmp_path / "a", {"environment": "torchserve"}, {"environment": "k3s", "mode": "simulated"})
    assert any("no ratio is given" in sentence and "simulated" in sentence for sentence in said)
    said = sentences(
        tmp_path / "b",
        {"environment": "torchserve", "bodies": {"sha256": "a" * 64}},
        {"environment": "k3s", "bodies": {"sha256": "b" * 64}},
    )
    assert any("careful, the runs were sent different files" in sentence for sentence in said)
    runs = make_experiment(tmp_path / "c", {"torchserve": SHORT, "rayserve": SHORT}, blocks=6)
    (sentence,) = comparability_sentences(summarise(runs, 0.5))
    assert sentence.endswith("6 blocks, with p-values in cell core.")
    rows = summarise(runs, 0.5)
    bad = rows.assign(valid=(rows["environment"] != "rayserve") | (rows["block"] > 2))
    (sentence,) = comparability_sentences(bad)
    assert "nothing can be compared. No claim may rest on rayserve: over 20% of the runs are invalid" in sentence
