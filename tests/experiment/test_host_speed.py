"""How fast the host is: a real photo set, decoded by a process of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from burner import APP, Burner, write_photos

from mlscale.experiment.host_speed import photo_cpu_s
from mlscale.experiment.measure import measure
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError

LOAD = Path(__file__).parents[2] / "data/photos/load"


def test_a_photo_takes_as_long_as_it_takes() -> None:
    assert 0.005 < photo_cpu_s(LOAD) < 1.0


def test_photos_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "photo-001.jpg").write_bytes(b"no photo")
    with pytest.raises(MlscaleError, match=re.escape(str(tmp_path))):
        photo_cpu_s(tmp_path)
    with pytest.raises(MlscaleError, match="the host's speed was not found"):
        photo_cpu_s(tmp_path / "nowhere")


def test_a_run_is_probed_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    seen: list[str] = []
    schedule = ClosedLoop(duration_s=1.0, stages=(ClosedStage(start_s=0, clients=1),), think_mean_s=0.02)
    looked = iter((0.03, 0.04))
    monkeypatch.setattr("mlscale.experiment.measure.photo_cpu_s", lambda _: next(looked))
    run = measure(
        Burner(), APP, schedule, photos=write_photos(tmp_path / "photos"), out=tmp_path / "run", idle_s=0.1,
        quiet_at_most_s=0.1, probe_host=True, progress=lambda what, _: seen.append(what),
    )  # fmt: skip
    assert run.info.host_photo_cpu_s == (0.03, 0.04)
    phases = list(dict.fromkeys(seen))
    assert phases.index("probing the host's speed") < phases.index("deploying")
