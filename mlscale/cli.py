"""The command line: thin. Parses, calls, prints; errors that a user can mend are one line and exit code 2.

Each command imports what it needs inside its function, so that ``mlscale --help`` is quick.
"""

from __future__ import annotations

import sys

import typer

from mlscale.runs.errors import MlscaleError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compare autoscaling frameworks for containerised machine-learning applications.",
)


@app.callback()
def _root() -> None:
    """Compare autoscaling frameworks for containerised machine-learning applications."""


def main() -> None:
    """Entry point of the command ``mlscale``."""
    try:
        app()
    except MlscaleError as error:
        print(f"mlscale: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
