"""What slowed the starts of Ray Serve's replicas in the published runs, said where their results are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mlscale.analysis.summary import summarise
from mlscale.runs import load_run
from mlscale_paper import places, ray_start
from mlscale_paper.ray_start import MEASURES, Correction, corrected, documents, published, remark_on, start_s, table
from mlscale_paper.results import filled
from synthetic_runs import Shape, make_run


def test_the_documents_say_what_the_published_runs_say() -> None:
    for file, text in documents().items():
        document = places.checkout() / file
        assert filled(document, "ray-start", text) == document.read_text(), file


def test_the_published_pairs_differ_in_the_package_alone() -> None:
    runs = published()
    for name, run in runs.items():
        other = runs[name.replace("without", "with")]
        assert run.info.valid, name
        assert (run.info.seed, run.info.schedule, run.info.scaling) == (
            other.info.seed,
            other.info.schedule,
            other.info.scaling,
        )


def test_a_later_start_is_found(tmp_path: Path) -> None:
    starts_s = {"without": 6.0, "with": 12.0}
    runs = {
        f"{arm}-{pair}": make_run(tmp_path / f"{arm}-{pair}", seed=pair, shape=Shape(start_s=seconds))
        for arm, seconds in starts_s.items()
        for pair in (1, 2, 3)
    }
    assert start_s(runs["with-1"]) == pytest.approx(2 * start_s(runs["without-1"]), rel=0.2)
    rows = table(runs, 0.6)
    assert list(rows.index) == list(MEASURES)
    assert rows.loc["start_s", "ratio"] == pytest.approx(2.0, rel=0.2)
    assert rows.loc["mean_response_s", "ratio"] > 1


def test_it_is_said_where_published_runs_of_ray_serve_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(ray_start, "remark", said.append)
    own = make_run(tmp_path / "own", environment="rayserve")
    block = min((places.reference() / "core").iterdir())
    of_ray, other = (load_run(next(block.glob(f"*-{name}*")) / "attempt-0") for name in ("rayserve", "torchserve"))
    remark_on([own, other])
    assert said == []
    remark_on([own, of_ray])
    assert said == [f"{Correction(published()).sentence()}: METHOD, section 4."]


def test_shorter_starts_predict_the_runs_without_the_package() -> None:
    correction = Correction(published())
    assert correction.predicted_s == pytest.approx(correction.measured_s, rel=0.05)
    assert correction.shares == pytest.approx((0.64, 0.38), abs=0.01)


def test_the_correction_of_the_published_ratios() -> None:
    effects = Correction(published()).effects
    found = {
        (str(row["b"]), str(row["endpoint"])): [round(float(row[name]), 2) for name in ("ratio", "low", "high")]
        for _, row in effects["ratio"].iterrows()
    }
    assert found["k3s", "P1"] == [1.29, 1.14, 1.47]
    assert found["torchserve", "P1"] == [2.43, 2.01, 2.94]
    sooner_back = effects["ratio"].query("b == 'k3s' and endpoint == 'P3'").iloc[0]
    assert sooner_back["low"] < 1 < sooner_back["high"]
    assert not sooner_back["favours"]


def test_starts_that_take_no_longer_change_nothing() -> None:
    runs = list(published().values())
    rows = summarise(runs, 0.45)
    pd.testing.assert_frame_equal(corrected(runs, rows, 1.0), rows)


def test_shorter_starts_make_the_mean_shorter(tmp_path: Path) -> None:
    shapes = {seconds: Shape(start_s=seconds) for seconds in (24.0, 12.0)}
    late, early = (
        make_run(tmp_path / str(seconds), environment="rayserve", shape=shape) for seconds, shape in shapes.items()
    )
    rows = summarise([late, early], 0.6)
    shortened = corrected([late], rows[:1], start_s(late) / start_s(early))
    assert shortened["mean_response_s"].iloc[0] == pytest.approx(rows["mean_response_s"].iloc[1], rel=0.05)
