"""The command ``mlscale`` in the tests' own process: in one of its own, its imports alone take seconds."""

from __future__ import annotations

import io
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from mlscale.commands import cli


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def mlscale(*arguments: str) -> Finished:
    """``mlscale ARGUMENTS``; SIGTERM is handled afterwards as it was before."""
    before = signal.getsignal(signal.SIGTERM)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["mlscale", *arguments])
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            signal.signal(signal.SIGTERM, before)
    return Finished(int(ended.value.code or 0), out.getvalue(), err.getvalue())
