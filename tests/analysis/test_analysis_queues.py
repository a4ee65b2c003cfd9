"""Formulas of queueing theory against values from elsewhere, and against one another."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlscale.analysis.queues import (
    bounded_queue,
    closed_response_s,
    mg1_response_s,
    mmc_distribution,
    open_response_s,
    waiting_probability,
)


def test_values_from_the_tables() -> None:
    assert waiting_probability(1, 0.8) == pytest.approx(0.8)
    assert waiting_probability(3, 2.0) == pytest.approx(4 / 9)
    assert waiting_probability(4, 0.0) == 0.0
    assert waiting_probability(2, 1.0) == pytest.approx(1 / 3)
    assert waiting_probability(10, 8.0) == pytest.approx(0.4092, abs=1e-4), "Erlang C of 10 servers, 8 Erlang"
    assert open_response_s(1, 0.5, 1.0) == pytest.approx(2.0)
    assert open_response_s(2, 2.0, 1.0) == math.inf
    assert mg1_response_s(0.5, 1.0, 1.0) == pytest.approx(1.5), "M/D/1 waits half of what M/M/1 does"
    assert mg1_response_s(0.5, 1.0, 2.0) == pytest.approx(open_response_s(1, 0.5, 1.0))
    assert bounded_queue(0.5, 1) == pytest.approx((1 / 3, 1.0)), "no place to wait: Erlang B"


def test_a_closed_loop_at_its_ends() -> None:
    assert closed_response_s(1, 3, 2.0, 5.0) == pytest.approx(2.0), "alone"
    assert closed_response_s(200, 2, 1.0, 5.0) == pytest.approx(200 / 2 - 5.0, rel=1e-6), "saturated: N S / c - Z"


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_distributions_have_the_means_of_the_formulas(load: float) -> None:
    t = np.linspace(0, 15, 20_001)
    for shares, mean in (
        (mmc_distribution(t, 1, load), open_response_s(1, load, 1.0)),
        (mmc_distribution(t, 4, load), open_response_s(4, 4 * load, 1.0)),
    ):
        assert (np.diff(shares) >= -1e-9).all()
        tail = (1 - shares[-1]) / (1 - load)
        assert float(np.trapezoid(1 - shares, t)) + tail == pytest.approx(mean, rel=0.02)
    assert np.allclose(mmc_distribution(t, 2, 0.5), mmc_distribution(t, 2, 0.5 + 1e-9), atol=1e-6)
