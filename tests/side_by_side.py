"""All tests in two pytest processes: ``make test``.

Tests of something real mostly wait for it. Beside them, and behind them in priority, run those that only compute. The
first process is shown as it goes, the second when it has ended; the last line sums both up.
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
from pathlib import Path
from types import FrameType
from typing import IO

ROOT = Path(__file__).parents[1]
# Folders whose tests touch no kernel object that others count, and measure no time.
COMPUTING = (
    "packages/codereader/tests",
    "packages/twin/tests",
    "paper/tests/notebooks",
    "tests/analysis",
    "tests/plots",
    "tests/runs",
)
NOT_BY_DEFAULT = ("tests/proof",)
# No test's own part takes half as long with both processes at work. Fixtures don't count: the first time, one of them
# builds Kubernetes.
HANGS_AFTER_S = 900
FIRST, LAST = ("failed", "error"), "warning"


def main() -> int:
    started_s = time.monotonic()
    every = ("tests/*", "packages/*/tests", "paper/tests", "paper/tests/*")
    found = {str(path.parent.relative_to(ROOT)) for folder in every for path in ROOT.glob(f"{folder}/test_*.py")}
    folders = sorted(found - {*COMPUTING, *NOT_BY_DEFAULT})
    with tempfile.TemporaryFile() as report:
        waiting = start(folders, subprocess.PIPE)
        computing = start(COMPUTING, report, "nice", "-n", "19")
        pass_on([waiting, computing])
        assert waiting.stdout is not None
        lines = [b"".join(shown(waiting.stdout))]
        codes = [waiting.wait(), computing.wait()]
        report.seek(0)
        lines.append(report.read())
    say(f"\nbeside them: {', '.join(COMPUTING)}\n".encode())
    say(lines[-1])
    say(closing(lines, time.monotonic() - started_s).encode())
    return max(map(abs, codes))


def start(folders: Sequence[str], output: int | IO[bytes], *before: str) -> subprocess.Popen[bytes]:
    options = ("-q", "--durations=20", f"--timeout={HANGS_AFTER_S}", "--override-ini=timeout_func_only=true")
    argv = [
        *before,
        sys.executable,
        "-m",
        "pytest",
        *options,
        *(f"--ignore={folder}" for folder in COMPUTING if folder not in folders),
        *folders,
    ]
    return subprocess.Popen(argv, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def pass_on(processes: list[subprocess.Popen[bytes]]) -> None:
    """SIGTERM goes to both, Ctrl-C reaches them by itself; either way what they end with is waited for."""

    def both(signum: int, frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(signum)

    signal.signal(signal.SIGTERM, both)
    signal.signal(signal.SIGINT, lambda *_: None)


def shown(output: IO[bytes]) -> Iterator[bytes]:
    while piece := os.read(output.fileno(), 1 << 16):
        say(piece)
        yield piece


def say(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def closing(reports: list[bytes], took_s: float) -> str:
    """One line in pytest's own words for reports that each end with such a line."""
    counts: Counter[str] = Counter()
    for report in reports:
        last = report.decode(errors="replace").rstrip().rpartition("\n")[2]
        for number, what in re.findall(r"(\d+) ([a-z]+)", last.partition(" in ")[0]):
            counts[what.removesuffix("s")] += int(number)
    words = sorted(counts, key=lambda what: (what not in FIRST, what == LAST, what))
    total = ", ".join(f"{counts[what]} {what}" for what in words) or "no tests ran"
    return f"{total} in {took_s:.0f}s\n"


if __name__ == "__main__":
    sys.exit(main())
