"""``make test``: types and style, and all tests in four pytest processes.

Live tests mostly wait, those with the Kubernetes cluster most of all; so they have a process of their own, and what
only computes runs beside them, at lower priority. The first process's output is shown as it comes, the others' when
they have ended. The last lines say what was skipped, why, and the command that would run it, and sum up all.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import IO

ROOT = Path(__file__).parents[1]
# Tests that use no kernel objects that others count, and measure no time; two processes' share.
COMPUTING = (
    (
        "packages/aws/tests",
        "packages/codereader/tests",
        "packages/lab/tests",
        "paper/tests/test_advice_check.py",
        "paper/tests/test_design.py",
        "paper/tests/test_own_runs_compared.py",
        "paper/tests/test_plots_application.py",
        "paper/tests/test_plots_partition.py",
        "paper/tests/test_protocol.py",
        "paper/tests/test_publish.py",
        "paper/tests/test_ray_start.py",
        "paper/tests/test_results.py",
        "paper/tests/twin",
        "tests/analysis",
        "tests/benchmarks",
        "tests/docs",
        "tests/environments",
        "tests/hpa",
        "tests/plots",
        "tests/reporting",
        "tests/runs",
    ),
    ("packages/experiment/tests", "packages/twin/tests", "paper/tests/notebooks"),
)
# Tests of the cluster, and faults that mount and unmount: the tests of the cluster would find that. What needs no
# cluster comes first, since an idle one costs CPU.
CLUSTER = (
    "tests/campaign/test_campaign.py::test_faults_of_a_load_test_and_the_next_one_works",
    "tests/live/test_cluster.py",
    "tests/live/test_eks.py",
    "tests/live/test_k3s.py",
    "tests/live/test_k3s_failures.py",
    "tests/live/test_k3s_notebook.py",
    "tests/live/test_own_models.py::test_an_example_on_the_cluster",
    "tests/live/test_pasted_settings.py",
    "tests/live/test_zero.py",
)
# Threads of numpy and torch wait for one another by spinning, which costs CPU where processes outnumber the cores.
ONE_THREAD = ("env", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1")
# No test takes half as long while both processes run. Fixtures don't count: the first time, one builds Kubernetes.
HANGS_AFTER_S = 900
FIRST, LAST = ("failed", "error"), "warning"


def main() -> int:
    started_s = time.monotonic()
    globs = ("tests/*", "packages/*/tests", "paper/tests", "paper/tests/*")
    tested = {str(path.parent.relative_to(ROOT)) for folder in globs for path in ROOT.glob(f"{folder}/test_*.py")}
    beside = (CLUSTER, *COMPUTING)
    apart = {place for tests in beside for place in tests}
    others = tuple(sorted(tested - apart))
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in beside]
        style = stack.enter_context(tempfile.TemporaryFile())
        lint = subprocess.Popen(["make", "--no-print-directory", "lint"], cwd=ROOT, stdout=style, stderr=style)
        shown = start(others, subprocess.PIPE, ignored=tuple(apart))
        before = [(), *(("nice", "-n", "19", *ONE_THREAD) for _ in COMPUTING)]
        hidden = [start(tests, file, *words) for tests, file, words in zip(beside, files, before, strict=True)]
        forward_signals([lint, shown, *hidden])
        assert shown.stdout is not None
        reports = [b"".join(echoed(shown.stdout))]
        codes = [process.wait() for process in (lint, shown, *hidden)]
        for tests, file in zip(beside, files, strict=True):
            file.seek(0)
            reports.append(file.read())
            write(f"\nbeside them: {', '.join(tests)}\n".encode())
            write(reports[-1])
        style.seek(0)
        write(b"\n" + style.read())
    lint_failed = " (make lint failed, see above)" if codes[0] else ""
    write("".join(f"not tested: {line}\n" for line in skipped(reports)).encode())
    write(f"{summary(reports, time.monotonic() - started_s)}{lint_failed}\n".encode())
    return max(map(abs, codes))


def start(
    tests: Sequence[str], output: int | IO[bytes], *before: str, ignored: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    options = ("-q", "--durations=20", f"--timeout={HANGS_AFTER_S}", "--override-ini=timeout_func_only=true")
    ignore = (f"--{'deselect' if '::' in place else 'ignore'}={place}" for place in ignored)
    argv = [*before, sys.executable, "-m", "pytest", *options, *ignore, *tests]
    return subprocess.Popen(argv, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def forward_signals(processes: list[subprocess.Popen[bytes]]) -> None:
    """SIGTERM goes to all, Ctrl-C reaches them by itself; either way this process waits for their teardown."""

    def terminate(signum: int, frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(signum)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, lambda *_: None)


def echoed(output: IO[bytes]) -> Iterator[bytes]:
    while piece := os.read(output.fileno(), 1 << 16):
        write(piece)
        yield piece


def write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def skipped(reports: list[bytes]) -> list[str]:
    """How many tests each reason left out, the most first."""
    counts: Counter[str] = Counter()
    for report in reports:
        for number, reason in re.findall(
            r"^SKIPPED \[(\d+)\] \S+: (.+)$", report.decode(errors="replace"), re.MULTILINE
        ):
            counts[reason] += int(number)
    return [f"{count} test{'s' * (count > 1)}: {reason}" for reason, count in counts.most_common()]


def summary(reports: list[bytes], took_s: float) -> str:
    """The reports' last lines added up to one, in pytest's format."""
    counts: Counter[str] = Counter()
    for report in reports:
        last = report.decode(errors="replace").rstrip().rpartition("\n")[2]
        for number, what in re.findall(r"(\d+) ([a-z]+)", last.partition(" in ")[0]):
            counts[what.removesuffix("s")] += int(number)
    words = sorted(counts, key=lambda what: (what not in FIRST, what == LAST, what))
    total = ", ".join(f"{counts[what]} {what}" for what in words) or "no tests ran"
    return f"{total} in {took_s:.0f}s"


if __name__ == "__main__":
    sys.exit(main())
