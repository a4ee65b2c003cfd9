"""A profile on another host: two factors, for work and for starts, from calibrating runs there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlscale.runs import SCHEMAS, Run, load_run
from mlscale_twin.durations import Measured
from mlscale_twin.profile import read_profile
from mlscale_twin.simulate import SimulateOptions, simulate
from mlscale_twin.transfer import Speed, at_speed, pool_speeds, speed_of

CORE = Path(__file__).parents[3] / "data/reference/core"


@pytest.fixture(scope="module")
def published() -> list[Run]:
    runs = [load_run(folder) for folder in sorted(CORE.glob("*/*-torchserve*/attempt-*"))]
    return [run for run in runs if run.info.valid]


def test_a_host_is_as_fast_as_itself(published: list[Run]) -> None:
    assert speed_of(published, published, read_profile("torchserve")) == Speed(work=1.0, starts=1.0)
    single = speed_of(published[:1], published, read_profile("torchserve"))
    assert 0.8 < single.work < 1.25
    assert 0.7 < single.starts < 1.4


def test_the_speed_of_a_slower_host_is_recovered() -> None:
    """Runs of the twin at another speed, taken for live ones of another host, give that speed back."""
    profile, wanted = read_profile("torchserve"), Speed(work=1.3, starts=1.6)
    slow = [
        _live(simulate("torchserve", profile=at_speed(profile, wanted), options=SimulateOptions(draw=draw)))
        for draw in range(6)
    ]
    usual = [_live(simulate("torchserve", options=SimulateOptions(draw=draw))) for draw in range(6)]
    speed = speed_of(slow, usual, profile)
    assert speed.work == pytest.approx(wanted.work, rel=0.08)
    assert speed.starts == pytest.approx(wanted.starts, rel=0.1)


def _live(run: Run) -> Run:
    return Run.in_memory(run.info.model_copy(update={"mode": "live"}), {name: getattr(run, name) for name in SCHEMAS})


def test_only_work_and_starts_change() -> None:
    profile = read_profile("k3s")
    slow = at_speed(profile, Speed(work=2.0, starts=3.0))
    assert slow.work["app"].mean_s.value == 2 * profile.work["app"].mean_s.value
    for before, after in zip(profile.starts.steps, slow.starts.steps, strict=True):
        assert isinstance(before.takes, Measured)
        assert isinstance(after.takes, Measured)
        assert after.takes.mean_s == pytest.approx(3 * before.takes.mean_s)
    assert slow.starts.noticed == profile.starts.noticed
    assert slow.loop == profile.loop
    assert at_speed(profile, Speed(work=1.0, starts=1.0)).sha256 == profile.sha256


def test_environments_of_one_host_are_pooled() -> None:
    assert pool_speeds([Speed(work=1.0, starts=2.0), Speed(work=4.0, starts=0.5)]) == Speed(work=2.0, starts=1.0)
