"""Entry point of the command ``mlscale``: while its modules are imported, Ctrl-C ends it without a traceback."""

from __future__ import annotations

import signal


def main() -> None:
    """Import the command line and run it."""
    waiting = signal.getsignal(signal.SIGINT)
    if waiting is signal.default_int_handler:  # and not ignored, as in a shell's background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mlscale.cli import main as run

    signal.signal(signal.SIGINT, waiting)
    run()
