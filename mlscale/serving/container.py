"""What a container runs: ``python -m mlscale.serving.container``. Starts the same server as ``mlscale serve``.

Imports only the server, and parses arguments with argparse: a replica starts within its CPU quota, so importing Typer
would slow every cold start.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mlscale.errors import MlscaleError
from mlscale.serving.serve import serve_command


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; the exit code is `mlscale.serving.serve.serve`'s, 2 for what a user can fix."""
    parser = argparse.ArgumentParser(prog="python -m mlscale.serving.container", description=main.__doc__)
    parser.add_argument("--entry", required=True, help="package.module:factory")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--max-bytes", type=int, default=10_000_000, help="larger bodies are refused")
    parser.add_argument("--waiting", type=int, default=100, help="requests that may queue; more are answered 503")
    parser.add_argument("--body-timeout", type=float, default=20.0, help="seconds allowed for receiving a body")
    parser.add_argument("--drain", type=float, default=20.0, help="seconds allowed to finish requests after SIGTERM")
    parser.add_argument("--warm-up", type=Path, help="file with the body of the warm-up request")
    parser.add_argument("--component", default="", help="this component's name, if it calls others")
    parser.add_argument("--call", action="append", default=[], help="NAME=URL of a component that it calls; repeatable")
    parser.add_argument(
        "--in-flight-window", type=float, default=1.6, help="s that mlscale_in_flight_mean averages over"
    )
    given = parser.parse_args(argv)
    try:
        return serve_command(
            given.host,
            given.port,
            given.entry,
            given.max_bytes,
            given.waiting,
            given.body_timeout,
            given.drain,
            given.warm_up,
            given.component,
            dict(_named(text) for text in given.call),
            given.in_flight_window,
        )
    except MlscaleError as error:
        sys.stderr.write(f"mlscale: {error}\n")
        return 2


def _named(text: str) -> tuple[str, str]:
    name, equals, url = text.partition("=")
    if not (name and equals and url.startswith("http://")):
        raise MlscaleError(f"{text!r} is not NAME=URL", "--call", "write, for example, readers=http://HOST:PORT/decode")
    return name, url


if __name__ == "__main__":
    sys.exit(main())
