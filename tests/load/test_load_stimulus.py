"""What was sent against what was due: numbers that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlscale.loadgen.stimulus import LogHistogram, Summary, Tally, client_change_error_s, merge
from mlscale.runs import ClosedLoop, ClosedStage, Constant, OpenLoop

OPEN = OpenLoop(duration_s=60, rate=Constant(rate_rps=10))
CLOSED = ClosedLoop(
    duration_s=30,
    stages=(
        ClosedStage(start_s=0, clients=2),
        ClosedStage(start_s=10, clients=4),
        ClosedStage(start_s=20, clients=1),
    ),
)


def summary(tally: Tally, **changes: object) -> Summary:
    return tally.summary(cpu_s=1.0, wall_s=4.0, aborted=None).model_copy(update=changes)


def test_quantiles_of_the_histogram_are_within_its_bins() -> None:
    values = np.random.default_rng(1).lognormal(-7, 1.5, 20_000)
    histogram = LogHistogram()
    for part in np.array_split(values, 17):
        histogram.add(part)
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert histogram.quantile(share) == pytest.approx(exact, rel=0.006)
    assert histogram.largest == values.max()
    assert histogram.quantile(1.0) <= values.max()
    assert math.isnan(LogHistogram().quantile(0.5))


def test_values_beyond_the_histogram_are_counted_at_its_ends() -> None:
    histogram = LogHistogram()
    histogram.add(np.array([0.0, -1e-9, 1e9]))
    assert histogram.counts.sum() == 3
    assert histogram.largest == 1e9
    assert histogram.quantile(0.5) == pytest.approx(1e-6, rel=0.01)


def test_windows_of_due_and_sent() -> None:
    tally = Tally(OPEN)
    intended = np.arange(0, 15, 0.1) + 0.01
    sent = intended + 0.001
    sent[60:65] += 20  # five of the second window's fifty are sent two windows late
    sent[49] = 5.05  # due at the first window's very end: sent at once counts
    tally.add(intended[:80], sent[:80], np.zeros(80), ["ok"] * 80)
    tally.add(intended[80:], sent[80:], np.zeros(70), ["ok"] * 69 + ["unfinished"])
    report = merge([summary(tally)])
    assert (report.due, report.sent, report.finished) == (150, 150, 149)
    assert report.worst_window is not None
    assert report.worst_window.model_dump() == {"start_s": 5.0, "due": 50, "sent": 45}
    assert report.lateness_p50_s == pytest.approx(0.001, rel=0.006)
    assert report.lateness_max_s == pytest.approx(20.001)
    assert report.load_cpu_cores == 0.25
    assert report.client_change_error_s is None


def test_what_was_due_and_never_sent_shows() -> None:
    tally = Tally(OPEN)
    tally.add(np.array([0.5]), np.array([0.5]), np.zeros(1), ["ok"])
    tally.add_unsent(np.array([1.0, 2.0, 6.0]))
    report = merge([summary(tally, aborted="too slow")])
    assert (report.due, report.sent) == (4, 1)
    assert report.worst_window is not None
    assert report.worst_window.model_dump() == {"start_s": 5.0, "due": 1, "sent": 0}
    assert report.aborted == "too slow"


def test_merged_reports_of_parts_are_the_report_of_the_whole() -> None:
    rng = np.random.default_rng(2)
    intended = np.sort(rng.uniform(0, 60, 999))
    sent = intended + rng.exponential(0.001, 999)
    whole = Tally(OPEN)
    whole.add(intended, sent, np.zeros(999), ["ok"] * 999)
    parts = []
    for worker in range(3):
        part = Tally(OPEN)
        part.add(intended[worker::3], sent[worker::3], np.zeros(333), ["ok"] * 333)
        parts.append(Summary.model_validate_json(summary(part).model_dump_json()))
    merged, single = merge(parts), merge([summary(whole)])
    assert merged.model_copy(update={"workers": 1, "load_cpu_cores": 0}) == single.model_copy(
        update={"load_cpu_cores": 0}
    )
    assert merged.load_cpu_cores == pytest.approx(3 * single.load_cpu_cores)


def test_nothing_sent_has_no_lateness() -> None:
    report = merge([summary(Tally(OPEN))])
    assert math.isnan(report.lateness_p99_s)
    assert report.worst_window is None


@pytest.mark.parametrize(
    ("intended", "sent", "client", "error_s"),
    [
        (0.0, 0.001, 0, 0.001),  # joins at the start
        (10.0, 10.3, 3, 0.3),  # joins at the step, late
        (10.0, 10.3, 1, 0.0),  # was there before: just a late request
        (19.99, 20.05, 2, 0.05),  # sends after it has left
        (19.99, 20.05, 0, 0.0),  # stays
        (29.99, 30.01, 0, 0.01),  # sends after the schedule's end
        (12.0, 12.5, 3, 0.0),
    ],
)
def test_how_long_clients_differed_after_a_change(intended: float, sent: float, client: int, error_s: float) -> None:
    found = client_change_error_s(CLOSED, np.array([intended]), np.array([sent]), np.array([client]))
    assert found == pytest.approx(error_s, abs=1e-12)


def test_closed_loops_report_it_and_have_no_windows() -> None:
    tally = Tally(CLOSED)
    tally.add(np.array([0.0, 10.0]), np.array([0.01, 10.02]), np.array([0, 3]), ["ok", "ok"])
    report = merge([summary(tally)])
    assert report.client_change_error_s == pytest.approx(0.02)
    assert report.worst_window is None
