"""The parts of sigma_t^2: they sum to it, each finds its cause, and none is found where there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.formula.api import ols

from mlscale.analysis.moving import moving
from mlscale.analysis.variance import PARTS, split_variance, variance_parts
from synthetic_runs import requests_frame


def one_window(*given: np.ndarray) -> dict[str, float]:
    """The parts of a single window of all that is given."""
    return dict(split_variance(*given, [slice(0, len(given[0]))]).iloc[0])


def _window(seed: int, n: int, photo: float, replica: float, slope: float, noise: float) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, 5, n))
    photos, replicas = rng.integers(0, 12, n), rng.integers(0, 4, n)
    y = 0.2 + photo * (photos % 2 * 2 - 1) + replica * (replicas % 2 * 2 - 1) + slope * (t - 2.5)
    return t, y + rng.normal(0, noise, n), photos, replicas


def test_parts_sum_to_the_total_exactly() -> None:
    found = one_window(*_window(0, 100, 0.01, 0.03, 0.02, 0.02))
    assert sum(found[part] for part in PARTS) == pytest.approx(found["total_s2"], rel=1e-10)
    assert found["total_s2"] == pytest.approx(float(np.var(_window(0, 100, 0.01, 0.03, 0.02, 0.02)[1])), rel=1e-12)


def test_a_balanced_window_gives_the_classical_analysis_of_variance() -> None:
    """Where causes are orthogonal, every way to take sums of squares agrees."""
    cells = [(photo, replica, again) for photo in range(6) for replica in range(4) for again in range(3)]
    photos, replicas, again = (np.array(column) for column in zip(*cells, strict=True))
    t = again.astype(float)
    y = 0.1 + 0.01 * photos + 0.02 * replicas**2 + 0.03 * t + np.random.default_rng(4).normal(0, 0.02, len(cells))
    frame = pd.DataFrame({"y": y, "t": t, "p": photos, "r": replicas})
    table = sm.stats.anova_lm(ols("y ~ t + C(p) + C(r)", frame).fit(), typ=2)
    noise = table["sum_sq"]["Residual"] / table["df"]["Residual"]
    found = one_window(t, y, photos, replicas)
    for part, term in (("trend_s2", "t"), ("bodies_s2", "C(p)"), ("between_replicas_s2", "C(r)")):
        expected = (table["sum_sq"][term] - table["df"][term] * noise) / len(y)
        assert found[part] == pytest.approx(expected, rel=1e-8), part


def test_a_strong_cause_does_not_leak_into_another() -> None:
    found = [one_window(*_window(seed, 80, 0.0, 0.05, 0.0, 0.01)) for seed in range(200)]
    photos = [float(one["bodies_s2"]) for one in found]
    assert abs(np.mean(photos)) < 4 * np.std(photos) / np.sqrt(len(photos))


def test_causes_that_coincide_are_not_split() -> None:
    t, y, photos, _ = _window(1, 60, 0.0, 0.0, 0.0, 0.1)
    assert not one_window(t, y, photos, photos)["split"]


def test_parts_without_a_cause_are_zero_on_average() -> None:
    found = [one_window(*_window(seed, 60, 0.0, 0.0, 0.0, 0.05)) for seed in range(300)]
    for part in ("bodies_s2", "between_replicas_s2", "trend_s2"):
        mean = np.mean([float(one[part]) for one in found])
        error = np.std([float(one[part]) for one in found]) / np.sqrt(len(found))
        assert abs(mean) < 4 * error, part
    within = np.mean([float(one["within_replicas_s2"]) for one in found])
    assert within == pytest.approx(0.05**2 * 59 / 60, rel=0.05)


@pytest.mark.parametrize(
    ("part", "given", "expected"),
    [
        ("bodies_s2", (0.03, 0.0, 0.0), 0.03**2),
        ("between_replicas_s2", (0.0, 0.03, 0.0), 0.03**2),
        ("trend_s2", (0.0, 0.0, 0.02), 0.02**2 * 25 / 12),
    ],
)
def test_each_part_finds_its_cause(part: str, given: tuple[float, float, float], expected: float) -> None:
    found = [one_window(*_window(seed, 100, *given, 0.01)) for seed in range(100)]
    assert np.mean([float(one[part]) for one in found]) == pytest.approx(expected, rel=0.1)


def test_not_split_where_over_five_percent_of_the_replicas_are_unknown() -> None:
    times = np.linspace(0, 4.99, 100)
    known = ["replica-1", "replica-2"] * 50
    at = [4.99]
    few = variance_parts(requests_frame(times, 0.1, replica_id=[""] * 5 + known[5:]), 5.0, at)
    many = variance_parts(requests_frame(times, 0.1, replica_id=[""] * 6 + known[6:]), 5.0, at)
    assert bool(few.split[0])
    assert not bool(many.split[0])
    assert np.isnan(many.bodies_s2[0])
    assert many.unknown_share[0] == pytest.approx(0.06)


def test_total_is_sigma_squared_of_the_same_window() -> None:
    rng = np.random.default_rng(5)
    frame = requests_frame(np.sort(rng.uniform(0, 20, 500)), rng.lognormal(-2, 0.4, 500))
    parts = variance_parts(frame, 5.0, [5.0, 10.0, 15.0, 20.0])
    sigma = moving(frame, 5.0, "intended", at_s=parts.t_s)
    np.testing.assert_allclose(parts.total_s2, sigma.sd_s**2, rtol=1e-9)


def test_too_few_requests_are_not_split() -> None:
    assert variance_parts(requests_frame([], 0.1), 5.0, []).empty
    few = variance_parts(requests_frame(np.arange(12) * 0.1, 0.1), 5.0, [1.2])
    assert few.n.tolist() == [12]
    assert not few.split.any()


def test_windows_with_few_requests_are_split_since_a_photo_has_one_effect_in_all() -> None:
    """24 photos and 30 requests a window, as of a saturated framework: a photo effect in each would leave no rest."""
    rng = np.random.default_rng(6)
    times, photos, replicas = np.sort(rng.uniform(0, 100, 600)), rng.integers(0, 24, 600), rng.integers(0, 2, 600)
    names = {"body_id": [f"p{k:02d}" for k in photos], "replica_id": [f"r{k}" for k in replicas]}
    causes = 0.5 + 0.02 * (photos % 2 * 2 - 1) + 0.06 * replicas
    ends = np.arange(5.0, 105.0, 5.0)
    found = [
        variance_parts(requests_frame(times, causes + rng.normal(0, 0.04, 600), **names), 5.0, ends) for _ in range(20)
    ]
    assert all(len(each) == 20 and each["split"].all() for each in found)
    parts = pd.concat(found)[list(PARTS)].mean()
    assert parts["bodies_s2"] == pytest.approx(0.02**2, rel=0.15)
    assert parts["between_replicas_s2"] == pytest.approx(0.03**2, rel=0.1)
    assert parts["within_replicas_s2"] == pytest.approx(0.04**2, rel=0.1)
    assert parts["trend_s2"] == pytest.approx(0.0, abs=4e-5)
