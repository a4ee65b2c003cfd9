"""The command ``mlscale`` without its wait for a quiet host, a minute each time: beside other tests it never is."""

from __future__ import annotations

import sys
from typing import Final

import pytest

_PROGRAM: Final = """
import importlib
from mlscale.commands.entry import ended_by_ctrl_c
with ended_by_ctrl_c():
    measuring = importlib.import_module("mlscale.measurement.measure")
    wait = measuring.wait_until_quiet
    measuring.wait_until_quiet = lambda for_s, at_most_s: wait(for_s=0.1, at_most_s=0.1)
    from mlscale.commands.cli import main
main()
"""
# -P: as for an installed program, the working folder is not among the places that Python imports from.
MLSCALE: Final = (sys.executable, "-P", "-c", _PROGRAM)


def make_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in this process."""
    from mlscale.host.quiet import wait_until_quiet

    monkeypatch.setattr(
        "mlscale.measurement.measure.wait_until_quiet", lambda for_s, at_most_s: wait_until_quiet(0.1, 0.1, 0.1)
    )
