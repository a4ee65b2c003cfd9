"""Where CI is set, a live capability that is missing is a failure, not a skip."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest

# Reasons that stay skips in CI: photographs and traces that are not part of the project; a host without root.
_MAY_SKIP_IN_CI = ("measuring only", "no cluster can be made here")

# Processes that a shell starts in the background inherit that SIGINT is ignored; tests that send it would wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(allowed in reason for allowed in _MAY_SKIP_IN_CI):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: skipped where CI is true: {reason}"
    return report
