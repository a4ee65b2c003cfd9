"""Entry point of the command ``mlscale``: while its modules are imported, Ctrl-C ends it without a traceback."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def main() -> None:
    """Import the command line and run it."""
    with ended_by_ctrl_c():
        from mlscale.commands.cli import main as run
    run()


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Within the block, Ctrl-C ends the process at once."""
    waiting = signal.getsignal(signal.SIGINT)
    if waiting is signal.default_int_handler:  # and not ignored, as in a shell's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, waiting)
