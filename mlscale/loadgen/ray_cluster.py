"""Connects to one of the user's Ray clusters."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Final

from mlscale.errors import MlscaleError

_CONNECT_S: Final = 5.0


def connected(address: str, runtime_env: Mapping[str, Any] | None = None) -> Any:
    """The module ray, connected to the cluster at ``address`` ("host:port"; "ray://host:port": by Ray Client; "local":
    a new one on this machine). ``runtime_env``: of its tasks and actors.

    Raises:
        MlscaleError: Ray is not installed, there is no cluster, or it did not start.
    """
    try:
        import ray
    except ImportError as error:
        raise MlscaleError("Ray is not installed", f"Ray at {address}", "pip install 'mlscale[rayserve]'") from error
    check_reachable(address)
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address=address, runtime_env=runtime_env, **options)
    except Exception as error:  # a bare one if its node is slow to start
        ray.shutdown()
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise MlscaleError(reason, f"Ray at {address}", "start Ray there, or omit it") from error
    return ray


def check_reachable(address: str) -> None:
    """Raise MlscaleError if nothing listens at "host:port": Ray would try for a minute, then end the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MlscaleError(f"can't connect: {reason}", f"Ray at {address}", "start Ray there, or omit it") from error
