"""Which runs the notebooks look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlscale import environments
from mlscale.analysis.summary import summarise
from mlscale.notebook import tables
from mlscale.plots.captions import caption
from mlscale.runs import Run, Validity
from synthetic_runs import Shape, make_run


def _run(folder: Path, environment: str, *, valid: bool = True) -> Run:
    run = make_run(folder, shape=Shape(baseline_s=5.0, horizon_s=10.0), environment=environment)
    found = Validity(valid=valid, host_bound=not valid, pre_scaled=False, reasons=() if valid else ("host-bound",))
    return replace(run, info=run.info.model_copy(update={"validity": found}))


def test_invalid_runs_stay_where_an_environment_has_no_others(tmp_path: Path) -> None:
    good, lost = _run(tmp_path / "1", "torchserve"), _run(tmp_path / "2", "torchserve", valid=False)
    alone = _run(tmp_path / "3", "rayserve", valid=False)
    assert tables.valid([good, lost, alone]) == [good, alone]


def _alone(folder: Path, *, valid: bool = True) -> Run:
    """A run that belongs to no experiment."""
    run = _run(folder, "torchserve", valid=valid)
    none = {"cell": None, "block": None, "position": None, "predecessor": None, "aa_label": None}
    return replace(run, info=run.info.model_copy(update=none))


def test_columns_without_a_value_are_left_out(tmp_path: Path) -> None:
    runs = [_alone(tmp_path / "1"), _alone(tmp_path / "2", valid=False)]
    table = tables.shown_runs(runs, way=["whole", "split"])
    assert {"environment", "way", "requests", "why not"} <= set(table.columns)
    assert "block" not in table, "these runs are in no experiment"
    assert table["why not"].tolist() == ["", "host-bound"]
    results = tables.shown_results(summarise(runs, 1.0))
    assert "block" not in results
    assert results["mean_response_s"].notna().all()


def test_runs_and_settings_render_as_themselves(tmp_path: Path) -> None:
    run = _alone(tmp_path / "1", valid=False)
    text = run._repr_html_()
    assert "no claim may rest on it: host-bound" in text
    assert str(run.path) in text
    assert f"{len(run.requests)}, " in text
    assert "None" not in text
    scaling = environments.get("k3s").arm("matched")
    assert "target_in_flight" in scaling._repr_html_()
    assert "1.0 (target of requests in flight per pod)" in scaling._repr_html_()


def test_the_caption_of_one_run_says_what_matters_to_it(tmp_path: Path) -> None:
    good, lost = _alone(tmp_path / "1"), _alone(tmp_path / "2", valid=False)
    assert "One run: how much another would differ is unknown" in caption([good])
    assert "Invalid, so no claim may rest on it: host-bound" in caption([lost], with_invalid=True)
    assert "2 runs, 1 invalid (shown)" in caption([good, lost], with_invalid=True)
    for text in (caption([good]), caption([good, lost])):
        assert "block" not in text
        assert "Cell" not in text
