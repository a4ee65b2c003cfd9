"""The table that ``mlscale load`` prints at the end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlscale.runs import ClosedLoop, Constant, Run, StimulusReport


def outcome_table(run: Run) -> str:
    """What was requested, sent and answered, and whether the run is valid; one line each."""
    rows = list(_rows(run))
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)


def _rows(run: Run) -> Iterator[tuple[str, str]]:
    report = run.info.stimulus
    assert report is not None
    columns = ["intended_s", "done_s", "status"]
    requests = pq.read_table(run.path / "requests.parquet", columns=columns)
    response_s = pc.subtract(requests["done_s"], requests["intended_s"]).to_numpy()
    ok = pc.equal(requests["status"], "ok").to_numpy(zero_copy_only=False)
    yield from _sent(run, report)
    yield from _answered(run, response_s, ok)
    failures = {entry["values"]: entry["counts"] for entry in pc.value_counts(requests["status"]).to_pylist()}
    failures.pop("ok", None)
    listed = ", ".join(f"{status} {number:,}" for status, number in sorted(failures.items()))
    share = f" ({sum(failures.values()) / len(ok):.2%} of requests)" if failures else ""
    yield "failures", (listed or "none") + share
    yield from _verdict(run, report)


def _sent(run: Run, report: StimulusReport) -> Iterator[tuple[str, str]]:
    schedule = run.info.schedule
    if isinstance(schedule, ClosedLoop):
        clients = " -> ".join(str(stage.clients) for stage in schedule.stages)
        yield "requested", f"{clients} clients for {schedule.duration_s:g} s, think time {schedule.think_mean_s:g} s"
        yield "sent", f"{report.sent:,} requests"
    else:
        rate = f"{schedule.rate.rate_rps:g} requests/s" if isinstance(schedule.rate, Constant) else schedule.rate.shape
        yield "requested", f"{rate}, {schedule.arrivals} arrivals, for {schedule.duration_s:g} s"
        yield "due", f"{report.due / schedule.duration_s:,.2f} requests/s ({report.due:,})"
        share = f", {report.sent / report.due:.2%} of it" if report.due else ""
        yield "delivered", f"{report.sent / schedule.duration_s:,.2f} requests/s ({report.sent:,}{share})"
    late = [report.lateness_p50_s, report.lateness_p99_s, report.lateness_max_s]
    yield "sent late by", "p50 {}, p99 {}, max {}".format(*map(_latency, late))
    if report.client_change_error_s is not None:
        yield "client count wrong for", f"at most {_latency(report.client_change_error_s)} after a change"
    yield "load generator", f"{report.load_cpu_cores:.2f} core, {report.workers} process(es)"


def _answered(run: Run, response_s: np.ndarray, ok: np.ndarray) -> Iterator[tuple[str, str]]:  # type: ignore[type-arg]
    yield "correct answers", f"{ok.sum() / run.info.schedule.duration_s:,.2f} requests/s ({ok.sum():,})"
    if ok.any():
        correct = response_s[ok]
        numbers = [correct.mean(), correct.std(), *np.quantile(correct, [0.5, 0.95])]
        text = "mean {}, sd {}, p50 {}, p95 {}".format(*map(_latency, numbers))
        yield "response (of those)", text
    if not ok.all() and len(ok):
        censored = np.where(ok, response_s, run.info.timeout_s)
        numbers = [censored.mean(), censored.std()]
        yield "response (failures as timeouts)", "mean {}, sd {}".format(*map(_latency, numbers))


def _verdict(run: Run, report: StimulusReport) -> Iterator[tuple[str, str]]:
    if report.aborted:
        yield "aborted", report.aborted
    validity = run.info.validity
    if validity is not None:
        yield "valid", "yes" if validity.valid else "no: " + "; ".join(validity.reasons)
    yield "run", str(run.path)


def _latency(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 10 else f"{1000 * seconds:.2f} ms"
