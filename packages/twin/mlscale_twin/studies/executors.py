"""Where simulations are executed: processes of this machine, or a Ray cluster; both behind the standard executor."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any, Final

from mlscale.errors import MlscaleError
from mlscale_twin.worker_processes import worker_processes

_CONNECT_S: Final = 5.0


class _RayExecutor(Executor):
    """Each call is a Ray task on one core."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self._ray.remote(num_cpus=1)(fn).remote(*args, **kwargs).future()
        return future


@contextmanager
def executor(address: str | None) -> Iterator[Executor]:
    """An executor for the block.

    Args:
        address: of a Ray cluster with this version of mlscale ("local": one started for it, or processes if it does
            not start); None: processes.

    Raises:
        MlscaleError: there is no Ray cluster at ``address``.
    """
    ray = None if address is None else _connected(address)
    if ray is None:
        with worker_processes() as processes:
            yield processes
        return
    try:
        yield _RayExecutor(ray)
    finally:
        ray.shutdown()


def _connected(address: str) -> Any | None:
    """Ray, connected to a cluster; None if a cluster of this machine's own did not start."""
    _check_reachable(address)
    import ray

    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # a bare one if its node is slow to start
        reason = (str(error).splitlines() or ["no reason given"])[0]
        if address != "local":
            raise MlscaleError(reason, f"Ray at {address}", "start Ray there, or omit the address") from error
        ray.shutdown()
        sys.stderr.write(f"mlscale: Ray did not start ({reason}); processes of this machine take its place\n")
        return None
    return ray


def _check_reachable(address: str) -> None:
    """Raise MlscaleError if nothing listens at "host:port": Ray would try for a minute, then end the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MlscaleError(f"can't connect: {reason}", f"Ray at {address}", "start Ray there, or omit --ray") from error
