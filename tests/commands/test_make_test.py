"""The last lines of ``make test``: what was not tested, and the sum of all processes."""

from __future__ import annotations

from side_by_side import skipped, summary

FIRST = b"""\
=== short test summary info ===
SKIPPED [3] tests/live/conftest.py:43: no cluster is running: make cluster
SKIPPED [1] tests/hpa/test_hpa_oracle.py:25: not built here: make proof
12 passed, 4 skipped, 1 warning in 5.00s
"""
SECOND = b"""\
SKIPPED [2] tests/live/conftest.py:43: no cluster is running: make cluster
FAILED tests/a.py::test_b
1 failed, 7 passed, 2 skipped in 1.00s
"""


def test_reasons_are_added_up_over_processes() -> None:
    assert skipped([FIRST, SECOND]) == [
        "5 tests: no cluster is running: make cluster",
        "1 test: not built here: make proof",
    ]
    assert skipped([b"3 passed in 1.00s\n"]) == []


def test_the_last_line_counts_all_processes_as_pytest_does() -> None:
    assert summary([FIRST, SECOND], 9.2) == "1 failed, 19 passed, 6 skipped, 1 warning in 9s"
