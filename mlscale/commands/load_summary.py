"""What ``mlscale load`` prints at the end, and the thresholds that decide its exit code."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlscale.errors import MlscaleError
from mlscale.runs import ClosedLoop, Constant, Run, StimulusReport, Trace

THRESHOLD_MISSED: Final = 99
"""Exit code if a threshold is missed, as in k6 (errext/exitcodes, ThresholdsHaveFailed; v0.50.0)."""
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
_FIGURES: Final = ("mean", "sd", *_QUANTILES, "failed", "rps")


@dataclass(frozen=True)
class Threshold:
    """A condition on a run: ``figure`` is mean, sd, a quantile or max of the response in s (a failure counts as the
    timeout), failed (share of requests) or rps (right answers per second)."""

    text: str
    figure: str
    holds: Callable[[float], bool]

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """From "p95<0.5".

        Raises:
            MlscaleError: it is not a threshold.
        """
        parts = re.fullmatch(r"\s*([\w.]+)\s*(<=|>=|<|>)\s*(\d+\.?\d*|\.\d+)\s*", text)
        if parts is None or parts[1] not in _FIGURES:
            figures = ", ".join(_FIGURES)
            raise MlscaleError(f"{text!r} is not a threshold", "--threshold", f"write p95<0.5, say; of: {figures}")
        compare, limit = _COMPARISONS[parts[2]], float(parts[3])
        return cls(text.strip(), parts[1], lambda value: compare(value, limit))


def missed(run: Run, thresholds: Sequence[Threshold]) -> list[str]:
    """A line for each threshold that the run misses, and one if the load was stopped or has no right answer at all."""
    figures, report = _figures(run), run.info.stimulus
    lines = [] if figures["rps"] > 0 else ["no request was answered correctly"]
    if report is not None and report.aborted:
        lines.append(f"the load was stopped before its end: {report.aborted}")
    for threshold in thresholds:
        value = figures[threshold.figure]
        if not threshold.holds(value):
            lines.append(f"threshold {threshold.text} is missed: {threshold.figure} is {value:.4g}")
    return lines


def summary_json(run: Run) -> str:
    """The figures that thresholds are about (null without any request), whether the run is valid, and where it is."""
    figures = {name: None if np.isnan(value) else value for name, value in _figures(run).items()}
    return json.dumps({"run": str(run.path), **figures, "valid": run.info.valid})


def summary_table(run: Run) -> str:
    """What was requested, sent and answered, and whether the run is valid; one line each. Also of an incomplete run."""
    rows = list(_rows(run))
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)


@dataclass(frozen=True)
class _Answers:
    """``response_s``, ``ok``: (n,) of every request; ``failures``: number by status."""

    response_s: npt.NDArray[np.float64]
    ok: npt.NDArray[np.bool_]
    failures: Mapping[str, int]

    @classmethod
    def read(cls, run: Run) -> _Answers:
        columns, sealed = ["intended_s", "done_s", "status"], run.path / "requests.parquet"
        requests = (
            pq.read_table(sealed, columns=columns)
            if sealed.exists()
            else pa.Table.from_pandas(run.requests[columns], preserve_index=False)
        )
        counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(requests["status"]).to_pylist()}
        counts.pop("ok", None)
        return cls(
            pc.subtract(requests["done_s"], requests["intended_s"]).to_numpy(),
            pc.equal(requests["status"], "ok").to_numpy(zero_copy_only=False),
            counts,
        )


def _figures(run: Run) -> dict[str, float]:
    answers = _Answers.read(run)
    response_s = np.where(answers.ok, answers.response_s, run.info.timeout_s)
    some = len(response_s) > 0
    nan = float("nan")
    return {
        "mean": float(response_s.mean()) if some else nan,
        "sd": float(response_s.std()) if some else nan,
        **{name: float(np.quantile(response_s, share)) if some else nan for name, share in _QUANTILES.items()},
        "failed": float((~answers.ok).mean()) if some else nan,
        "rps": float(answers.ok.sum() / run.info.schedule.duration_s),
    }


def _rows(run: Run) -> Iterator[tuple[str, str]]:
    report, answers = run.info.stimulus, _Answers.read(run)
    yield "requested", _requested(run)
    if report is not None:
        yield from _sent(run, report)
    yield from _answered(run, answers)
    listed = ", ".join(f"{status} {number:,}" for status, number in sorted(answers.failures.items()))
    share = f" ({(~answers.ok).mean():.2%} of requests)" if answers.failures else ""
    yield "failures", (listed or "none") + share
    yield from _verdict(run, report)


def _requested(run: Run) -> str:
    schedule = run.info.schedule
    if isinstance(schedule, ClosedLoop):
        clients = " -> ".join(str(stage.clients) for stage in schedule.stages)
        return f"{clients} clients for {schedule.duration_s:g} s, think time {schedule.think_mean_s:g} s"
    match schedule.rate:
        case Constant(rate_rps=rate_rps):
            what = f"{rate_rps:g} requests/s, {schedule.arrivals} arrivals"
        case Trace(file=file, speed=speed, keep=keep):
            what = f"the trace {file}, speed {speed:g}, keep {keep:g}"
        case shape:
            what = f"{shape.shape}, {schedule.arrivals} arrivals"
    return f"{what}, for {schedule.duration_s:g} s"


def _sent(run: Run, report: StimulusReport) -> Iterator[tuple[str, str]]:
    schedule = run.info.schedule
    if isinstance(schedule, ClosedLoop):
        yield "sent", f"{report.sent:,} requests"
    else:
        yield "due", f"{report.due / schedule.duration_s:,.2f} requests/s ({report.due:,})"
        share = f", {report.sent / report.due:.2%} of it" if report.due else ""
        yield "delivered", f"{report.sent / schedule.duration_s:,.2f} requests/s ({report.sent:,}{share})"
    late = [report.lateness_p50_s, report.lateness_p99_s, report.lateness_max_s]
    yield "sent late by", "p50 {}, p99 {}, max {}".format(*map(_latency, late))
    if report.client_change_error_s is not None:
        yield "client count wrong for", f"at most {_latency(report.client_change_error_s)} after a change"
    yield "load generator", f"{report.load_cpu_cores:.2f} core, {report.workers} process(es)"


def _answered(run: Run, answers: _Answers) -> Iterator[tuple[str, str]]:
    ok, response_s = answers.ok, answers.response_s
    yield "correct answers", f"{ok.sum() / run.info.schedule.duration_s:,.2f} requests/s ({ok.sum():,})"
    if ok.any():
        yield "response (of those)", _response(response_s[ok])
        if not ok.all():
            censored = np.where(ok, response_s, run.info.timeout_s)
            numbers = "mean {}, sd {}".format(*map(_latency, (censored.mean(), censored.std())))
            yield "response (failures as timeouts)", numbers
    elif np.isfinite(response_s).any():
        yield "response (of failures)", _response(response_s[np.isfinite(response_s)])


def _response(response_s: npt.NDArray[np.float64]) -> str:
    numbers = [response_s.mean(), response_s.std(), *np.quantile(response_s, [0.5, 0.95, 0.99, 0.999])]
    return "mean {}, sd {}, p50 {}, p95 {}, p99 {}, p99.9 {}".format(*map(_latency, numbers))


def _verdict(run: Run, report: StimulusReport | None) -> Iterator[tuple[str, str]]:
    if report is not None and report.aborted:
        yield "aborted", report.aborted
    validity = run.info.validity
    if validity is not None:
        yield "valid", "yes" if validity.valid else "no: " + "; ".join(validity.reasons)
    yield "run", str(run.path) + ("" if run.info.complete else f" (incomplete: {run.info.incomplete_reason})")


def _latency(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 10 else f"{1000 * seconds:.2f} ms"
