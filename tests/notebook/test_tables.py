"""Which runs the notebooks look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from mlscale.notebook import tables
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


def test_the_median_run_is_one_of_the_runs(tmp_path: Path) -> None:
    runs = [_run(tmp_path / str(number), "torchserve") for number in range(4)]
    rows = pd.DataFrame({"mean_response_s": [0.4, 0.1, 0.3, 0.2]})
    assert tables.median_run(runs, rows) == (runs[3], "the median of 4 by mean response")
    assert tables.median_run(runs[:3], rows[:3])[0] is runs[2]
    assert tables.median_run(runs[:1], rows[:1]) == (runs[0], "")
