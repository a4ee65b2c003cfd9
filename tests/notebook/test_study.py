"""Runs that change one thing, beside the others of a notebook about one environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlscale.notebook import study as study_module
from mlscale.notebook.parameters import KubernetesParameters
from mlscale.notebook.study import Study
from mlscale.plots.style import plotted
from mlscale.runs import Run
from synthetic_runs import Shape, make_run

SETTINGS = {"cpu_cores": 0.3, "cpu_period_s": 0.1, "max_replicas": 4, "readiness_period_s": 1}


def _run(folder: Path, components: tuple[str, ...], settings: dict[str, Any], **changes: Any) -> Run:
    scaling = dict.fromkeys(components, SETTINGS | settings)
    shape = Shape(baseline_s=10.0, horizon_s=30.0)
    return make_run(folder, shape=shape, environment="k3s", scaling=scaling, **changes)


@pytest.mark.parametrize("components", [("app",), ("localiser", "readers")])
def test_each_run_that_changes_one_thing_is_drawn_beside_the_others(
    components: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = [_run(tmp_path / f"usual-{number}", components, {}, seed=number) for number in range(2)]
    probe = _run(tmp_path / "probe", components, {"readiness_period_s": 10})
    kept = _run(tmp_path / "kept", components, {}, connections="kept")
    short = _run(tmp_path / "short", components, {"cpu_period_s": 0.01})
    study = Study("04_k3s", "k3s", {"run_dirs": [run.path for run in usual], "level_s": 0.6}, KubernetesParameters)
    drawn: dict[str, tuple[Any, list[str]]] = {}
    monkeypatch.setattr(
        study, "show", lambda name, axes, runs: drawn.update({name: (axes, [run.info.run_id for run in runs])})
    )
    remarks: list[str] = []
    monkeypatch.setattr(study_module, "remark", remarks.append)

    more = [kept, probe, short]
    typical, _ = study.typical()
    assert [run.info.run_id for run in study.probed(more)] == [typical.info.run_id, probe.info.run_id]
    study.sharing(more)
    study.quota_period(more)
    ids = [run.info.run_id for run in usual]
    assert {name: runs for name, (_, runs) in drawn.items()} == {
        "sharing": [*ids, kept.info.run_id],
        "period": [*ids, short.info.run_id],
    }
    assert set(plotted(drawn["sharing"][0])["connections"]) == {"fresh", "kept"}
    assert set(plotted(drawn["period"][0])["period_ms"]) == {100.0, 10.0}
    assert remarks == []

    study.sharing([short])
    study.quota_period([kept])
    assert study.probed([kept]) == [typical]
    assert [text.partition(":")[0] for text in remarks] == [
        "No run with kept connections",
        "No run with another quota period",
    ]


def test_the_typical_run_is_the_median_one(tmp_path: Path) -> None:
    runs = [_run(tmp_path / str(number), ("app",), {}, seed=number) for number in range(4)]
    study = Study("04_k3s", "k3s", {"run_dirs": [run.path for run in runs], "level_s": 0.6}, KubernetesParameters)
    study.rows = study.rows.assign(mean_response_s=[0.4, 0.1, 0.3, 0.2])
    run, words = study.typical()
    assert (run.info.run_id, words) == (runs[3].info.run_id, "the median of 4 by mean response")
    study.good, study.rows = study.good[:1], study.rows[:1]
    assert study.typical() == (study.good[0], "")
